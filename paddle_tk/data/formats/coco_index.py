"""A COCO dataset that was read before: its splits as columns, valid while annotations and images are the same."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL

from paddle_tk.data.boxes import Boxes, BoxTable, DetectionSplit
from paddle_tk.data.columns import Columns, index_path, keep_columns, open_columns
from paddle_tk.data.content import content_sha256
from paddle_tk.data.formats.detection_bundle import Annotated, content_digest
from paddle_tk.data.tables import Paths, Texts

_PROBED = 20
# Changes whenever other splits come out of the same files.
_VERSION = 1


class Source(NamedTuple):
    """One split: its annotation file and the folders its images may lie in."""

    file: Path
    folders: tuple[Path, ...]


class Listing(NamedTuple):
    """The images of one split as they lie on disk, in the order of the annotation file.

    Attributes:
        folder: Where they lie.
        names: Their names in that folder.
        rows: int64: which of them are readable.
        stats: int64, (n, 2): size in bytes and modification time in nanoseconds.
    """

    folder: Path
    names: Sequence[str]
    rows: np.ndarray
    stats: np.ndarray


def folder_of(source: Source, names: Sequence[str]) -> Path:
    """Returns the first folder that holds one of the first images, else the first that exists."""
    probed = names[:_PROBED]
    holding = [folder for folder in source.folders if any((folder / name).is_file() for name in probed)]
    return next(iter([*holding, *(f for f in source.folders if f.is_dir()), *source.folders]))


def read_before(
    root: Path, sources: Mapping[str, Source], known_faults: frozenset[int], *, skip_unreadable: bool
) -> Annotated | None:
    """Returns the dataset as an earlier run has found it, None where that cannot be said.

    An annotation file is the same when its SHA-256 is (see ``data/content.py`` for when that is computed), an image
    when path, size and modification time are. Every image is looked at, none is opened.
    """
    found = open_columns(index_path("coco-set", root))
    if found is None:
        return None
    try:
        if found.key != _key(sources, known_faults) or not found.whole():
            return None
    except OSError:
        return None
    listings = {split: _listing(found, split, source) for split, source in sources.items()}
    there = {split: listing for split, listing in listings.items() if listing is not None}
    if len(there) < len(sources) or found.meta["listing"] != _digest(listing.stats for listing in there.values()):
        return None
    restored = _restored(root, found, {split: listing.folder for split, listing in there.items()})
    return restored if skip_unreadable or not restored.skipped else None


def keep(
    found: Annotated,
    sources: Mapping[str, Source],
    listings: Mapping[str, Listing],
    known_faults: frozenset[int],
    digests: Mapping[str, str],
) -> Annotated:
    """Keeps a dataset for ``read_before`` and returns it as that would.

    Args:
        found: What was read.
        sources: From where.
        listings: Its images, readable or not.
        known_faults: As in ``read_before``.
        digests: SHA-256 of each split's annotation file, as it was read.
    """
    arrays: dict[str, np.ndarray] = {}
    for split, listing in listings.items():
        arrays |= _arrays(split, found.splits[split], listing)
    meta = {
        "folders": {split: os.fspath(listing.folder) for split, listing in listings.items()},
        "listing": _digest(listing.stats for listing in listings.values()),
        "classes": list(found.classes),
        "notes": list(found.notes),
        "content": content_digest(found),
    }
    kept = keep_columns(index_path("coco-set", found.root), _key(sources, known_faults, digests), arrays, meta)
    return _restored(found.root, kept, {split: listing.folder for split, listing in listings.items()})


def _key(
    sources: Mapping[str, Source], known_faults: frozenset[int], digests: Mapping[str, str] | None = None
) -> dict[str, Any]:
    known = {split: content_sha256(source.file) for split, source in sources.items()} if digests is None else digests
    return {
        "version": _VERSION,
        "decoders": [cv2.__version__, PIL.__version__],
        "sources": [[split, os.fspath(source.file), known[split]] for split, source in sources.items()],
        "known_faults": sorted(known_faults),
    }


def _arrays(split: str, images: DetectionSplit, listing: Listing) -> dict[str, np.ndarray]:
    names = Texts.of([str(PurePosixPath(name)) for name in listing.names])
    columns = {
        **names.columns("names"),
        "folder_of": np.zeros(len(names), np.int32),
        "rows": listing.rows,
        "sizes": images.sizes,
        "starts": images.annotations.starts,
        **{field.name: getattr(images.annotations.every, field.name) for field in fields(Boxes)},
    }
    return {f"{split}.{name}": column for name, column in columns.items()}


def _paths(found: Columns, split: str, folder: Path) -> Paths:
    place = os.fspath(folder)
    names = Texts.from_columns(found.arrays, f"{split}.names")
    return Paths(["" if place == "." else place], found[f"{split}.folder_of"], names)


def _listing(found: Columns, split: str, source: Source) -> Listing | None:
    names = Texts.from_columns(found.arrays, f"{split}.names")
    folder = folder_of(source, names)
    if os.fspath(folder) != found.meta["folders"].get(split):
        return None
    stats = _stats(_paths(found, split, folder))
    return None if stats is None else Listing(folder, names, found[f"{split}.rows"], stats)


def _stats(paths: Paths) -> np.ndarray | None:
    """Returns int64, (n, 2): size and modification time of every file, None where one is missing."""
    told: list[int] = []
    try:
        for path in paths:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return None
            told += (found.st_size, found.st_mtime_ns)
    except (OSError, ValueError):
        return None
    return np.array(told, np.int64).reshape(-1, 2)


def _digest(stats: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in stats:
        digest.update(f"{len(array)};".encode())
        digest.update(np.ascontiguousarray(array, np.int64).data)
    return digest.hexdigest()


def _restored(root: Path, found: Columns, folders: Mapping[str, Path]) -> Annotated:
    splits: dict[str, DetectionSplit] = {}
    skipped: set[str] = set()
    for split, folder in folders.items():
        paths, rows = _paths(found, split, folder), found[f"{split}.rows"]
        every = Boxes(*(found[f"{split}.{field.name}"] for field in fields(Boxes)))
        if len(rows) < len(paths):
            skipped.update(paths.take(np.setdiff1d(np.arange(len(paths)), rows)))
            paths = paths.take(rows)
        splits[split] = DetectionSplit(paths, found[f"{split}.sizes"], BoxTable(every, found[f"{split}.starts"]))
    meta = found.meta
    return Annotated(
        root, splits, tuple(meta["classes"]), {}, tuple(sorted(skipped)), tuple(meta["notes"]), meta["content"]
    )
