"""Draws pictures of hand-written digits on textured paper, in integer arithmetic: the same bytes on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from paddle_tk.data.boxes import Boxes

SIDE = 128
DIGITS_PER_CANVAS = (2, 6)
DIGIT_SIDES = (20, 24, 28, 32, 36, 40, 48, 56)
# Later digits may cover so much of a digit's ink, and of its box, in per cent.
_HIDDEN_INK, _HIDDEN_BOX = 25, 40
_ATTEMPTS = 40
_INK_LEVEL, _INK_SOFTNESS = 96, 64  # of 255: where ink begins to show, and after how much more it is opaque
_DRAWN = 96  # of 255: opacity from which a pixel counts as ink of the digit's box
# Dark ink on light paper of any hue: least channel of paper, greatest of ink, least difference of their grey levels.
_PAPER, _INK, _CONTRAST = 150, 100, 80
_TEXTURE = 16  # a channel of the paper varies by so much either way
_STEPS = 64  # positions between two source pixels
_HIGHEST_LEVEL = 16  # of scikit-learn's digits
_SOURCE = 8  # their side in pixels


@dataclass(frozen=True)
class Canvas:
    """A drawn picture: uint8 RGB (SIDE, SIDE, 3), its boxes, and which source digits are on it."""

    image: np.ndarray
    boxes: Boxes
    digits: tuple[int, ...]


@dataclass
class _Placed:
    """A digit on the canvas.

    Attributes:
        window: The rows and columns it was drawn in.
        opacity: 0..255, of the window's pixels.
        box: x1, y1, x2, y2 of its ink.
        visible: bool (SIDE, SIDE), its ink that no later digit covers.
        ink: Pixels of ink when it was drawn.
    """

    window: tuple[slice, slice]
    opacity: np.ndarray
    box: tuple[int, int, int, int]
    visible: np.ndarray
    ink: int

    def is_hidden_by(self, other: _Placed) -> bool:
        """Whether too little of this digit would still show below ``other``."""
        across = min(self.box[2], other.box[2]) - max(self.box[0], other.box[0])
        down = min(self.box[3], other.box[3]) - max(self.box[1], other.box[1])
        if across <= 0 or down <= 0:
            return False
        if across * down * 100 > min(_area(self.box), _area(other.box)) * _HIDDEN_BOX:
            return True
        left = int((self.visible & ~other.visible).sum())
        return left * 100 < self.ink * (100 - _HIDDEN_INK)


def draw_canvas(levels: np.ndarray, labels: np.ndarray, pool: list[int], random: np.random.RandomState) -> Canvas:
    """Draws one picture.

    Args:
        levels: Source digits, int64 (n, 8, 8), 0..16.
        labels: Their classes, (n,).
        pool: Source digits yet to be used, the next one last; those used are taken off.
        random: ``RandomState`` and only its integers, because NumPy keeps that stream the same for ever.
    """
    paper = _paper(random)
    image = paper.copy()
    placed: list[_Placed] = []
    digits: list[int] = []
    wanted = random.randint(DIGITS_PER_CANVAS[0], DIGITS_PER_CANVAS[1] + 1)
    while len(digits) < wanted and pool:
        found = _place(levels[pool[-1]], placed, random)
        if found is None:
            break
        for other in placed:
            other.visible &= ~found.visible
        placed.append(found)
        digits.append(pool.pop())
        image[found.window] = _inked(image[found.window], found.opacity, paper[found.window], random)
    boxes = Boxes.make([one.box for one in placed], labels[digits])
    return Canvas(image.astype(np.uint8), boxes, tuple(digits))


def _place(levels: np.ndarray, placed: list[_Placed], random: np.random.RandomState) -> _Placed | None:
    """Finds a size and a place where no digit gets hidden too much; None where there seems to be none."""
    for _ in range(_ATTEMPTS):
        height = DIGIT_SIDES[random.randint(len(DIGIT_SIDES))]
        width = height * random.randint(85, 106) // 100
        top, left = random.randint(SIDE - height + 1), random.randint(SIDE - width + 1)
        opacity = _enlarged(levels, height, width)
        window = (slice(top, top + height), slice(left, left + width))
        rows, columns = np.nonzero(opacity >= _DRAWN)
        box = (left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1)
        ink = np.zeros((SIDE, SIDE), np.bool_)
        ink[window] = opacity >= _DRAWN
        found = _Placed(window, opacity, box, ink, len(rows))
        if not any(other.is_hidden_by(found) for other in placed):
            return found
    return None


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _enlarged(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a source digit as opacity, int64 (height, width), 0..255: cubic interpolation, then a steeper slope."""
    scale = (2 * _STEPS**3) ** 2 * _HIGHEST_LEVEL
    smooth = (_cubic(height) @ levels @ _cubic(width).T) * 255 // scale
    opacity: np.ndarray = np.clip((smooth - _INK_LEVEL) * 255 // _INK_SOFTNESS, 0, 255)
    return opacity


@cache
def _cubic(size: int) -> np.ndarray:
    """Returns Catmull-Rom weights, int64 (size, 8), of 8 source pixels for each output pixel, times 2 steps^3.

    Beyond the source lies paper, so the weights of a row may sum to less. Source: E. Catmull and R. Rom, A class of
    local interpolating splines, 1974, with tension 1/2.
    """
    weights = np.zeros((size, _SOURCE + 4), np.int64)
    for i in range(size):
        position = ((2 * i + 1) * _SOURCE - size) * _STEPS // (2 * size)  # of the pixel's centre, in steps
        base, t = divmod(position, _STEPS)
        s = _STEPS
        parts = (
            -(t**3) + 2 * t**2 * s - t * s**2,
            3 * t**3 - 5 * t**2 * s + 2 * s**3,
            -3 * t**3 + 4 * t**2 * s + t * s**2,
            t**3 - t**2 * s,
        )
        weights[i, base + 1 : base + 5] += parts
    return weights[:, 2 : 2 + _SOURCE]


def _paper(random: np.random.RandomState) -> np.ndarray:
    """Returns coloured paper with smooth stains and a gradient, int64 (SIDE, SIDE, 3), 0..255."""
    colour = random.randint(_PAPER, 256 - _TEXTURE, 3)
    cells = random.randint(3, 11)
    grid = random.randint(-_TEXTURE, _TEXTURE + 1, (cells + 1, cells + 1, 3))
    grid += _TEXTURE * random.randint(-1, 2, 3) * np.arange(cells + 1)[:, None, None] // (2 * cells)
    weights = _linear(cells)
    stains = np.tensordot(weights, np.tensordot(weights, grid, (1, 1)), (1, 1)) // SIDE**2  # (rows, columns, 3)
    paper: np.ndarray = np.clip(colour + stains, 0, 255)
    return paper


def _linear(cells: int) -> np.ndarray:
    """Returns weights, int64 (SIDE, cells + 1), in units of 1 / SIDE, that interpolate a grid of so many cells."""
    weights = np.zeros((SIDE, cells + 1), np.int64)
    for i in range(SIDE):
        cell, rest = divmod(i * cells, SIDE)
        weights[i, cell], weights[i, cell + 1] = SIDE - rest, rest
    return weights


def _inked(image: np.ndarray, opacity: np.ndarray, paper: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draws one digit in a colour that stands out from the paper below it."""
    below = paper[opacity >= _DRAWN]
    ground = _grey(below.sum(axis=0) // len(below))
    colour = random.randint(_INK, size=3)
    while ground - _grey(colour) < _CONTRAST:
        colour = random.randint(_INK, size=3)
    share = opacity[..., None]
    drawn: np.ndarray = (image * (255 - share) + colour * share + 127) // 255
    return drawn


def _grey(colour: np.ndarray) -> int:
    return int(colour @ np.array([299, 587, 114])) // 1000
