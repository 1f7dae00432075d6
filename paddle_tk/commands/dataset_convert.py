"""``tools/dataset.py convert``: writes a detection dataset in another annotation format."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.dataset_shared import (
    add_skip_unreadable,
    add_source,
    add_splits,
    earlier_files,
    load_source,
    require_apart,
)
from paddle_tk.commands.shared import require_replaceable
from paddle_tk.data.convert import FORMATS, MADE_BY, RECORD, Conversion, convert
from paddle_tk.files import atomic_folder

_DESCRIPTION = """Write a detection dataset in another format, all splits, in the layout that format is published in.

  python tools/dataset.py convert --from voc --root VOCdevkit --to coco --output voc_coco
  python tools/dataset.py convert --data digits_detection --to yolo --output digits_yolo --json counts.json
  python tools/dataset.py convert --from coco --root boxes --to voc --output boxes_voc --link --lossy"""


def convert_action(argv: Sequence[str]) -> int:
    """``convert``: writes a detection dataset in another format; returns the exit code."""
    parser = make_parser("tools/dataset.py convert", _DESCRIPTION)
    add_source(parser, FORMATS, registered="a registered detection dataset", own="the format of your own boxes")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format to write")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="D", help="a new folder, or an earlier conversion"
    )
    parser.add_argument("--link", action="store_true", help="hard links instead of copies of the images")
    parser.add_argument(
        "--lossy", action="store_true", help="give up crowd regions and difficult flags that the format cannot hold"
    )
    add_skip_unreadable(parser)
    add_splits(parser)
    parser.add_argument("--json", type=Path, metavar="F", help="also write the counts as JSON")
    return run_command(parser, _convert, argv)


def _convert(arguments: argparse.Namespace, output: Output) -> int:
    target = arguments.output.expanduser().resolve()
    require_apart(target, arguments.root)
    replaced = require_replaceable(target, earlier_files(target / RECORD, MADE_BY), "conversion")
    bundle = load_source(arguments, output)
    images = sum(len(split) for split in bundle.splits.values())
    with atomic_folder(target) as folder, output.progress(f"{bundle.name} to {arguments.to}", images) as advance:
        done = convert(bundle, folder, arguments.to, link=arguments.link, lossy=arguments.lossy, advance=advance)
    _report(done, output)
    output.json(
        arguments.json,
        {
            "dataset": bundle.name,
            "dataset_fingerprint": bundle.fingerprint,
            "output": str(arguments.output),
            **done.to_dict(),
            "skipped": list(bundle.skipped),
            "notes": list(bundle.notes),
        },
    )
    output.result(
        f"{bundle.name} as {arguments.to}: {images} images, {sum(done.boxes.values())} boxes, "
        f"{len(done.classes)} classes -> {arguments.output}" + (" (an earlier conversion was replaced)" * replaced)
    )
    return EXIT_OK


def _report(done: Conversion, output: Output) -> None:
    table = Table("split", "images", "boxes", box=None, pad_edge=False)
    for name, count in done.images.items():
        table.add_row(name, str(count), str(done.boxes[name]))
    output.say(table)
    told = {
        "crowd": "crowd region(s) left out",
        "difficult": "difficult flag(s) dropped",
        "areas": "mask area(s) dropped, those of the boxes take their place",
    }
    for what, count in done.lost.items():
        output.warn(f"{count} {told[what]}: {done.to} cannot hold them")
    if done.decimals:
        output.warn(f"{done.decimals} box(es) with a side below a pixel keep decimals, which not every reader expects")
