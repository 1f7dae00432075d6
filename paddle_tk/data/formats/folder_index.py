"""Class folders of image files: listed at every start, their names kept as columns as long as nothing has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.data.columns import Columns, cached_columns, index_path
from paddle_tk.data.tables import Paths, Texts
from paddle_tk.data.verify import listing_digest

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_ENDINGS = tuple(sorted(SUFFIXES))
# Changes whenever other columns come out of the same folders.
_VERSION = 1


@dataclass(frozen=True)
class ClassFolder:
    """The image files of one folder, by name.

    Attributes:
        path: The folder.
        names: Their names.
        sizes: int64, (n,): their lengths in bytes.
        digest: ``listing_digest`` of names, sizes and modification times.
    """

    path: str
    names: Texts
    sizes: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    def paths(self) -> list[str]:
        """Returns the path of each file."""
        return [os.path.join(self.path, name) for name in self.names]


@dataclass(frozen=True)
class Listing:
    """The class folders below one folder, by class name."""

    folder: Path
    classes: Mapping[str, ClassFolder]

    def group(self, root: Path, name: str) -> str:
        """Returns a class folder's path below the dataset's root."""
        return str((self.folder / name).relative_to(root))


def list_classes(folder: Path) -> Listing:
    """Lists every folder in ``folder`` that is not hidden, with the image files in it.

    Every file is looked at for its size and modification time: that a folder has not changed says nothing about the
    files in it.
    """
    with os.scandir(folder) as entries:
        found = sorted((e.name, e.path) for e in entries if e.is_dir() and not e.name.startswith((".", "__")))
    return Listing(folder, {name: list_images(path) for name, path in found})


def list_images(folder: str) -> ClassFolder:
    """Lists the image files in one folder; hidden ones are left alone."""
    rows: list[tuple[str, int, int]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.lower().endswith(_ENDINGS) and not name.startswith(".") and entry.is_file():
                stat = entry.stat()
                rows.append((name, stat.st_size, stat.st_mtime_ns))
    rows.sort()
    sizes = np.fromiter((size for _, size, _ in rows), np.int64, len(rows))
    return ClassFolder(folder, Texts.of([name for name, _, _ in rows]), sizes, listing_digest(rows))


@dataclass(frozen=True)
class FolderIndex:
    """The readable images of a folder.

    Attributes:
        paths: Of each split; class by class, by name.
        labels: int64, per split: the number of each image's class.
        content_sha256: Over the relative path and size of each, sorted, so that moving the folder changes nothing.
    """

    paths: Mapping[str, Paths]
    labels: Mapping[str, np.ndarray]
    content_sha256: str


def folder_index(root: Path, listings: Mapping[str, Listing], bad: frozenset[str]) -> FolderIndex:
    """Returns the index of folders that were listed, from the file it is kept in where nothing has changed.

    Args:
        root: The dataset's folder.
        listings: By split, all with the same classes.
        bad: Paths that are left out.
    """
    groups = [
        [split, listing.group(root, name), found.digest]
        for split, listing in listings.items()
        for name, found in listing.classes.items()
    ]
    left_out = sorted(os.path.relpath(path, root) for path in bad)
    key = {"version": _VERSION, "groups": groups, "left_out": left_out}
    kept = cached_columns(index_path("folder", root), key, lambda: _built(root, listings, bad))
    paths = {split: _paths(kept, split, listing) for split, listing in listings.items()}
    labels = {split: _labels(found) for split, found in paths.items()}
    return FolderIndex(paths, labels, kept.meta["content"])


def _built(root: Path, listings: Mapping[str, Listing], bad: frozenset[str]) -> tuple[dict[str, np.ndarray], Any]:
    arrays: dict[str, np.ndarray] = {}
    for split, listing in listings.items():
        found = [listing.classes[name] for name in sorted(listing.classes)]
        counts = [len(one) for one in found]
        names = Texts.joined([one.names for one in found])
        folder_of = np.repeat(np.arange(len(found), dtype=np.int32), counts)
        arrays |= {f"{split}.{name}": array for name, array in names.columns("names").items()}
        arrays[f"{split}.folder_of"] = folder_of
        if bad:
            paths = Paths([one.path for one in found], folder_of, names)
            arrays[f"{split}.rows"] = np.array([i for i, path in enumerate(paths) if path not in bad], np.int64)
    return arrays, {"content": _content_sha256(root, listings, bad)}


def _paths(kept: Columns, split: str, listing: Listing) -> Paths:
    folders = [listing.classes[name].path for name in sorted(listing.classes)]
    names = Texts.from_columns(kept.arrays, f"{split}.names")
    return Paths(folders, kept[f"{split}.folder_of"], names, kept.arrays.get(f"{split}.rows"))


def _labels(paths: Paths) -> np.ndarray:
    return np.array(paths.folder_of if paths.rows is None else paths.folder_of[paths.rows], np.int64)


def _content_sha256(root: Path, listings: Mapping[str, Listing], bad: frozenset[str]) -> str:
    """Hashes the canonical JSON of [[relative path in hexadecimal, size], ...] without making the list."""
    digest, separator = hashlib.sha256(b"["), ""
    for group, found in sorted(_groups(root, listings), key=lambda pair: pair[0]):
        start = os.fsencode(group).hex()
        rows = [
            f'["{start}{os.fsencode(name).hex()}",{size}]'
            for name, size in zip(found.names, found.sizes.tolist(), strict=True)
            if not bad or os.path.join(found.path, name) not in bad
        ]
        if rows:
            digest.update((separator + ",".join(rows)).encode())
            separator = ","
    digest.update(b"]")
    return digest.hexdigest()


def _groups(root: Path, listings: Mapping[str, Listing]) -> Iterator[tuple[str, ClassFolder]]:
    """Yields the class folders with a slash behind, by which their files sort among each other's."""
    for listing in listings.values():
        for name, found in listing.classes.items():
            yield listing.group(root, name) + "/", found
