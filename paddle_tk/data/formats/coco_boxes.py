"""From the columns of a COCO file to the images of a split with their boxes, checked against the image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from paddle_tk.data.boxes import Boxes, BoxTable, DetectionSplit, check_size
from paddle_tk.data.formats.coco_ids import Ids
from paddle_tk.data.formats.coco_table import NOT_STATED, CocoTable
from paddle_tk.data.formats.detection_boxes import clipped_corners, grouped, spans_area
from paddle_tk.data.formats.detection_files import ImageFile
from paddle_tk.errors import DataError


def coco_split(
    file: Path,
    table: CocoTable,
    paths: Sequence[str],
    files: Mapping[str, ImageFile],
    category_ids: Sequence[int],
    known_faults: frozenset[int],
) -> tuple[DetectionSplit, np.ndarray, list[int | str]]:
    """Makes one split.

    Args:
        file: The annotation file, for messages.
        table: Its content.
        paths: The path of each of its images.
        files: The readable ones.
        category_ids: The category of each class.
        known_faults: Annotations that may lack an area, and are then left out.

    Returns:
        The readable images with their boxes, int64: which of the images they are, and the ids of the annotations left
        out.

    Raises:
        DataError: An annotation cannot be used; the message names the file, the entry and the value.
    """
    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    for row, (path, (width, height)) in enumerate(zip(paths, table.sides.tolist(), strict=True)):
        found = files.get(path)
        if found is not None:
            actual = (found.height, found.width)
            stated = tuple(
                real if said == NOT_STATED else said for said, real in zip((height, width), actual, strict=True)
            )
            if stated != actual:
                check_size(path, image_entry(file, table, row), (stated[0], stated[1]), actual)
            kept.append(row)
            sizes.append(actual)
    rows = np.array(kept, np.int64)
    frame = np.array(sizes, np.int64).reshape(-1, 2)
    boxes, faults = _boxes(file, table, rows, category_ids, frame, known_faults)
    return DetectionSplit([paths[row] for row in kept], frame, boxes), rows, faults


def image_entry(file: Path, table: CocoTable, row: int) -> str:
    """Names an image for a message."""
    return f"{file}: image {table.image_ids[row]}"


def _boxes(
    file: Path,
    table: CocoTable,
    rows: np.ndarray,
    category_ids: Sequence[int],
    sizes: np.ndarray,
    known_faults: frozenset[int],
) -> tuple[BoxTable, list[int | str]]:
    _check_known(file, table, "image_id", table.image_of, table.image_rows, "image")
    classes = table.category_of.places_in(Ids.of(category_ids))
    _check_known(file, table, "category_id", table.category_of, classes, "category")
    repeated = table.ids.repeated()
    if repeated is not None:
        raise DataError(f"{file}: two annotations have the id {repeated}", "give every annotation its own id")
    new_rows = np.full(len(table.image_ids), -1, np.int64)
    new_rows[rows] = np.arange(len(rows))
    places = new_rows[table.image_rows]
    corners = np.array(table.bbox)
    corners[:, 2:] += corners[:, :2]
    faulty = table.ids.among(known_faults) & ~spans_area(corners)
    kept = np.flatnonzero((places >= 0) & ~faulty)
    clipped = clipped_corners(corners[kept], sizes[places[kept]], lambda i: _entry(file, table, int(kept[i])))
    boxes = Boxes.make(
        clipped,
        classes[kept],
        crowd=table.crowd[kept],
        difficult=table.ignored[kept],
        areas=_areas(file, table, kept, clipped),
    )
    return grouped(boxes, places[kept], len(sizes)), [table.ids[i] or 0 for i in np.flatnonzero(faulty).tolist()]


def _check_known(file: Path, table: CocoTable, key: str, values: Ids, places: np.ndarray, of: str) -> None:
    unknown = np.flatnonzero(places < 0)
    if len(unknown):
        first = int(unknown[0])
        raise DataError(
            f"{file}: annotation {table.ids[first]} has the {key} {values[first]!r}, but there is no {of} with that id",
            f"add the {of} or remove the annotation",
        )


def _areas(file: Path, table: CocoTable, kept: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns the stated areas, or those of the boxes where none is stated."""
    stated = np.array(table.areas[kept])
    own = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    areas: np.ndarray = np.where(np.isnan(stated), own, stated)
    if (areas < 0).any():
        wrong = int(np.argmin(areas))
        raise DataError(
            f"{file}: annotation {table.ids[int(kept[wrong])]} has the area {float(stated[wrong])}",
            "give it in square pixels, from 0",
        )
    return areas


def _entry(file: Path, table: CocoTable, index: int) -> str:
    bbox = ", ".join(f"{value:g}" for value in table.bbox[index].tolist())
    return f"{file}: annotation {table.ids[index]} of image {table.image_of[index]}: bbox [{bbox}]"
