"""``image_folder``: the ImageNet layout, one folder of image files per class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddle_tk.data.bundle import DatasetBundle, FileSplit, fingerprint
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.splits import TEST, VAL, stratified_split
from paddle_tk.data.verify import FileStat, checked_images
from paddle_tk.errors import DataError, some
from paddle_tk.files import canonical_json, sha256_bytes

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_LAYOUT = "expected root/{train,val,test}/<class>/*.jpg or root/<class>/*.jpg (also jpeg, png, bmp, webp)"
_VAL_NAMES = ("val", "validation")


@dataclass(frozen=True)
class _Listing:
    """The image files below one folder of class folders: class name -> files, sorted by name."""

    folder: Path
    files: Mapping[str, tuple[FileStat, ...]]

    def without(self, bad: frozenset[str]) -> _Listing:
        kept = {name: tuple(f for f in files if f.path not in bad) for name, files in self.files.items()}
        return _Listing(self.folder, kept)

    def split(self, classes: Sequence[str]) -> FileSplit:
        paths = [file.path for name in classes for file in self.files[name]]
        counts = [len(self.files[name]) for name in classes]
        return FileSplit(paths, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def load_image_folder(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Lists, verifies and splits a folder of images; the images themselves are decoded when they are used.

    Every image is decoded once before anything else happens, so that a damaged file cannot stop a training
    half-way. That costs one decoding per image (about 3 ms and one core for a 640x480 JPEG, spread over all
    cores); the verdict is remembered by path, size and modification time, and the next run only lists the
    files.

    Args:
        root: ``root/{train,val,test}/<class>/*`` ("validation" is accepted for "val") or ``root/<class>/*``;
            None: ``$PADDLE_TK_HOME/datasets/image_folder``.
        val_fraction: Share of the training images that become "val" where there is no such folder,
            stratified.
        test_fraction: Share of the training images that become "test" where there is no such folder, taken
            first.
        split_seed: Seed of the splits.
        skip_unreadable: Leave out files that cannot be decoded and list them in the bundle.

    Raises:
        DataError: No such folder, no classes, an empty class, splits of other classes, or files that cannot
            be decoded.
    """
    folder = dataset_folder("image_folder", root)
    listings = _listings(folder)
    classes = tuple(sorted(listings["train"].files))
    _check_classes(folder, listings, classes)
    bad = checked_images(folder, _by_class_folder(folder, listings), skip_unreadable=skip_unreadable)
    listings = {name: listing.without(frozenset(bad)) for name, listing in listings.items()}
    _check_not_empty(listings)
    return DatasetBundle(
        name="image_folder",
        kind="classification",
        splits=_splits(listings, classes, val_fraction, test_fraction, split_seed),
        classes=classes,
        source=f"image folder {folder.name}",
        licence="not stated",
        fingerprint=fingerprint(
            _content_digest(folder, listings),
            val_fraction=None if "val" in listings else val_fraction,
            test_fraction=None if "test" in listings else test_fraction,
            split_seed=split_seed,
        ),
        skipped=tuple(bad),
    )


def _listings(root: Path) -> dict[str, _Listing]:
    """Finds the layout and lists every split that has a folder of its own."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", f"give the images' folder with data.root=PATH; {_LAYOUT}")
    found = {"train": root / "train"} if (root / "train").is_dir() else {}
    validation = [root / name for name in _VAL_NAMES if (root / name).is_dir()]
    if not found:
        return {"train": _list(root)}
    if len(validation) > 1:
        raise DataError(f"{root} has both a 'val' and a 'validation' folder", "keep one of them")
    if validation:
        found["val"] = validation[0]
    if (root / "test").is_dir():
        found["test"] = root / "test"
    return {name: _list(folder) for name, folder in found.items()}


def _list(folder: Path) -> _Listing:
    files: dict[str, tuple[FileStat, ...]] = {}
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir() and not entry.name.startswith((".", "__")):
            files[entry.name] = _images(entry.path)
    if not any(files.values()):
        raise DataError(f"{folder} holds no class folders with images", _LAYOUT)
    return _Listing(folder, files)


def _images(folder: str) -> tuple[FileStat, ...]:
    found = []
    for entry in os.scandir(folder):
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file():
            stat = entry.stat()
            found.append(FileStat(entry.path, stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


def _check_classes(root: Path, listings: Mapping[str, _Listing], classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DataError(f"{listings['train'].folder} holds only one class, '{classes[0]}'", "at least two are needed")
    for listing in listings.values():
        missing, extra = sorted(set(classes) - set(listing.files)), sorted(set(listing.files) - set(classes))
        if missing or extra:
            told = [f"without {some(missing)}"] * bool(missing) + [f"with unknown {some(extra)}"] * bool(extra)
            raise DataError(
                f"the classes in {listing.folder} differ from those in {listings['train'].folder}: " + ", ".join(told),
                "give every split the same class folders",
            )
    _check_not_empty(listings)


def _check_not_empty(listings: Mapping[str, _Listing]) -> None:
    for listing in listings.values():
        empty = [name for name, files in listing.files.items() if not files]
        if empty:
            raise DataError(
                f"no readable images for class {some(empty)} in {listing.folder}",
                "add images or remove the class from every split",
            )


def _splits(
    listings: Mapping[str, _Listing],
    classes: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, FileSplit]:
    splits = {name: listing.split(classes) for name, listing in listings.items()}
    for name, fraction, purpose in (("test", test_fraction, TEST), ("val", val_fraction, VAL)):
        if name not in splits:
            rest, share = stratified_split(splits["train"].labels, fraction, seed=seed, purpose=purpose)
            splits[name] = splits["train"].subset(share)
            splits["train"] = splits["train"].subset(rest)
    return splits


def _by_class_folder(root: Path, listings: Mapping[str, _Listing]) -> dict[str, tuple[FileStat, ...]]:
    return {
        str((listing.folder / name).relative_to(root)): files
        for listing in listings.values()
        for name, files in listing.files.items()
    }


def _content_digest(root: Path, listings: Mapping[str, _Listing]) -> str:
    """Returns the SHA-256 over sorted (relative path, size), so moving the folder changes nothing."""
    files = [file for listing in listings.values() for group in listing.files.values() for file in group]
    rows = sorted((os.path.relpath(file.path, root), file.size) for file in files)
    return sha256_bytes(canonical_json([[os.fsencode(path).hex(), size] for path, size in rows]))
