"""``tools/dataset.py mini``: writes a small, stratified share of a dataset as a dataset of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.dataset_shared import (
    add_skip_unreadable,
    add_source,
    earlier_files,
    load_source,
    require_apart,
    share,
)
from paddle_tk.commands.shared import at_least_one, require_replaceable
from paddle_tk.data.check import FORMATS
from paddle_tk.data.subset import MADE_BY, RECORD, write_mini
from paddle_tk.files import atomic_folder

_DESCRIPTION = """Write a small dataset: seeded, stratified, every class kept where that is possible, in the same format
(datasets that are held in memory, such as cifar10, become an image folder).

  python tools/dataset.py mini --data cifar10 --samples 50 --val 0.2 --output mini
  python tools/dataset.py mini --from coco --root my_coco --samples 200 --val 0.2 --output mini_coco
  python tools/train.py -c configs/picodet.yaml trainer=small_data data=coco data.root=mini_coco"""


def mini_action(argv: Sequence[str]) -> int:
    """``mini``: writes a small dataset; returns the exit code."""
    parser = make_parser("tools/dataset.py mini", _DESCRIPTION)
    add_source(parser, FORMATS, registered="a registered dataset", own="the format of your own images")
    parser.add_argument("--samples", type=at_least_one, default=50, metavar="N", help="images in all (default: 50)")
    parser.add_argument("--val", type=share, default=0.2, metavar="F", help="share to validate with (default: 0.2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="a new folder, or an earlier mini set")
    add_skip_unreadable(parser)
    parser.add_argument("--json", type=Path, metavar="F", help="also write what was written as JSON")
    return run_command(parser, _mini, argv)


def _mini(arguments: argparse.Namespace, output: Output) -> int:
    target = arguments.output.expanduser().resolve()
    require_apart(target, arguments.root)
    replaced = require_replaceable(target, earlier_files(target / RECORD, MADE_BY), "mini set")
    bundle = load_source(arguments, output)
    with atomic_folder(target) as folder, output.progress(f"{bundle.name}, mini", arguments.samples) as advance:
        done = write_mini(
            bundle, folder, samples=arguments.samples, val_share=arguments.val, seed=arguments.seed, advance=advance
        )
    if done.absent:
        output.warn(f"{len(done.absent)} of {len(done.classes)} classes lost their training images: raise --samples")
    output.json(arguments.json, {"dataset": bundle.name, "output": str(arguments.output), **done.to_dict()})
    output.say(f"train on it: data={done.format} data.root={arguments.output} trainer=small_data")
    counts = ", ".join(f"{name} {count}" for name, count in done.images.items())
    output.result(
        f"{bundle.name}, mini as {done.format}: {counts}, {len(done.classes)} classes -> {arguments.output}"
        + (" (an earlier mini set was replaced)" * replaced)
    )
    return EXIT_OK
