"""Options and checks that the actions of ``tools/dataset.py`` share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from paddle_tk.console import Output
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.errors import BadInput


def add_source(parser: argparse.ArgumentParser, formats: Sequence[str], *, registered: str, own: str) -> None:
    """Adds ``--data`` or ``--from``, one of which is required, and ``--root``.

    Args:
        parser: Gets them.
        formats: What ``--from`` takes.
        registered: Help of ``--data``.
        own: Help of ``--from``.
    """
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="NAME", help=registered)
    source.add_argument("--from", dest="data", choices=formats, help=own)
    parser.add_argument("--root", metavar="DIR", help="where it lies (default: $PADDLE_TK_HOME/datasets/NAME)")


def add_skip_unreadable(parser: argparse.ArgumentParser) -> None:
    """Adds ``--skip-unreadable``."""
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out images that cannot be decoded")


def add_splits(parser: argparse.ArgumentParser) -> None:
    """Adds how splits are drawn where none is published."""
    parser.add_argument("--val-fraction", type=share, default=0.1, metavar="F", help="where no val is published")
    parser.add_argument("--test-fraction", type=share, default=0.2, metavar="F", help="where no test is published")
    parser.add_argument("--split-seed", type=int, default=0, metavar="N", help="of splits that are drawn (default: 0)")


def load_source(arguments: argparse.Namespace, output: Output) -> DatasetBundle:
    """Loads the dataset that the options name, and says its remarks.

    Raises:
        BadInput: It is unknown, not there or damaged.
    """
    bundle = load_dataset(
        arguments.data,
        root=arguments.root,
        val_fraction=getattr(arguments, "val_fraction", 0.1),
        test_fraction=getattr(arguments, "test_fraction", 0.2),
        split_seed=getattr(arguments, "split_seed", 0),
        skip_unreadable=arguments.skip_unreadable,
    )
    for remark in bundle.remarks:
        output.warn(remark)
    return bundle


def require_apart(target: Path, root: str | None) -> None:
    """Refuses to replace the dataset that is being read.

    Raises:
        BadInput: The target is, or holds, the source.
    """
    source = Path(root).expanduser().resolve() if root is not None else None
    if source is not None and (target == source or target in source.parents):
        raise BadInput(f"{target} is, or holds, the dataset that is read", "choose another --output")


def earlier_files(record: Path, made_by: str) -> frozenset[str] | None:
    """Returns the files that a record says an earlier run wrote, None where there is no such record."""
    try:
        found = json.loads(record.read_bytes())
        return frozenset(map(str, found["files"])) if found["made_by"] == made_by else None
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


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Returns a parser of numbers of a kind above 0."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < 1e12:
            raise argparse.ArgumentTypeError(f"must be above 0, got '{text}'")
        return value

    return parse
