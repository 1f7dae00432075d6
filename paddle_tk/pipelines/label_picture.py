"""An image with its predicted class written above it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from matplotlib import get_data_path
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

_LEAST_SIDE = 256  # pixels; smaller images are enlarged by a whole factor
_BAR, _TEXT = (32, 32, 32), (255, 255, 255)
_LATIN = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
# Tried where the shipped font lacks a letter; what is installed differs from machine to machine.
_WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei")


def label_picture(image: np.ndarray, name: str, class_id: int, score: float) -> np.ndarray:
    """Puts a bar with "name score" above an image.

    Args:
        image: uint8 RGB, (H, W, 3); enlarged without smoothing where both sides are below 256 px.
        name: The class; where no font on this machine can spell it, "class <id>" is written.
        class_id: Its id.
        score: Its probability, 0..1.

    Returns:
        uint8 RGB, at least 256 px wide.
    """
    picture = enlarged(image)
    width = max(_LEAST_SIDE, picture.shape[1])
    height = max(24, width // 16)
    bar = Image.new("RGB", (width, height), _BAR)
    text, font = spelled(name, class_id, height * 2 // 3)
    room = width - height // 2 - font.getlength(f" {score:.2f}")
    text = shortened(text, font, room)
    ImageDraw.Draw(bar).text((height // 4, height // 2), f"{text} {score:.2f}", fill=_TEXT, font=font, anchor="lm")
    sides = width - picture.shape[1]
    if sides:
        picture = cv2.copyMakeBorder(
            picture, 0, 0, sides // 2, sides - sides // 2, cv2.BORDER_CONSTANT, value=(*_BAR, 0)
        )
    return np.concatenate([np.asarray(bar), picture])


def enlarged(image: np.ndarray) -> np.ndarray:
    """Returns an image whose longer side has at least 256 px, enlarged by a whole factor without smoothing."""
    height, width = image.shape[:2]
    factor = -(-_LEAST_SIDE // max(height, width))
    if factor <= 1:
        return image
    return np.asarray(cv2.resize(image, (width * factor, height * factor), interpolation=cv2.INTER_NEAREST))


@lru_cache(maxsize=1024)
def spelled(name: str, class_id: int, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """Returns the name and a font that has every letter of it, or "class <id>" where none on this machine does."""
    for path in (str(_LATIN), *_installed_wide_fonts()):
        if all(FT2Font(path).get_char_index(ord(letter)) for letter in name):
            return name, ImageFont.truetype(path, size)
    return f"class {class_id}", ImageFont.truetype(str(_LATIN), size)


@lru_cache(maxsize=1)
def _installed_wide_fonts() -> tuple[str, ...]:
    found = []
    for family in _WIDE_FONTS:
        try:
            found.append(findfont(FontProperties(family=family), fallback_to_default=False))
        except ValueError:
            continue
    return tuple(found)


def shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Returns the text, its end cut off where it is wider than ``room`` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"
