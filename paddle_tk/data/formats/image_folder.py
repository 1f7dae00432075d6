"""``image_folder``: the ImageNet layout, one folder of image files per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from paddle_tk.data.bundle import DatasetBundle, FileSplit, fingerprint
from paddle_tk.data.catalog import shipped_entry
from paddle_tk.data.formats.folder_index import SUFFIXES, Listing, folder_index, list_classes
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.splits import TEST, VAL, stratified_split
from paddle_tk.data.verify import accepted, unreadable_since
from paddle_tk.errors import DataError, some

_LAYOUT = "expected root/{train,val,test}/<class>/*.jpg or root/<class>/*.jpg (also jpeg, png, bmp, webp)"
_VAL_NAMES = ("val", "validation")

__all__ = ["SUFFIXES", "load_image_folder", "load_imagenet1k"]


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
    fractions = {"val": val_fraction, "test": test_fraction}
    return _bundle("image_folder", folder, _listings(folder), fractions, split_seed, skip_unreadable=skip_unreadable)


def load_imagenet1k(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads ImageNet-1K as ``tools/dataset.py setup imagenet1k`` lays it out, or as it is commonly laid out.

    The labels of its test images are not public and published figures are those of its 50,000 validation images. So
    these are the "test" split, which is evaluated once, and "val", which ranks the epochs, is drawn from "train".

    Args:
        root: The folder of ``train/<wnid>/*`` and ``val/<wnid>/*``; None: ``$PADDLE_TK_HOME/datasets/imagenet1k``.
        val_fraction: Share of the training images that becomes "val".
        test_fraction: Without effect: the validation images are the test split.
        split_seed: Seed of the validation split.
        skip_unreadable: Leave out files that cannot be decoded and list them in the bundle.

    Raises:
        DataError: As of ``load_image_folder``, or one of the two folders is missing.
    """
    folder = dataset_folder("imagenet1k", root)
    if not (folder / "train").is_dir() or not (folder / "val").is_dir():
        raise DataError(
            f"{folder} holds no folders train and val",
            "python tools/dataset.py setup imagenet1k, or give their folder with data.root=PATH",
        )
    listings = {"train": _list(folder / "train"), "test": _list(folder / "val")}
    fractions = {"val": val_fraction, "test": test_fraction}
    return _bundle("imagenet1k", folder, listings, fractions, split_seed, skip_unreadable=skip_unreadable)


def _bundle(
    name: str,
    folder: Path,
    listings: Mapping[str, Listing],
    fractions: Mapping[str, float],
    split_seed: int,
    *,
    skip_unreadable: bool,
) -> DatasetBundle:
    classes = tuple(sorted(listings["train"].classes))
    _check_classes(folder, listings, classes)
    bad = accepted(_unreadable(folder, listings), skip_unreadable=skip_unreadable)
    index = folder_index(folder, listings, frozenset(bad))
    splits = {name: FileSplit(index.paths[name], index.labels[name]) for name in listings}
    for part, split in splits.items():
        counts = np.bincount(split.labels, minlength=len(classes)).tolist()
        _check_not_empty(listings[part].folder, dict(zip(classes, counts, strict=True)))
    entry = shipped_entry(name) if name == "imagenet1k" else None
    return DatasetBundle(
        name=name,
        kind="classification",
        splits=_with_drawn(splits, fractions["val"], fractions["test"], split_seed),
        classes=classes,
        source=entry.source if entry is not None else f"image folder {folder.name}",
        licence=entry.licence if entry is not None else "not stated",
        fingerprint=fingerprint(
            index.content_sha256,
            val_fraction=None if "val" in listings else fractions["val"],
            test_fraction=None if "test" in listings else fractions["test"],
            split_seed=split_seed,
        ),
        skipped=tuple(bad),
    )


def _listings(root: Path) -> dict[str, Listing]:
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


def _list(folder: Path) -> Listing:
    listing = list_classes(folder)
    if not any(len(files) for files in listing.classes.values()):
        raise DataError(f"{folder} holds no class folders with images", _LAYOUT)
    return listing


def _unreadable(root: Path, listings: Mapping[str, Listing]) -> list[str]:
    groups = {
        listing.group(root, name): files for listing in listings.values() for name, files in listing.classes.items()
    }
    digests = {group: files.digest for group, files in groups.items()}
    return unreadable_since(root, digests, lambda group: groups[group].paths())


def _check_classes(root: Path, listings: Mapping[str, Listing], classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DataError(f"{listings['train'].folder} holds only one class, '{classes[0]}'", "at least two are needed")
    for listing in listings.values():
        missing, extra = sorted(set(classes) - set(listing.classes)), sorted(set(listing.classes) - set(classes))
        if missing or extra:
            told = [f"without {some(missing)}"] * bool(missing) + [f"with unknown {some(extra)}"] * bool(extra)
            raise DataError(
                f"the classes in {listing.folder} differ from those in {listings['train'].folder}: " + ", ".join(told),
                "give every split the same class folders",
            )
    for listing in listings.values():
        _check_not_empty(listing.folder, {name: len(files) for name, files in listing.classes.items()})


def _check_not_empty(folder: Path, counts: Mapping[str, int]) -> None:
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise DataError(
            f"no readable images for class {some(empty)} in {folder}",
            "add images or remove the class from every split",
        )


def _with_drawn(
    splits: dict[str, FileSplit], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, FileSplit]:
    for name, fraction, purpose in (("test", test_fraction, TEST), ("val", val_fraction, VAL)):
        if name not in splits:
            rest, share = stratified_split(splits["train"].labels, fraction, seed=seed, purpose=purpose)
            splits[name] = splits["train"].subset(share)
            splits["train"] = splits["train"].subset(rest)
    return splits
