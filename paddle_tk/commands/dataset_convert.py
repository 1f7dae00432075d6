"""``tools/dataset.py convert``: writes a detection dataset in another annotation format."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.shared import require_replaceable
from paddle_tk.data.convert import FORMATS, MADE_BY, RECORD, Conversion, convert
from paddle_tk.data.datasets import load_dataset
from paddle_tk.errors import BadInput
from paddle_tk.files import atomic_folder

_DESCRIPTION = """Write a detection dataset in another format, all splits, in the layout that format is published in.

  python tools/dataset.py convert --from voc --root VOCdevkit --to coco --output voc_coco
  python tools/dataset.py convert --data digits_detection --to yolo --output digits_yolo --json counts.json
  python tools/dataset.py convert --from coco --root boxes --to voc --output boxes_voc --link --lossy"""


def convert_action(argv: Sequence[str]) -> int:
    """``convert``: writes a detection dataset in another format; returns the exit code."""
    parser = make_parser("tools/dataset.py convert", _DESCRIPTION)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="NAME", help="a registered detection dataset")
    source.add_argument("--from", dest="data", choices=FORMATS, help="the format of your own boxes")
    parser.add_argument("--root", metavar="DIR", help="where it lies (default: $PADDLE_TK_HOME/datasets/NAME)")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format to write")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="D", help="a new folder, or an earlier conversion"
    )
    parser.add_argument("--link", action="store_true", help="hard links instead of copies of the images")
    parser.add_argument(
        "--lossy", action="store_true", help="give up crowd regions and difficult flags that the format cannot hold"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be decoded")
    parser.add_argument("--val-fraction", type=share, default=0.1, metavar="F", help="where no val is published")
    parser.add_argument("--test-fraction", type=share, default=0.2, metavar="F", help="where no test is published")
    parser.add_argument("--split-seed", type=int, default=0, metavar="N", help="of splits that are drawn (default: 0)")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the counts as JSON")
    return run_command(parser, _convert, argv)


def _convert(arguments: argparse.Namespace, output: Output) -> int:
    target = arguments.output.expanduser().resolve()
    require_apart(target, arguments.root)
    replaced = require_replaceable(target, _earlier_files(target), "conversion")
    bundle = load_dataset(
        arguments.data,
        root=arguments.root,
        val_fraction=arguments.val_fraction,
        test_fraction=arguments.test_fraction,
        split_seed=arguments.split_seed,
        skip_unreadable=arguments.skip_unreadable,
    )
    for remark in bundle.remarks:
        output.warn(remark)
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


def require_apart(target: Path, root: str | None) -> None:
    """Refuses to replace the dataset that is being read."""
    source = Path(root).expanduser().resolve() if root is not None else None
    if source is not None and (target == source or target in source.parents):
        raise BadInput(f"{target} is, or holds, the dataset that is read", "choose another --output")


def _earlier_files(folder: Path) -> frozenset[str] | None:
    """Returns the files an earlier conversion wrote into ``folder``, None where there was none."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        return frozenset(map(str, record["files"])) if record["made_by"] == MADE_BY else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def share(text: str) -> float:
    """Parses a share above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 1, got '{text}'")
    return value
