"""``tools/dataset.py shard`` and ``validate_shards``: a dataset as Parquet shards, and whether they are whole."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.dataset_shared import (
    add_skip_unreadable,
    add_source,
    add_splits,
    load_source,
    positive,
    require_apart,
)
from paddle_tk.commands.shared import require_replaceable
from paddle_tk.data.shard_check import ShardReport, check_shards, row_count
from paddle_tk.data.shard_index import INDEX, ShardIndex, parse_index
from paddle_tk.data.shard_jobs import ENGINES
from paddle_tk.data.shard_merge import merge_shards
from paddle_tk.data.shards import COMPRESSIONS, ORDERS, ShardSettings, write_shards
from paddle_tk.errors import CheckFailed, DataError
from paddle_tk.files import MIB, atomic_folder

_FOLDERS = ("image_folder", "coco", "voc", "yolo")
_SHOWN = 20

_SHARD = """Write a dataset as Parquet shards, all splits, images byte for byte, to be trained on as a stream.

  python tools/dataset.py shard --data cifar10 --output cifar_shards
  python tools/dataset.py shard --from coco --root boxes --output boxes_shards --compression zstd --workers 4
  python tools/dataset.py shard --from image_folder --root photos --output photos_shards --engine ray --workers 8
  python tools/train.py -c configs/resnet18.yaml data=shards data.root=cifar_shards"""

_VALIDATE = """Read shards whole: lengths, checksums, counts, labels, boxes, and every image decoded.

  python tools/dataset.py validate_shards --root cifar_shards --workers 4
  python tools/dataset.py validate_shards --root s3://bucket/photos_shards --engine ray --json report.json"""

_MERGE = """Make one dataset of several that lie side by side, each in a sub-folder; no shard is read or moved.

  python tools/dataset.py shard --from image_folder --root photos/2025 --output all/2025
  python tools/dataset.py shard --from image_folder --root photos/2026 --output all/2026
  python tools/dataset.py merge_shards --root all"""


def shard_action(argv: Sequence[str]) -> int:
    """``shard``: writes a dataset as Parquet shards; returns the exit code."""
    parser = make_parser("tools/dataset.py shard", _SHARD)
    add_source(parser, _FOLDERS, registered="a registered dataset", own="the format of your own images")
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="a new folder, or earlier shards")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rows-per-shard", type=positive(int), metavar="N", help="images of a shard")
    size.add_argument("--shard-mb", type=positive(float), default=128.0, metavar="M", help="MB of one (default: 128)")
    parser.add_argument(
        "--group-mb", type=positive(float), default=1.0, metavar="M", help="MB of a row group (default: 1)"
    )
    parser.add_argument("--compression", choices=COMPRESSIONS, default="snappy", help="of all columns")
    parser.add_argument(
        "--order", choices=ORDERS, default="shuffled", help="of the training images (default: shuffled)"
    )
    parser.add_argument("--order-seed", type=int, default=0, metavar="N", help="of the shuffled order (default: 0)")
    add_skip_unreadable(parser)
    add_splits(parser)
    _add_engine(parser)
    parser.add_argument("--json", type=Path, metavar="F", help="also write what was made as JSON")
    return run_command(parser, _shard, argv)


def validate_shards_action(argv: Sequence[str]) -> int:
    """``validate_shards``: checks shards; returns the exit code, 1 where something is wrong."""
    parser = make_parser("tools/dataset.py validate_shards", _VALIDATE)
    parser.add_argument("--root", required=True, metavar="D", help="the folder or URL of the shards")
    _add_engine(parser)
    parser.add_argument("--json", type=Path, metavar="F", help="also write the report as JSON")
    return run_command(parser, _validate, argv)


def merge_shards_action(argv: Sequence[str]) -> int:
    """``merge_shards``: writes an index over sub-folders of shards; returns the exit code."""
    parser = make_parser("tools/dataset.py merge_shards", _MERGE)
    parser.add_argument("--root", type=Path, required=True, metavar="D", help="the folder of the parts")
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="sub-folders (default: all that hold shards)")
    parser.add_argument("--json", type=Path, metavar="F", help="also write what was merged as JSON")
    return run_command(parser, _merge, argv)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=ENGINES, default="local", help="this machine, or Ray Data (default: local)")
    parser.add_argument("--workers", type=positive(int), default=1, metavar="N", help="processes (default: 1)")


