"""Where an image, or a part of it, goes on a canvas, and what becomes of its boxes; NumPy only.

Boxes are float64 (n, 4) xyxy in pixels, with the origin at the upper left corner of the first pixel, so that a box over
a whole image is (0, 0, width, height). Rectangles of pixels are whole numbers: cutting and scaling then give boxes the
very factors the pixels got.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paddle_tk import processing
from paddle_tk.data.transforms import random_area

_CROP_ATTEMPTS = 10
_CROP_AREA = (0.3, 1.0)

Size = tuple[int, int]


class Rect(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """Returns a view of these pixels of an image (H, W, 3)."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Placement:
    """What part of an image is scaled to which part of a canvas.

    Attributes:
        source: Pixels of the image.
        target: Pixels of the canvas.
        horizontal: Whether the part is mirrored left to right within its target.
        vertical: Whether it is mirrored upside down within its target.
    """

    source: Rect
    target: Rect
    horizontal: bool = False
    vertical: bool = False


class Clipped(NamedTuple):
    """Boxes after a cut, all of them, in their order.

    Attributes:
        xyxy: float64, (n, 4), inside the image; of no area where nothing is left.
        visible: float64, (n,): clipped area / area before, 0..1.
        keep: bool, (n,): what is left is large enough.
    """

    xyxy: np.ndarray
    visible: np.ndarray
    keep: np.ndarray


def flip_boxes(xyxy: np.ndarray, size: Size, *, horizontal: bool = False, vertical: bool = False) -> np.ndarray:
    """Mirrors boxes as their image is mirrored.

    Args:
        xyxy: float64, (n, 4); left as it is.
        size: (height, width) of the image in pixels.
        horizontal: Left to right.
        vertical: Upside down.

    Returns:
        float64, (n, 4). Twice is the identity to the last bit for coordinates that are multiples of 2^-32 px (in images
        up to 2^20 px wide); others are rounded once, by at most half a unit in the last place of the image's side.
    """
    out = xyxy.copy()
    if horizontal:
        out[:, [0, 2]] = size[1] - xyxy[:, [2, 0]]
    if vertical:
        out[:, [1, 3]] = size[0] - xyxy[:, [3, 1]]
    return out


def clip_boxes(xyxy: np.ndarray, size: Size, *, min_side: float = 0.0, min_visible: float = 0.0) -> Clipped:
    """Cuts boxes at the borders of an image and tells how much of each is left.

    Args:
        xyxy: float64, (n, 4), each with an area above 0.
        size: (height, width) of the image in pixels.
        min_side: The least width and height that is kept, in pixels.
        min_visible: The least share of a box's area that is kept, 0..1. A box with nothing left is never kept.

    Returns:
        The clipped boxes with their visible shares, and which to keep.
    """
    clipped = np.clip(xyxy, 0.0, np.array([size[1], size[0], size[1], size[0]], np.float64))
    sides = clipped[:, 2:] - clipped[:, :2]
    before = xyxy[:, 2:] - xyxy[:, :2]
    visible = (sides[:, 0] * sides[:, 1]) / (before[:, 0] * before[:, 1])
    keep = (visible > 0) & (visible >= min_visible) & (sides >= min_side).all(axis=1)
    return Clipped(clipped, visible, keep)


