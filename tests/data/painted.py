"""Images on which every box is a rectangle of its class's own colour, so that pixels tell where a box must be."""

from __future__ import annotations

import numpy as np

from paddle_tk.data.boxes import Boxes

# Corners of the colour cube: no mixture of one with black comes near another.
COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255], [255, 255, 255]], np.uint8
)


class PaintedImages:
    """Black images in memory, each with up to seven rectangles that do not overlap, of different classes.

    Args:
        sizes: (height, width) of each image, in pixels.
        seed: Decides the rectangles.
        crowd: Adds a crowd box over the whole of every image, of class 0.
        most: Rectangles per image at most; there may be none.
    """

    on_disk = False

    def __init__(self, sizes: list[tuple[int, int]], seed: int = 0, crowd: bool = True, most: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self.pictures = [np.zeros((*size, 3), np.uint8) for size in sizes]
        self.annotations = [_paint(picture, rng, crowd, most) for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> np.ndarray:
        return self.pictures[index]

    def boxes(self, index: int) -> Boxes:
        return self.annotations[index]

    def name(self, index: int) -> str:
        return f"picture {index}"


def _paint(picture: np.ndarray, rng: np.random.Generator, crowd: bool, most: int) -> Boxes:
    height, width = picture.shape[:2]
    rows: list[tuple[float, float, float, float]] = []
    for _ in range(int(rng.integers(0, most + 1))):
        h, w = (int(rng.integers(min(8, side), max(min(8, side) + 1, side // 3))) for side in (height, width))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        if not picture[top : top + h, left : left + w].any():
            picture[top : top + h, left : left + w] = COLOURS[len(rows)]
            rows.append((left, top, left + w, top + h))
    ids, flags = list(range(len(rows))), [False] * len(rows)
    if crowd:
        rows, ids, flags = [(0, 0, width, height), *rows], [0, *ids], [True, *flags]
    return Boxes.make(rows, ids, crowd=flags, difficult=[i % 2 == 1 for i in range(len(rows))])


def check_pixels(canvas: np.ndarray, targets: np.ndarray, slack: float) -> None:
    """Asserts that colours and boxes belong together, within ``slack`` pixels, where no box was dropped.

    Every pixel of a class's colour must lie in a box of the class, and the inside of every box must have its colour.
    """
    for class_id, colour in enumerate(COLOURS.astype(int)):
        has = np.abs(canvas.astype(int) - colour).max(axis=2) < 70
        mine = targets[targets[:, 0] == class_id, 1:].astype(np.float64)
        allowed = np.zeros_like(has)
        for x1, y1, x2, y2 in mine:
            allowed[_span(y1 - slack, y2 + slack), _span(x1 - slack, x2 + slack)] = True
            inside = has[_span(y1 + slack, y2 - slack), _span(x1 + slack, x2 - slack)]
            assert inside.all(), f"class {class_id} is not where its box is"
        assert not (has & ~allowed).any(), f"class {class_id} is outside of its boxes"


def _span(start: float, end: float) -> slice:
    """Returns the pixels that lie wholly in start..end."""
    return slice(max(0, int(np.ceil(start))), max(0, int(np.floor(end))))
