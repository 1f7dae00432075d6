"""Augmentation and evaluation transforms on uint8 RGB images, with cv2 and NumPy.

The last step of both is ``processing.normalize``; ``EvalTransform`` is ``processing.preprocess`` itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from paddle_tk import processing
from paddle_tk.errors import BadInput
from paddle_tk.types import Preprocessing

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_GREY = np.tile(_LUMA, (3, 1))
_IDENTITY = np.eye(3)
_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_CROP_ATTEMPTS = 10
_DRAWS = 7


class EvalTransform:
    """What a deployed model does with an image.

    Args:
        preprocessing: Saved beside the model.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.size = preprocessing.size
        self._preprocessing = preprocessing.to_dict()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns float32 (3, H, W) for a uint8 RGB image (H', W', 3)."""
        return processing.preprocess(image, self._preprocessing)


class TrainTransform:
    """Random changes that keep the label, in this order: crop and resize, rotate, flip, shift, colours,
    normalise.

    Each step reads its own place in one block of random numbers, so switching a step off leaves the others as
    they were. New borders are black, as in the published CIFAR-10 recipe (He et al. 2016).

    Args:
        preprocessing: The evaluation preprocessing: size, mean, std and, without ``random_resized_crop``, the
            resize.
        flip: Probability of a horizontal flip.
        crop_padding: A shift of up to this many pixels each way (padding, then a crop of the input size).
        random_resized_crop: [min, max] share of the area that is cut out, aspect ratio 3/4 to 4/3, and
            resized (Szegedy et al. 2015, "Going deeper with convolutions"); None: the whole image.
        color_jitter: Brightness, contrast and saturation are each multiplied by 1 +- this share.
        rotation_degrees: Rotation by up to this many degrees each way.

    Raises:
        BadInput: ``crop_padding`` reaches the image size.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        flip: float = 0.0,
        crop_padding: int = 0,
        random_resized_crop: Sequence[float] | None = None,
        color_jitter: float = 0.0,
        rotation_degrees: float = 0.0,
    ) -> None:
        if crop_padding >= min(preprocessing.size):
            raise BadInput(
                f"data.crop_padding={crop_padding} would move an image of {preprocessing.size} pixels out of sight",
                f"choose a padding below {min(preprocessing.size)}, usually an eighth of the size",
            )
        self.size = preprocessing.size
        self._p = preprocessing
        self._flip = flip
        self._padding = crop_padding
        self._area = None if random_resized_crop is None else (random_resized_crop[0], random_resized_crop[1])
        self._jitter = color_jitter
        self._degrees = rotation_degrees

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augments one image.

        Args:
            image: uint8 RGB, (H', W', 3); left as it is.
            rng: The only source of randomness.

        Returns:
            float32, (3, H, W), contiguous.
        """
        draws = rng.random(_DRAWS).tolist()
        image = self._resize(image, rng)
        if self._degrees:
            image = rotate(image, self._degrees * (2 * draws[0] - 1))
        if draws[1] < self._flip:
            image = cv2.flip(image, 1)
        if self._padding:
            span = 2 * self._padding + 1
            image = shift(image, int(draws[2] * span) - self._padding, int(draws[3] * span) - self._padding)
        if self._jitter:
            image = adjust_colors(image, *(1 + self._jitter * (2 * draw - 1) for draw in draws[4:7]))
        return processing.normalize(image, self._p.mean, self._p.std)

    def _resize(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        p = self._p
        if self._area is None:
            return processing.resize_image(image, p.size, p.resize, p.crop_ratio, p.pad_value)
        top, left, height, width = random_area(image.shape[0], image.shape[1], self._area, rng)
        return processing.resize_image(image[top : top + height, left : left + width], p.size)


def random_area(
    height: int, width: int, area: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draws a rectangle with a share of the image's area and an aspect ratio from 3/4 to 4/3.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        area: [min, max] share of the image's area.
        rng: Source of randomness.

    Returns:
        (top, left, height, width) in pixels, inside the image. After ten draws that did not fit: the largest
        central rectangle within the aspect ratios.
    """
    for _ in range(_CROP_ATTEMPTS):
        share, log_aspect, y, x = rng.random(4).tolist()
        pixels = height * width * (area[0] + (area[1] - area[0]) * share)
        aspect = math.exp(_LOG_ASPECT[0] + (_LOG_ASPECT[1] - _LOG_ASPECT[0]) * log_aspect)
        h, w = max(1, round(math.sqrt(pixels / aspect))), max(1, round(math.sqrt(pixels * aspect)))
        if h <= height and w <= width:
            return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
    h = min(height, max(1, round(width / math.exp(_LOG_ASPECT[0]))))
    w = min(width, max(1, round(height * math.exp(_LOG_ASPECT[1]))))
    return (height - h) // 2, (width - w) // 2, h, w


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Returns the image turned counter-clockwise about its centre, same size, black where nothing was."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR))


def shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Returns the image moved by whole pixels, same size, black where nothing was.

    Args:
        image: uint8, (H, W, 3).
        down: -H < down < H.
        right: -W < right < W.
    """
    if not down and not right:
        return image
    height, width = image.shape[:2]
    out = np.zeros_like(image)
    out[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return out


def adjust_colors(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Multiplies brightness, then contrast about the mean grey, then saturation about each pixel's grey.

    The three are linear, so they are one 3x4 matrix; values are clipped to 0..255 once, at the end.

    Args:
        image: uint8 RGB, (H, W, 3).
        brightness: Factor, 1 leaves it.
        contrast: Factor, 1 leaves it.
        saturation: Factor, 1 leaves it; 0 gives grey.
    """
    mean_grey = float(_LUMA @ cv2.mean(image)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * (saturation * _IDENTITY + (1 - saturation) * _GREY)
    matrix[:, 3] = brightness * (1 - contrast) * mean_grey
    return np.asarray(cv2.transform(image, matrix))
