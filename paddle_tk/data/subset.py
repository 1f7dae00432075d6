"""Mini datasets: a seeded, stratified share of a dataset, written to disk as a dataset of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddle_tk.data.boxes import DetectionSplit
from paddle_tk.data.bundle import DatasetBundle, FileSplit, ImageSplit
from paddle_tk.data.convert import Format, convert
from paddle_tk.data.splits import stratified_subset
from paddle_tk.errors import BadInput, DataError, some
from paddle_tk.files import write_json

RECORD = "mini.json"
MADE_BY = "paddle_tk dataset mini"
IMAGE_FOLDER = "image_folder"
# What a dataset is written as; every other one with labels becomes an image folder.
_FORMATS: Mapping[str, Format] = {
    "coco": "coco", "coco2017": "coco", "digits_detection": "coco", "voc": "voc", "yolo": "yolo", "coco128": "yolo",
}  # fmt: skip
_CANDIDATES = 2000  # looked at for each image: a draw of 500 from 118,000 takes two seconds
_SUBSET = 4  # a random stream apart from those of splits


@dataclass(frozen=True)
class Mini:
    """What was written.

    Attributes:
        format: The dataset name to read it by.
        images: Images by split.
        classes: Class names.
        absent: Classes that the dataset's training split has and this one has not.
    """

    format: str
    images: Mapping[str, int]
    classes: tuple[str, ...]
    absent: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "format": self.format,
            "images": dict(self.images),
            "classes": list(self.classes),
            "absent": list(self.absent),
        }


def write_mini(
    bundle: DatasetBundle,
    folder: Path,
    *,
    samples: int,
    val_share: float,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Mini:
    """Draws ``samples`` images and writes them into an empty folder, in the format they came in.

    Training images are drawn from the dataset's training split, validation images from its validation split, so that
    none of them is seen in a training on the whole dataset; where that split is too small the training split gives the
    rest. There is no test split: it is drawn from the training images when the mini set is read, as for any dataset
    that publishes none. ``mini.json`` in the folder lists the files.

    Args:
        bundle: The dataset.
        folder: Exists and is empty.
        samples: Images in all.
        val_share: Share of them for validation, above 0 and below 1.
        seed: Equal seeds give equal files.
        advance: Called with the number of images done.

    Raises:
        BadInput: There are not so many images, or too few for the classes of an image folder.
        DataError: An image cannot be read.
    """
    val = max(1, round(samples * val_share))
    train = samples - val
    available = len(bundle.splits["train"]) + len(bundle.splits["val"])
    if train < 1 or samples > available:
        raise BadInput(
            f"{samples} images with {val_share:g} of them for validation cannot be drawn from {available}",
            "choose another number of --samples or another --val",
        )
    parts = _draw(bundle, train, val, seed)
    to = _FORMATS.get(bundle.name)
    if bundle.kind == "detection":
        small = replace(bundle, splits={**bundle.splits, **parts})
        convert(small, folder, to or "coco", splits=("train", "val"), advance=advance)
    else:
        _write_folders(bundle.classes, parts, folder, advance)
    done = Mini(
        format=(to or "coco") if bundle.kind == "detection" else IMAGE_FOLDER,
        images={name: len(split) for name, split in parts.items()},
        classes=bundle.classes,
        absent=tuple(
            name
            for name in _absent(parts["train"], bundle.classes)
            if name not in _absent(bundle.splits["train"], bundle.classes)
        ),
    )
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    record = {"made_by": MADE_BY, "seed": seed, **done.to_dict(), "files": [*files, RECORD]}
    write_json(folder / RECORD, record)
    return done


def _draw(bundle: DatasetBundle, train: int, val: int, seed: int) -> dict[str, Any]:
    source, held_out = bundle.splits["train"], bundle.splits["val"]
    own = min(val, len(held_out))
    picked = pick(source, min(train + val - own, len(source)), seed)
    rest = np.zeros(0, np.int64)
    if own < val:
        inner = pick(source.subset(picked), val - own, seed + 1)
        rest, picked = picked[inner], np.delete(picked, inner)
    parts = {"train": source.subset(picked), "val": held_out.subset(pick(held_out, own, seed))}
    if len(rest):
        parts["val"] = _joined(parts["val"], source.subset(rest))
    return parts


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, DetectionSplit):
        boxes = [split.boxes(i) for split in (first, second) for i in range(len(split))]
        return DetectionSplit([*first.paths, *second.paths], np.vstack([first.sizes, second.sizes]), boxes)
    labels = np.concatenate([first.labels, second.labels])
    if isinstance(first, FileSplit):
        return FileSplit([*first.paths, *second.paths], labels)
    names = [*first.names, *second.names]
    return type(first)(np.concatenate([first.images, second.images]), labels, names)


def pick(split: ImageSplit | DetectionSplit, count: int, seed: int) -> np.ndarray:
    """Returns the ascending indices of ``count`` images, int64, stratified.

    Images with one label: by largest remainder, at least one of each class where ``count`` allows it. Images with
    boxes: see ``pick_by_presence``.
    """
    if not isinstance(split, DetectionSplit):
        return stratified_subset(split.labels, count, seed=seed)
    classes = 1 + max((int(split.boxes(i).class_ids.max(initial=-1)) for i in range(len(split))), default=-1)
    present = np.zeros((len(split), classes + 1), np.bool_)
    for i in range(len(split)):
        ids = split.boxes(i).class_ids
        present[i, ids if len(ids) else classes] = True  # an image without boxes is a class of its own
    return pick_by_presence(present, count, seed)


def pick_by_presence(present: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws images so that every class is in about as large a share of them as of the whole.

    One image after the other, after the iterative stratification of Sechidis et al. (2011): first, from the rarest
    class on, one of each class that has none yet, then any; always the one of up to 2,000 random candidates that brings
    the shares so far nearest to those of the whole (least sum of squares, rare classes weighing more).

    Args:
        present: bool, (n, C): whether class c is in image i.
        count: Images to draw, at most n.
        seed: Equal seeds give equal draws.

    Returns:
        Ascending indices, int64 (count,).
    """
    n = len(present)
    if count >= n:
        return np.arange(n, dtype=np.int64)
    rng = np.random.default_rng((seed, _SUBSET))
    table = present.astype(np.float32)
    totals = table.sum(axis=0)
    weights = 1.0 / np.maximum(totals, 1.0)
    uncovered = [int(c) for c in np.argsort(totals, kind="stable") if totals[c]]
    have, free = np.zeros(len(totals), np.float32), np.ones(n, np.bool_)
    for number in range(1, count + 1):
        uncovered = [c for c in uncovered if not have[c]]
        pool = np.flatnonzero(free & present[:, uncovered[0]] if uncovered else free)
        pool = rng.permutation(pool)[:_CANDIDATES]
        away = (have + table[pool] - totals * (number / n)) ** 2
        chosen = int(pool[np.argmin(away @ weights)])
        free[chosen] = False
        have += table[chosen]
    return np.flatnonzero(~free).astype(np.int64)


