"""One module per command, each with ``main(argv)``; tools/*.py and ``paddle-tk`` only call them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = (
    "compare",
    "dataset",
    "decide",
    "doctor",
    "estimate_memory",
    "eval",
    "export",
    "monitor",
    "optimize_for_edge",
    "predict",
    "quantize",
    "train",
    "validate",
)


def main(argv: Sequence[str] | None = None) -> int:
    """``paddle-tk COMMAND ...``: runs one of the commands; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: paddle-tk {{{','.join(COMMANDS)}}} ...\n\npaddle-tk COMMAND --help tells more.")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: unknown command '{name}'. Fix: one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"paddle_tk.commands.{name}").main(rest))
