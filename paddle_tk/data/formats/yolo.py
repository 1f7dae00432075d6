"""``yolo``: boxes in text files of one line per object, as the YOLO family keeps them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddle_tk.data.boxes import Boxes, BoxTable, DetectionSplit
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.formats.detection_boxes import clipped_corners, first_repeated, grouped
from paddle_tk.data.formats.detection_bundle import Annotated, detection_bundle
from paddle_tk.data.formats.detection_files import ImageFile, examine_images, stat_image
from paddle_tk.data.formats.yolo_layout import YoloLayout, find_layout
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.verify import FileStat
from paddle_tk.errors import DataError

_COLUMNS = 5
_MAX_CLASSES = 10_000
# Rounding to few decimals moves an edge beyond 0..1; a mistaken scale or image size moves it much further.
_TOLERANCE = 1e-3
_FORM = "a line is: class x_center y_center width height, the last four as shares of the image, 0 to 1"


class _Line(NamedTuple):
    """One object: where it is written, its class id, x centre, y centre, width and height as shares."""

    place: str
    class_id: int
    values: tuple[float, float, float, float]


def load_yolo(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads a dataset in YOLO's text format.

    Args:
        root: Its folder or its data.yaml, see the layouts in docs/data.md; None: ``$PADDLE_TK_HOME/datasets/yolo``.
        val_fraction: Share of the training images that become "val", where no such split is published.
        test_fraction: The same for "test", taken first.
        split_seed: Seed of the splits.
        skip_unreadable: Leave out images that cannot be decoded and list them in the bundle.

    Raises:
        DataError: Anything that cannot be used; the message names the file, the entry and the value.
    """
    folder = dataset_folder("yolo", root)
    layout = find_layout(folder)
    return detection_bundle(
        read_yolo(layout, skip_unreadable=skip_unreadable),
        name="yolo",
        source=f"YOLO annotations in {layout.root.name}",
        licence="not stated",
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def read_yolo(layout: YoloLayout, *, skip_unreadable: bool) -> Annotated:
    """Reads the images of a layout and their label files. An image without label file has no objects."""
    stats: list[FileStat] = []
    for split, listed in layout.images.items():
        repeated = first_repeated([item.path for item in listed])
        if repeated is not None:
            raise DataError(f"{listed[repeated].entry} names {listed[repeated].path} twice", "name every image once")
        stats.extend(stat_image(item.path, partial(str, item.entry)) for item in listed)
        if not any(os.path.isfile(item.label) for item in listed):
            raise DataError(
                f"none of the {len(listed)} images of the {split} split has a label file"
                + (f", the first would be {listed[0].label}" if listed else ""),
                "put the label files there, in a folder 'labels' beside 'images'",
            )
    files, skipped = examine_images(layout.root, stats, skip_unreadable=skip_unreadable)
    lines = {
        split: {item.path: _lines(item.label) for item in listed if item.path in files}
        for split, listed in layout.images.items()
    }
    classes = layout.classes or _numbered(lines)
    splits = {split: _split(found, files, classes) for split, found in lines.items()}
    return Annotated(layout.root, splits, classes, files, skipped, layout.notes)


def _numbered(lines: Mapping[str, Mapping[str, Sequence[_Line]]]) -> tuple[str, ...]:
    """Names classes by their ids where nothing names them."""
    highest = max((line.class_id for part in lines.values() for found in part.values() for line in found), default=0)
    return tuple(str(class_id) for class_id in range(highest + 1))


def _lines(path: str) -> list[_Line]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file and its rights") from error
    rows = [(number, row.split()) for number, row in enumerate(text.splitlines(), 1)]
    return [_line(f"{path}: line {number}", columns) for number, columns in rows if columns]


def _line(place: str, columns: Sequence[str]) -> _Line:
    if len(columns) != _COLUMNS:
        raise DataError(f"{place} has {len(columns)} columns ('{_cut(columns)}'), 5 are expected", _FORM)
    try:
        first, x, y, width, height = (float(column) for column in columns)
    except ValueError:
        raise DataError(f"{place} is not 5 numbers: '{_cut(columns)}'", _FORM) from None
    if not (0 <= first < _MAX_CLASSES and first.is_integer()):
        raise DataError(f"{place} has the class id {columns[0]}", f"use a whole number from 0 to {_MAX_CLASSES - 1}")
    values = (x, y, width, height)
    for value in values:
        if not -_TOLERANCE <= value <= 1 + _TOLERANCE:  # NaN too
            raise DataError(f"{place} has the value {value:g} ('{_cut(columns)}'), which is not within 0 and 1", _FORM)
    return _Line(f"{place} ('{_cut(columns)}')", int(first), values)


def _cut(columns: Sequence[str]) -> str:
    text = " ".join(columns)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _split(
    lines: Mapping[str, Sequence[_Line]], files: Mapping[str, ImageFile], classes: Sequence[str]
) -> DetectionSplit:
    sizes = np.array([files[path][2:] for path in lines], np.int64).reshape(-1, 2)
    every = [line for found in lines.values() for line in found]
    rows = np.repeat(np.arange(len(lines)), [len(found) for found in lines.values()])
    for line in every:
        if line.class_id >= len(classes):
            raise DataError(
                f"{line.place} has the class id {line.class_id}, but there are {len(classes)} classes",
                f"use 0 to {len(classes) - 1}, or name the class in data.yaml",
            )
    return DetectionSplit(list(lines), sizes, _boxes(every, rows, sizes))


def _boxes(lines: Sequence[_Line], rows: np.ndarray, sizes: np.ndarray) -> BoxTable:
    shares = np.array([line.values for line in lines], np.float64).reshape(-1, 4)
    low, high = shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2
    over = np.flatnonzero((low < -_TOLERANCE).any(axis=1) | (high > 1 + _TOLERANCE).any(axis=1))
    if len(over):
        i = int(over[0])
        told = ", ".join(f"{value:g}" for value in (*low[i], *high[i]))
        raise DataError(
            f"{lines[i].place}: the box from x, y to x, y = {told} leaves the image", "clip the box; " + _FORM
        )
    scale = sizes[rows][:, ::-1].astype(np.float64)
    corners = clipped_corners(np.hstack([low * scale, high * scale]), sizes[rows], lambda i: lines[i].place)
    return grouped(Boxes.make(corners, [line.class_id for line in lines]), rows, len(sizes))