def _absent(split: Any, classes: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(split, DetectionSplit):
        found = {int(i) for k in range(len(split)) for i in split.boxes(k).class_ids}
    else:
        found = set(split.labels.tolist())
    return tuple(name for i, name in enumerate(classes) if i not in found)


def _write_folders(
    classes: tuple[str, ...], parts: Mapping[str, Any], folder: Path, advance: Callable[[int], None]
) -> None:
    """Writes an image folder; files are copied as they are, arrays become PNG files, without loss."""
    for name, split in parts.items():
        missing = _absent(split, classes)
        if missing:
            raise BadInput(
                f"{len(split)} images in {name} leave no image for {some(missing)}",
                f"every split of an image folder needs all {len(classes)} classes: more --samples, or another --val",
            )
        for place in classes:
            (folder / name / place).mkdir(parents=True)
        taken: set[Path] = set()
        for i in range(len(split)):
            _write_image(split, i, folder / name / classes[int(split.labels[i])], taken)
            advance(1)


def _write_image(split: Any, index: int, folder: Path, taken: set[Path]) -> None:
    name = split.name(index)
    stem, suffix = os.path.splitext(os.path.basename(name))
    if not isinstance(split, FileSplit):
        suffix = ".png"
    target, number = folder / f"{stem}{suffix}", 1
    while target in taken:
        number += 1
        target = folder / f"{stem}_{number}{suffix}"
    taken.add(target)
    if isinstance(split, FileSplit):
        try:
            shutil.copyfile(name, target)
        except FileNotFoundError as error:
            raise DataError(f"{name} is gone since it was listed", "check the dataset") from error
        return
    pixels = cv2.imencode(".png", cv2.cvtColor(split.image(index), cv2.COLOR_RGB2BGR))[1]
    target.write_bytes(pixels.tobytes())
