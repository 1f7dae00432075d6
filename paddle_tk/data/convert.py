"""Writes a detection dataset in another format: coco, voc or yolo, in the layout that format is published in."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import SPLITS, DatasetBundle
from paddle_tk.data.formats.coco_json import CocoWriter
from paddle_tk.data.formats.voc_xml import voc_side, voc_xml
from paddle_tk.errors import BadInput, DataError
from paddle_tk.files import write_json

Format = Literal["coco", "voc", "yolo"]
FORMATS: tuple[Format, ...] = ("coco", "voc", "yolo")
RECORD = "conversion.json"
MADE_BY = "paddle_tk dataset convert"
# What is annotated besides boxes and classes, and where it cannot be written down.
_LACKING: dict[Format, tuple[str, ...]] = {
    "coco": (),
    "voc": ("crowd", "areas"),
    "yolo": ("crowd", "difficult", "areas"),
}
_IMAGE_FOLDERS: dict[Format, str] = {"coco": "{split}", "voc": "JPEGImages", "yolo": "images/{split}"}
# A YOLO line has six decimals; a side that would round to nothing keeps this share of the image.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        to: The format.
        classes: Class names in the order of the class ids.
        images: Images by split.
        boxes: Boxes by split.
        lost: What the format cannot hold: "crowd" regions left out, "difficult" flags and mask "areas" dropped.
        decimals: VOC boxes with a side below a pixel, which whole coordinates would have lost.
    """

    to: Format
    classes: tuple[str, ...]
    images: Mapping[str, int]
    boxes: Mapping[str, int]
    lost: Mapping[str, int]
    decimals: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "to": self.to,
            "classes": list(self.classes),
            "splits": {name: {"images": self.images[name], "boxes": self.boxes[name]} for name in self.images},
            "lost": dict(self.lost),
            "decimals": self.decimals,
        }


def convert(
    bundle: DatasetBundle,
    folder: Path,
    to: Format,
    *,
    link: bool = False,
    lossy: bool = False,
    splits: Sequence[str] = SPLITS,
    advance: Callable[[int], None] = lambda _: None,
) -> Conversion:
    """Writes images and annotations of all splits, or of those named, into an empty folder.

    Splits, class order and every class id stay; boxes keep within 0.5 px (VOC), 1e-6 of the image's side (YOLO) or
    exactly (COCO). Images are never encoded anew. Their names stay unless two have the same stem.

    Args:
        bundle: A detection dataset.
        folder: Exists and is empty; ``conversion.json`` in it will list what was written.
        to: The format.
        link: Hard links instead of copies of the images.
        lossy: Go on although crowd regions or difficult flags get lost. Mask areas are dropped in any case.
        splits: Names of the splits to write, "train" among them.
        advance: Called with the number of images done.

    Raises:
        DataError: The dataset has no boxes, or something that the format cannot hold.
        BadInput: A hard link cannot be made.
    """
    parts = _detection_splits(bundle, splits)
    lost = _lost(parts, to)
    grave = {what: count for what, count in lost.items() if what != "areas"}
    if grave and not lossy:
        told = " and ".join(f"{count} {_NAMES[what]}" for what, count in grave.items())
        raise DataError(f"{to} cannot hold {told} of {bundle.name}", "convert to coco, or give them up with --lossy")
    _check_names(bundle.classes, to)
    if "crowd" in lost:
        parts = {name: _without_crowd(split) for name, split in parts.items()}
    names = file_names(parts)
    for name, split in parts.items():
        _copy_images(split, names[name], folder / _IMAGE_FOLDERS[to].format(split=name), link, advance)
    _WRITERS[to](bundle, parts, names, folder)
    done = Conversion(
        to=to,
        classes=bundle.classes,
        images={name: len(split) for name, split in parts.items()},
        boxes={name: sum(map(len, split.annotations)) for name, split in parts.items()},
        lost=lost,
        decimals=sum(map(_fractional, parts.values())) if to == "voc" else 0,
    )
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    write_json(folder / RECORD, {"made_by": MADE_BY, **done.to_dict(), "files": [*files, RECORD]})
    return done


def file_names(splits: Mapping[str, DetectionSplit]) -> dict[str, list[str]]:
    """Returns a name for every image; stems differ over all splits, also where a disk ignores case."""
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for split, images in splits.items():
        found[split] = []
        for path in images.paths:
            stem, suffix = os.path.splitext(os.path.basename(path))
            stem = "".join(c if c.isprintable() else "_" for c in stem).strip() or "image"
            name, number = stem, 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name.casefold())
            found[split].append(name + suffix)
    return found


_NAMES = {"crowd": "crowd region(s)", "difficult": "difficult flag(s)", "areas": "mask area(s)"}


def _detection_splits(bundle: DatasetBundle, names: Sequence[str]) -> dict[str, DetectionSplit]:
    splits = {}
    for name in names:
        split = bundle.splits[name]
        if not isinstance(split, DetectionSplit):
            raise DataError(f"{bundle.name} is a {bundle.kind} dataset and has no boxes", "name a detection dataset")
        splits[name] = split
    return splits