def _shard(arguments: argparse.Namespace, output: Output) -> int:
    target = arguments.output.expanduser().resolve()
    require_apart(target, arguments.root)
    replaced = require_replaceable(target, _earlier_files(target), "set of shards")
    settings = ShardSettings(
        shard_mb=arguments.shard_mb,
        rows_per_shard=arguments.rows_per_shard,
        group_mb=arguments.group_mb,
        compression=arguments.compression,
        order=arguments.order,
        seed=arguments.order_seed,
    )
    bundle = load_source(arguments, output)
    images, began = sum(map(len, bundle.splits.values())), time.perf_counter()
    with atomic_folder(target) as folder, output.progress(f"{bundle.name} to shards", images) as advance:
        index = write_shards(
            bundle, folder, settings, engine=arguments.engine, workers=arguments.workers, advance=advance
        )
    _tell(index, output)
    seconds = time.perf_counter() - began
    size = sum(shard.size_bytes for shards in index.splits.values() for shard in shards)
    output.json(
        arguments.json,
        {
            "dataset": bundle.name,
            "dataset_fingerprint": bundle.fingerprint,
            "output": str(arguments.output),
            "images": images,
            "bytes": size,
            "shards": {name: len(shards) for name, shards in index.splits.items()},
            "content_sha256": index.content_sha256,
            "seconds": seconds,
            "images_per_second": images / seconds,
            "engine": arguments.engine,
            "workers": arguments.workers,
            "origin": "measured",
            "skipped": list(bundle.skipped),
            "notes": list(bundle.notes),
        },
    )
    output.result(
        f"{bundle.name} as shards: {images} images, {size / MIB:.1f} MB in {seconds:.1f} s "
        f"-> {arguments.output}" + (" (earlier shards were replaced)" * replaced)
    )
    return EXIT_OK


def _validate(arguments: argparse.Namespace, output: Output) -> int:
    images = row_count(arguments.root)
    with output.progress("checking shards", images) as advance:
        report = check_shards(arguments.root, engine=arguments.engine, workers=arguments.workers, advance=advance)
    output.json(arguments.json, {"root": arguments.root, **report.to_dict()})
    if not report.good:
        _tell_problems(report, output)
        wrong = len({shard for shard, _ in report.problems} | set(report.extra))
        raise CheckFailed(
            f"{wrong} file(s) of {arguments.root} are not as their index says",
            "copy those shards again, or write them again with python tools/dataset.py shard",
        )
    output.result(
        f"{arguments.root}: {report.shards} shards, {report.decoded} images decoded, "
        f"{report.size_bytes / MIB:.1f} MB, nothing wrong"
    )
    return EXIT_OK


def _merge(arguments: argparse.Namespace, output: Output) -> int:
    root = arguments.root.expanduser()
    index = merge_shards(root, arguments.parts)
    _tell(index, output)
    parts = {shard.file.partition("/")[0] for shards in index.splits.values() for shard in shards}
    output.json(
        arguments.json,
        {
            "root": str(root),
            "parts": sorted(parts),
            "images": {name: sum(shard.rows for shard in shards) for name, shards in index.splits.items()},
            "content_sha256": index.content_sha256,
        },
    )
    output.result(f"{root}: one dataset of {len(parts)} parts; train on it with data=shards data.root={root}")
    return EXIT_OK


def _tell(index: ShardIndex, output: Output) -> None:
    table = Table("split", "shards", "row groups", "images", "boxes", "MB", box=None, pad_edge=False)
    for name, shards in index.splits.items():
        table.add_row(
            name,
            str(len(shards)),
            str(sum(len(shard.groups) for shard in shards)),
            str(sum(shard.rows for shard in shards)),
            str(sum(shard.boxes for shard in shards)),
            f"{sum(shard.size_bytes for shard in shards) / MIB:.1f}",
        )
    output.say(table)


def _tell_problems(report: ShardReport, output: Output) -> None:
    lines = [f"{shard}: {problem}" for shard, problem in report.problems]
    lines += [f"{name}: the index does not know it" for name in report.extra]
    for line in lines[:_SHOWN]:
        output.warn(line)
    if len(lines) > _SHOWN:
        output.warn(f"and {len(lines) - _SHOWN} more; --json F has all of them")


def _earlier_files(folder: Path) -> Sequence[str] | None:
    """Returns the files of earlier shards in ``folder``, None where there are none."""
    try:
        return parse_index((folder / INDEX).read_bytes(), os.fspath(folder / INDEX)).files
    except (OSError, DataError):
        return None
