"""``tools/dataset.py``: work on datasets, an action each in a module of its own."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence

from paddle_tk.cli import Output, make_parser, run_command
from paddle_tk.errors import BadInput

_DESCRIPTION = """Work on datasets; each action has a --help of its own.

  python tools/dataset.py info
  python tools/dataset.py setup coco128
  python tools/dataset.py clean coco128
  python tools/dataset.py convert --data digits_detection --to yolo --output digits_yolo
  python tools/dataset.py validate --from yolo --root my_yolo --fix
  python tools/dataset.py mini --data cifar10 --samples 50 --val 0.2 --output mini
  python tools/dataset.py balance --data coco128 --plot classes.png
  python tools/dataset.py shard --data cifar10 --output cifar_shards
  python tools/dataset.py validate_shards --root cifar_shards"""

# Action to the module of its ``<action>_action(argv)``, which is imported on use: some need libraries of their own.
_ACTIONS: Mapping[str, str] = {
    "info": "dataset_fetch",
    "setup": "dataset_fetch",
    "clean": "dataset_fetch",
    "balance": "dataset_balance",
    "convert": "dataset_convert",
    "mini": "dataset_mini",
    "validate": "dataset_check",
    "shard": "dataset_shards",
    "validate_shards": "dataset_shards",
    "merge_shards": "dataset_shards",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in _ACTIONS:
        action, *rest = arguments
        module = importlib.import_module(f"paddle_tk.commands.{_ACTIONS[action]}")
        return int(getattr(module, f"{action}_action")(rest))
    parser = make_parser("tools/dataset.py", _DESCRIPTION)
    parser.add_argument("action", choices=sorted(_ACTIONS), help="what to do; it comes first, its options after it")
    return run_command(parser, _misplaced, arguments)


def _misplaced(arguments: argparse.Namespace, _: Output) -> int:
    raise BadInput(f"options came before '{arguments.action}'", f"python tools/dataset.py {arguments.action} OPTIONS")


if __name__ == "__main__":
    sys.exit(main())
