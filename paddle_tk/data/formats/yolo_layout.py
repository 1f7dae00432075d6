"""Where a YOLO dataset keeps its images and label files: as its data.yaml says, or in images/ and labels/."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from paddle_tk.data.formats.detection_boxes import checked_classes
from paddle_tk.data.formats.detection_files import is_image, split_of
from paddle_tk.errors import DataError

YAML_NAMES = ("data.yaml", "data.yml")
_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_NOTHING: tuple[object, ...] = ("", "null", "~", [])
_CLASS_FILES = ("classes.txt", "labels.txt", "obj.names")
_LAYOUT = (
    "expected root/data.yaml with names, train and val, or root/images/{train,val,test} and root/labels/...; give root "
    "with data.root=PATH (--root PATH in tools/dataset.py)"
)


class YoloImage(NamedTuple):
    """An image that belongs to a split: its path, that of its label file, and what names it."""

    path: str
    label: str
    entry: str


@dataclass(frozen=True)
class YoloLayout:
    """A dataset's files.

    Attributes:
        root: The folder; paths are fingerprinted relative to it.
        images: "train", and "val" and "test" where they are published.
        classes: Class names in the order of the class ids, empty where nothing names them.
        notes: What was found odd, for the user.
    """

    root: Path
    images: Mapping[str, Sequence[YoloImage]]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_layout(root: Path, *, classes: tuple[str, ...] | None = None) -> YoloLayout:
    """Finds a dataset's files.

    Args:
        root: A folder, or its YAML file under any name.
        classes: Take the place of the names in the YAML, which are then not looked at.

    Raises:
        DataError: Nothing is there, or the YAML is damaged or names what does not exist.
    """
    if root.is_file() and root.suffix in (".yaml", ".yml"):
        return _from_yaml(root, classes)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", _LAYOUT)
    for name in YAML_NAMES:
        if (root / name).is_file():
            return _from_yaml(root / name, classes)
    if not (root / "images").is_dir():
        raise DataError(f"{root} holds neither data.yaml nor a folder 'images'", _LAYOUT)
    folders = plain_splits(root)
    images = {split: folder_images(folder) for split, folder in folders.items()}
    return YoloLayout(root, images, _listed_classes(root), stray_labels(folders.values()))


def folder_images(folder: Path) -> list[YoloImage]:
    """Returns the images below a folder, sorted by path.

    Raises:
        DataError: There are none.
    """
    paths = sorted(_below(folder, is_image))
    if not paths:
        raise DataError(f"{folder} holds no images", _LAYOUT)
    return [YoloImage(path, label_of(path), str(folder)) for path in paths]


def stray_labels(folders: Iterable[Path]) -> tuple[str, ...]:
    """Returns a note where label files have no image, as in COCO128 itself, where two images are missing."""
    notes = []
    for folder in folders:
        labels = Path(label_of(str(folder / "x.jpg"))).parent
        if labels != folder:  # beside the images a text file may be anything
            used = {label_of(path) for path in _below(folder, is_image)}
            stray = sorted(set(label_files(labels)) - used)
            if stray:
                notes.append(f"{len(stray)} label file(s) without an image were left out, the first is {stray[0]}")
    return tuple(notes)


def label_of(path: str) -> str:
    """Returns the label file of an image: .../labels/x.txt for .../images/x.jpg, else beside it."""
    stem = os.path.splitext(path)[0] + ".txt"
    before, found, after = stem.rpartition(f"{os.sep}images{os.sep}")
    swapped = f"{before}{os.sep}labels{os.sep}{after}"
    return swapped if found and (os.path.isfile(swapped) or not os.path.isfile(stem)) else stem


def label_files(folder: Path | str) -> list[str]:
    """Returns the label files below a folder."""
    return list(_below(Path(folder), _is_label))


def _below(folder: Path, wanted: Any) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names if wanted(name))


def _is_label(name: str) -> bool:
    return name.endswith(".txt") and name not in _CLASS_FILES and not name.startswith(".")


def plain_splits(root: Path) -> dict[str, Path]:
    """Returns the folders of images by split, as their names in ``root/images`` say; else that folder as "train".

    Raises:
        DataError: Two are of one split, or there is none to train on.
    """
    found: dict[str, Path] = {}
    for folder in sorted(path for path in (root / "images").iterdir() if path.is_dir()):
        split = split_of(folder.name)
        if split in found:
            raise DataError(f"both {found[split]} and {folder} are a {split} split", "keep one of them")
        if split is not None:
            found[split] = folder
    if found and "train" not in found:
        raise DataError(f"{root / 'images'} holds no folder 'train'", _LAYOUT)
    return found or {"train": root / "images"}


def _listed_classes(root: Path) -> tuple[str, ...]:
    for name in _CLASS_FILES:
        for path in (root / name, root / "labels" / name):
            if path.is_file():
                return checked_classes([line for line in _text(path).splitlines() if line.strip()], str(path))
    return ()


def _from_yaml(path: Path, given: tuple[str, ...] | None = None) -> YoloLayout:
    try:
        # All scalars as text, so that a class may be called "no", "1.0" or "null".
        raw = yaml.load(_text(path), Loader=yaml.BaseLoader)  # noqa: S506, it builds nothing but text
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML ({' '.join(str(error).split())})", "repair the file") from error
    if not isinstance(raw, dict) or "names" not in raw:
        raise DataError(f"{path} has no entry 'names'", "list the class names under 'names'")
    base = _base(path, raw)
    places: dict[str, list[Path]] = {}
    for split, keys in _KEYS.items():
        entry = next((raw[key] for key in keys if raw.get(key, "") not in _NOTHING), None)
        if entry is not None:
            items = entry if isinstance(entry, list) else [entry]
            places[split] = [_place(path, split, item, base) for item in items]
    if "train" not in places:
        raise DataError(f"{path} has no entry 'train'", "name the folder of training images")
    images = {
        split: [image for place in found for image in _entry_images(place, base)] for split, found in places.items()
    }
    folders = dict.fromkeys(place for found in places.values() for place in found if place.is_dir())
    classes = _classes(path, raw) if given is None else given
    return YoloLayout(path.parent, images, classes, stray_labels(folders))


def _base(path: Path, raw: Mapping[str, Any]) -> Path:
    """Returns the folder that entries are relative to: 'path' if it exists, else that of the file.

    Downloaded files often name a folder of the machine they were made on.
    """
    stated = path.parent / Path(str(raw.get("path", "."))).expanduser()
    return stated if stated.is_dir() else path.parent


def _classes(path: Path, raw: Mapping[str, Any]) -> tuple[str, ...]:
    names = raw["names"]
    if isinstance(names, dict):
        ids = [str(class_id) for class_id in range(len(names))]
        if set(names) != set(ids):
            raise DataError(f"{path}: names has the ids {sorted(names)[:10]}", "number the classes from 0")
        names = [names[class_id] for class_id in ids]
    if not isinstance(names, list):
        raise DataError(f"{path}: names is {names!r}", "give a list of class names")
    count = raw.get("nc", str(len(names)))
    if count != str(len(names)):
        raise DataError(f"{path} says nc: {count} but names {len(names)} classes", "correct one of them")
    return checked_classes(names, f"{path}: names")


def _entry_images(place: Path, base: Path) -> list[YoloImage]:
    return folder_images(place) if place.is_dir() else _list_images(place, base)


def _place(path: Path, split: str, item: Any, base: Path) -> Path:
    """Returns the folder or list that an entry names; Roboflow's begin with a ``../`` too many."""
    if isinstance(item, str):
        for candidate in (item, item.removeprefix("../")):
            for folder in (base, path.parent):
                if (folder / candidate).exists():
                    return Path(os.path.normpath(folder / candidate))
    raise DataError(
        f"{path}: {split} names {item!r}, which does not exist in {base}",
        "correct or remove the entry",
    )


def _list_images(path: Path, base: Path) -> list[YoloImage]:
    """Reads a list of image files, one per line; ``./`` is the list's own folder."""
    images = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        name = line.strip()
        if name:
            near, far = path.parent / name, base / name
            found = os.path.normpath(near if near.exists() or not far.exists() else far)
            images.append(YoloImage(found, label_of(found), f"{path}: line {number}"))
    if not images:
        raise DataError(f"{path} names no images", "list one image file per line")
    return images


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file and its rights") from error