def move_boxes(
    xyxy: np.ndarray, placement: Placement, *, min_side: float = 0.0, min_visible: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Takes an image's boxes to the canvas on which a part of it is placed.

    Args:
        xyxy: float64, (n, 4), in pixels of the image.
        placement: What goes where.
        min_side: As in ``clip_boxes``, in pixels of the canvas.
        min_visible: As in ``clip_boxes``.

    Returns:
        (boxes, which): float64 (k, 4) inside the placement's target, in pixels of the canvas, and the indices (k,) of
        the boxes that were kept.
    """
    source, target = placement.source, placement.target
    scale = np.array([target.width / source.width, target.height / source.height] * 2)
    moved = (xyxy - np.array([source.left, source.top] * 2, np.float64)) * scale
    size = (target.height, target.width)
    cut = clip_boxes(moved, size, min_side=min_side, min_visible=min_visible)
    which = np.flatnonzero(cut.keep)
    kept = flip_boxes(cut.xyxy[which], size, horizontal=placement.horizontal, vertical=placement.vertical)
    return kept + np.array([target.left, target.top] * 2, np.float64), which


def fit(source: Rect, size: Size, mode: str) -> Placement:
    """Places part of an image by the rule of ``processing.resize_image``.

    Args:
        source: The part.
        size: (height, width) of the canvas in pixels.
        mode: "letterbox" or "stretch".
    """
    scale_x, scale_y, left, top = processing.resize_geometry((source.height, source.width), size, mode)
    return Placement(source, Rect(int(top), int(left), round(source.height * scale_y), round(source.width * scale_x)))


def place(source: Rect, cell: Rect, scale: tuple[float, float], at: tuple[float, float]) -> Placement:
    """Places part of an image in a cell of a canvas: whole where it is smaller than the cell, else a window of it.

    Args:
        source: The part.
        cell: Pixels of the canvas, at least one.
        scale: (vertical, horizontal) pixels of the canvas per pixel of the image. What is done differs from it by
            rounding to whole pixels.
        at: (vertical, horizontal), each 0 <= at < 1: where between the first and the last possible position.
    """
    tops = _place_side(source.top, source.height, cell.top, cell.height, scale[0], at[0])
    lefts = _place_side(source.left, source.width, cell.left, cell.width, scale[1], at[1])
    return Placement(Rect(tops[0], lefts[0], tops[1], lefts[1]), Rect(tops[2], lefts[2], tops[3], lefts[3]))


def _place_side(
    start: int, length: int, cell_start: int, cell_length: int, scale: float, at: float
) -> tuple[int, int, int, int]:
    scaled = max(1, round(length * scale))
    if scaled <= cell_length:
        return start, length, cell_start + int(at * (cell_length - scaled + 1)), scaled
    window = min(length, max(1, round(cell_length / scale)))
    return start + int(at * (length - window + 1)), window, cell_start, cell_length


def mosaic_cells(size: Size, centre: Sequence[float]) -> list[Rect]:
    """Cuts a canvas into four cells that meet in a point of its middle half.

    Args:
        size: (height, width) of the canvas in pixels.
        centre: (vertical, horizontal), each 0..1: where in the middle half.

    Returns:
        Upper left, upper right, lower left and lower right; those without pixels (of a canvas of one or two pixels) are
        left out.
    """
    y, x = (round(side * (0.25 + 0.5 * share)) for side, share in zip(size, centre, strict=True))
    rows, columns = ((0, y), (y, size[0] - y)), ((0, x), (x, size[1] - x))
    cells = [Rect(top, left, height, width) for top, height in rows for left, width in columns]
    return [cell for cell in cells if cell.height and cell.width]


def safe_crop(xyxy: np.ndarray, size: Size, rng: np.random.Generator, *, least_visible: float = 0.5) -> Rect:
    """Draws a part of an image that cuts no object badly.

    A part is 0.3 to 1 of the image's area with an aspect ratio of 3/4 to 4/3. It must show at least one object (where
    there is any), and of every object it shows at least ``least_visible`` of the area. The idea of drawing until the
    overlap with the objects is good is that of SSD (Liu et al. 2016, arXiv 1512.02325).

    Args:
        xyxy: float64, (n, 4), in pixels of the image.
        size: (height, width) of the image in pixels.
        rng: Source of randomness.
        least_visible: Share of a shown object's area, 0..1.

    Returns:
        The part; the whole image after ten draws that did not fit.
    """
    for _ in range(_CROP_ATTEMPTS):
        part = Rect(*random_area(size[0], size[1], _CROP_AREA, rng))
        corner = np.array([part.left, part.top] * 2, np.float64)
        visible = clip_boxes(xyxy - corner, (part.height, part.width)).visible
        shown = visible > 0
        if (shown.any() or not len(xyxy)) and (visible[shown] >= least_visible).all():
            return part
    return Rect(0, 0, size[0], size[1])
