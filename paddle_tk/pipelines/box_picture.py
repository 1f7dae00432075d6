"""An image with the objects found in it: boxes with names and scores."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddle_tk.pipelines.label_picture import enlarged, shortened, spelled

_LEAST_TEXT, _TEXT_SHARE = 12, 1 / 50  # pixels; share of the longer side
_LEAST_LINE, _LINE_SHARE = 2, 1 / 400
_GOLDEN = (5**0.5 - 1) / 2  # steps by it spread any number of hues evenly
_SHADES = ((0.9, 1.0), (0.75, 0.75), (0.5, 1.0))  # saturation and value, in turn
Colour = tuple[int, int, int]
Bar = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom just outside


def box_picture(
    image: np.ndarray,
    boxes: np.ndarray,
    names: Sequence[str],
    class_ids: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
) -> np.ndarray:
    """Draws detections on a copy of an image, the best on top.

    Args:
        image: uint8 RGB, (H, W, 3); enlarged without smoothing where both sides are below 256 px.
        boxes: (K, 4): x1, y1, x2, y2 in pixels of the image.
        names: The class of each box; where no font on this machine can spell it, "class <id>" is written.
        class_ids: The class id of each; decides on the colour.
        scores: The score of each, 0..1.

    Returns:
        uint8 RGB, as large as the image or a whole multiple of it.

    Raises:
        ValueError: Boxes, names, ids and scores are not as many.
    """
    if not len(boxes) == len(names) == len(class_ids) == len(scores):
        counts = (len(boxes), len(names), len(class_ids), len(scores))
        raise ValueError(f"boxes, names, class ids and scores must be as many, got {counts}")
    picture = Image.fromarray(enlarged(image))
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * (picture.width / image.shape[1])
    sides = [_pixels(box, picture.size) for box in corners]
    draw, longer = ImageDraw.Draw(picture), max(picture.size)
    line, size = max(_LEAST_LINE, round(longer * _LINE_SHARE)), max(_LEAST_TEXT, round(longer * _TEXT_SHARE))
    best_first = np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist()
    for i in reversed(best_first):
        draw.rectangle(sides[i], outline=class_colour(int(class_ids[i])), width=line)
    taken: list[Bar] = []
    for i in best_first:
        # A long name may go along its box, but not hide the rest of the picture.
        room = max(sides[i][2] - sides[i][0], picture.width // 2)
        text, font = _label(names[i], int(class_ids[i]), float(scores[i]), size, room)
        taken.append(_place(sides[i], (round(font.getlength(text)) + size, size * 3 // 2), picture.size, taken))
        _write(draw, taken[-1], text, font, class_colour(int(class_ids[i])))
    return np.array(picture)


def class_colour(class_id: int) -> Colour:
    """Returns the RGB colour of a class, 0..255: the same in every picture, neighbours far apart."""
    saturation, value = _SHADES[class_id % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _pixels(box: np.ndarray, size: tuple[int, int]) -> Bar:
    """Returns the first and last column and row of a box, inside the picture."""
    left, top, right, bottom = (round(side) for side in box.tolist())
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right - 1, left), size[0] - 1), min(max(bottom - 1, top), size[1] - 1)


def _label(name: str, class_id: int, score: float, size: int, width: int) -> tuple[str, ImageFont.FreeTypeFont]:
    text, font = spelled(name, class_id, size)
    room = width - size - font.getlength(f" {score:.2f}")
    return f"{shortened(text, font, room)} {score:.2f}", font


def _place(box: Bar, bar: tuple[int, int], size: tuple[int, int], taken: Sequence[Bar]) -> Bar:
    """Returns where a label bar goes: above the box, else in or below it, where no other label is if possible."""
    width, height = min(bar[0], size[0]), min(bar[1], size[1])
    left = min(box[0], size[0] - width)
    tops = (box[1] - height, box[1], box[3] + 1, box[3] + 1 - height)
    inside = [top for top in tops if 0 <= top <= size[1] - height] or [min(max(box[1], 0), size[1] - height)]
    places = [(left, top, left + width, top + height) for top in inside]
    return next((place for place in places if not any(_touch(place, other) for other in taken)), places[0])


def _touch(a: Bar, b: Bar) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _write(draw: ImageDraw.ImageDraw, bar: Bar, text: str, font: ImageFont.FreeTypeFont, colour: Colour) -> None:
    draw.rectangle((bar[0], bar[1], bar[2] - 1, bar[3] - 1), fill=colour)
    # Perceived lightness (ITU-R BT.601): dark letters on light bars.
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128
    ink = (0, 0, 0) if light else (255, 255, 255)
    draw.text((bar[0] + font.size / 2, (bar[1] + bar[3]) / 2), text, fill=ink, font=font, anchor="lm")
