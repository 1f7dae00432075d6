"""``tools/dataset.py balance``: how unequal the classes are, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.dataset_shared import add_skip_unreadable, add_source, load_source
from paddle_tk.data.balance import ClassStatistics, class_statistics, recommend_for
from paddle_tk.data.check import FORMATS
from paddle_tk.pipelines.balance_plot import write_balance_plot

_DESCRIPTION = """Count the classes of a dataset's training split, and say what data.balance=auto would do about them.

  python tools/dataset.py balance --data coco128 --root coco128.zip
  python tools/dataset.py balance --from image_folder --root photos --plot classes.png --json classes.json"""
_MOST_ROWS = 40


def balance_action(argv: Sequence[str]) -> int:
    """``balance``: counts classes; returns the exit code."""
    parser = make_parser("tools/dataset.py balance", _DESCRIPTION)
    add_source(parser, FORMATS, registered="a registered dataset", own="the format of your own images")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="default: train")
    add_skip_unreadable(parser)
    parser.add_argument("--plot", type=Path, metavar="F", help="also draw the counts: .png, .svg or .pdf")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the counts as JSON")
    return run_command(parser, _balance, argv)


def _balance(arguments: argparse.Namespace, output: Output) -> int:
    bundle = load_source(arguments, output)
    split = bundle.splits[arguments.split]
    statistics = class_statistics(split, bundle.classes)
    method, reason = recommend_for(split, statistics)
    output.say(_table(statistics))
    if statistics.absent:
        output.say(f"without an image: {', '.join(statistics.absent)}")
    if arguments.plot is not None:
        write_balance_plot(statistics, arguments.plot)
        output.say(f"wrote {arguments.plot}")
    said = {
        "dataset": bundle.name,
        "split": arguments.split,
        **statistics.to_dict(),
        "recommendation": {"balance": method, "reason": reason},
    }
    output.json(arguments.json, said)
    output.result(
        f"{bundle.name} {arguments.split}: n={statistics.total} images, {len(statistics.classes)} classes, largest / "
        f"smallest {statistics.ratio:.3g}, evenness {statistics.evenness:.3f}; data.balance={method}: {reason}"
    )
    return EXIT_OK


def _table(statistics: ClassStatistics) -> Table:
    boxed = bool(statistics.boxes)
    columns = ("class", "images", "share", "effective number", *(("boxes",) if boxed else ()))
    table = Table(*columns, box=None, pad_edge=False)
    effective, total = statistics.effective(), max(1, statistics.total)
    order = sorted(range(len(statistics.classes)), key=lambda i: -statistics.images[i])
    shown = order if len(order) <= _MOST_ROWS else order[: _MOST_ROWS // 2] + order[-_MOST_ROWS // 2 :]
    if len(shown) < len(order):
        table.title = f"the {_MOST_ROWS // 2} largest and smallest of {len(order)} classes"
    for i in shown:
        count = statistics.images[i]
        more = (str(statistics.boxes[i]),) if boxed else ()
        table.add_row(statistics.classes[i], str(count), f"{count / total:.4f}", f"{effective[i]:.1f}", *more)
    return table
