"""Boxes as annotations give them: refused where they are wrong, cut at the image's edge where they reach over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paddle_tk.data.boxes import Boxes, BoxTable
from paddle_tk.errors import DataError


def clipped_corners(corners: np.ndarray, sizes: np.ndarray, entry: Callable[[int], str]) -> np.ndarray:
    """Checks boxes and clips them to their images.

    Args:
        corners: float64, (n, 4): x1, y1, x2, y2 in pixels.
        sizes: int64, (n, 2): height and width of each box's image.
        entry: Names box i with its file and the value it was read from, for the message.

    Returns:
        float64, (n, 4), with 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height.

    Raises:
        DataError: A box has NaN or infinite coordinates, no area, or lies outside its image.
    """
    clipped = np.clip(corners, 0.0, sizes[:, [1, 0, 1, 0]].astype(np.float64))
    finite = np.isfinite(corners).all(axis=1)
    spans = spans_area(corners)
    bad = np.flatnonzero(~(finite & spans & spans_area(clipped)))
    if not len(bad):
        return clipped
    first = int(bad[0])
    height, width = sizes[first]
    if not finite[first]:
        why = "is not finite"
    elif not spans[first]:
        why = "has no area"
    else:
        why = f"lies outside its image of {width}x{height} px"
    more = f" ({len(bad)} boxes of this split cannot be used)" if len(bad) > 1 else ""
    raise DataError(f"{entry(first)} {why}{more}", "correct or remove the box")


def spans_area(corners: np.ndarray) -> np.ndarray:
    """Returns bool (n,): whether x1 < x2 and y1 < y2."""
    spans: np.ndarray = np.all(corners[:, 2:] > corners[:, :2], axis=1)
    return spans


def grouped(boxes: Boxes, rows: np.ndarray, count: int) -> BoxTable:
    """Sorts the boxes of a whole split by image; those of one image keep their order.

    Args:
        boxes: All of them.
        rows: int64, (n,): each box's image, 0..count-1.
        count: The number of images.
    """
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(rows, minlength=count))])
    return BoxTable(boxes.select(np.argsort(rows, kind="stable")), starts)


def first_repeated(values: Sequence[object]) -> int | None:
    """Returns the position of the first value that occurred before, None where all differ."""
    if len(set(values)) == len(values):
        return None
    seen: set[object] = set()
    for position, value in enumerate(values):
        if value in seen:
            return position
        seen.add(value)
    return None


def checked_classes(names: Sequence[object], place: str) -> tuple[str, ...]:
    """Returns class names, all of them different and none empty.

    Args:
        names: In the order of the class ids.
        place: The file and entry they were read from, for the message.

    Raises:
        DataError: There are none, or one is no text, empty or repeated.
    """
    classes = tuple(str(name).strip() if isinstance(name, str | int | float) else "" for name in names)
    if not classes:
        raise DataError(f"{place} names no classes", "add the class names")
    if "" in classes:
        position = classes.index("")
        raise DataError(f"{place}: class {position} has no name, got {names[position]!r}", "name every class")
    repeated = first_repeated(classes)
    if repeated is not None:
        raise DataError(f"{place} names the class '{classes[repeated]}' twice", "give every class a name of its own")
    return classes