def _lost(splits: Mapping[str, DetectionSplit], to: Format) -> dict[str, int]:
    """Counts what the format cannot hold."""
    every = [boxes for split in splits.values() for boxes in split.annotations]
    counts = {
        "crowd": sum(int(boxes.crowd.sum()) for boxes in every),
        "difficult": sum(int(boxes.difficult.sum()) for boxes in every),
        "areas": sum(_own_areas(boxes) for boxes in every),
    }
    return {what: counts[what] for what in _LACKING[to] if counts[what]}


def _own_areas(boxes: Boxes) -> int:
    sides = boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
    differ = ~np.isclose(boxes.areas, sides[:, 0] * sides[:, 1], rtol=1e-6) & ~boxes.crowd
    return int(differ.sum())


def _without_crowd(split: DetectionSplit) -> DetectionSplit:
    return DetectionSplit(split.paths, split.sizes, [boxes.select(~boxes.crowd) for boxes in split.annotations])


def _check_names(classes: Sequence[str], to: Format) -> None:
    """Refuses class names that would not be read back as they are."""
    for name in classes if to != "coco" else ():
        if name != name.strip() or not name.isprintable():
            raise DataError(f"{to} cannot hold the class name {name!r}", "rename the class")


def _copy_images(
    split: DetectionSplit, names: Sequence[str], folder: Path, link: bool, advance: Callable[[int], None]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in zip(split.paths, names, strict=True):
        if link:
            _link(source, folder / name)
        else:
            shutil.copyfile(source, folder / name)
        advance(1)


def _link(source: str, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise BadInput(
                f"{source} cannot be linked to {target.parent}: {error.strerror}", "copy the images: drop --link"
            ) from error
        raise


_Names = Mapping[str, Sequence[str]]
_Splits = Mapping[str, DetectionSplit]


def _write_coco(bundle: DatasetBundle, splits: _Splits, names: _Names, folder: Path) -> None:
    writer = CocoWriter(bundle.classes, bundle.source, bundle.licence)
    (folder / "annotations").mkdir()
    for name, split in splits.items():
        document = writer.document(names[name], split.sizes.tolist(), split.annotations)
        (folder / "annotations" / f"instances_{name}.json").write_bytes(document)


def _write_voc(bundle: DatasetBundle, splits: _Splits, names: _Names, folder: Path) -> None:
    lists, annotations = folder / "ImageSets" / "Main", folder / "Annotations"
    lists.mkdir(parents=True)
    annotations.mkdir()
    stems = {name: [os.path.splitext(file)[0] for file in names[name]] for name in splits}
    for name, split in splits.items():
        _write_lines(lists / f"{name}.txt", stems[name])
        for i, stem in enumerate(stems[name]):
            text = voc_xml(names[name][i], split.sizes[i].tolist(), split.boxes(i), bundle.classes)
            (annotations / f"{stem}.xml").write_text(text, encoding="utf-8")
    _write_lines(lists / "trainval.txt", [*stems["train"], *stems.get("val", [])])
    _write_lines(folder / "labels.txt", bundle.classes)


def _write_yolo(bundle: DatasetBundle, splits: _Splits, names: _Names, folder: Path) -> None:
    for name, split in splits.items():
        labels = folder / "labels" / name
        labels.mkdir(parents=True)
        for i, file in enumerate(names[name]):
            lines = _yolo_lines(split.boxes(i), split.sizes[i])
            _write_lines(labels / f"{os.path.splitext(file)[0]}.txt", lines)
    described = {
        **{name: f"images/{name}" for name in splits},
        "nc": len(bundle.classes),
        "names": dict(enumerate(bundle.classes)),
    }
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


_WRITERS: dict[Format, Callable[[DatasetBundle, _Splits, _Names, Path], None]] = {
    "coco": _write_coco,
    "voc": _write_voc,
    "yolo": _write_yolo,
}


def _yolo_lines(boxes: Boxes, size: np.ndarray) -> list[str]:
    scale = size[[1, 0, 1, 0]].astype(np.float64)
    shares = boxes.xyxy / scale
    sides = np.maximum(shares[:, 2:] - shares[:, :2], _LEAST_SHARE)
    rows = np.hstack([(shares[:, :2] + shares[:, 2:]) / 2, sides])
    return [
        " ".join([str(class_id), *(f"{value:.6f}" for value in row)])
        for class_id, row in zip(boxes.class_ids.tolist(), rows.tolist(), strict=True)
    ]


def _fractional(split: DetectionSplit) -> int:
    """Counts the boxes that VOC's whole pixels cannot hold."""
    return sum(
        any(not text.isdigit() for low, high in ((box[0], box[2]), (box[1], box[3])) for text in voc_side(low, high))
        for boxes in split.annotations
        for box in boxes.xyxy
    )


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
