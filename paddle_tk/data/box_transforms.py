"""Augmentation and evaluation transforms for images with boxes: uint8 RGB throughout, normalised at the very end.

Every source image is scaled once, straight to where it goes on the canvas, and by ``processing.resize_image``, so that
training sees pixels made like those of evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np

from paddle_tk import processing
from paddle_tk.data.box_batches import BatchSizes
from paddle_tk.data.box_geometry import Placement, Rect, Size, fit, mosaic_cells, move_boxes, place, safe_crop
from paddle_tk.data.boxes import Boxes
from paddle_tk.data.streams import Streamed
from paddle_tk.errors import BadInput
from paddle_tk.types import Preprocessing

_MIXUP_BETA = 32.0  # both parameters: weights of 0.5 +- 0.06
_LEVELS = np.arange(256, dtype=np.float64)

Sample = tuple[np.ndarray, np.ndarray]


@runtime_checkable
class BoxedImages(Protocol):
    """Images with boxes, readable in any order and from several processes, such as a ``DetectionSplit``."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """Returns image ``index``: uint8 RGB, (H, W, 3)."""

    def boxes(self, index: int) -> Boxes:
        """Returns what is annotated in image ``index``."""

    def name(self, index: int) -> str:
        """Returns a name for image ``index`` that a person can find it by."""


class _TileDraws(NamedTuple):
    """Uniform draws that decide about one image on a canvas."""

    crop: float
    scale: float
    y: float
    x: float
    flip: float
    vertical: float
    hue: float
    saturation: float
    value: float


class _CanvasDraws(NamedTuple):
    """Uniform draws that decide about one canvas and its four possible images."""

    mosaic: float
    centre: tuple[float, float]
    partners: list[float]
    tiles: list[_TileDraws]

    @classmethod
    def make(cls, rng: np.random.Generator) -> _CanvasDraws:
        mosaic, y, x, *partners = rng.random(6).tolist()
        return cls(mosaic, (y, x), partners, [_TileDraws(*row) for row in rng.random((4, 9)).tolist()])


class BoxEvalTransform:
    """What a deployed model does with an image, and where its boxes then are.

    Args:
        preprocessing: Saved beside the model.

    Raises:
        BadInput: ``center_crop``, which would cut objects off.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        _check_resize(preprocessing)
        self.size = preprocessing.size
        self._preprocessing = preprocessing.to_dict()
        self._mode = preprocessing.resize

    def __call__(self, image: np.ndarray, boxes: Boxes) -> Sample:
        """Prepares one image.

        Args:
            image: uint8 RGB, (H', W', 3).
            boxes: What is annotated in it.

        Returns:
            The input, float32 (3, H, W), and the targets, float32 (n, 5): class, x1, y1, x2, y2 in pixels of the input,
            without crowd boxes and otherwise complete.
        """
        shown = boxes.select(~boxes.crowd)
        placement = fit(Rect(0, 0, image.shape[0], image.shape[1]), self.size, self._mode)
        xyxy, which = move_boxes(shown.xyxy, placement)
        return processing.preprocess(image, self._preprocessing), _targets(xyxy, shown.class_ids[which])


class BoxTrainTransform:
    """Random changes to an image and, in step, to its boxes.

    One image, or four as a mosaic, are each cropped, scaled, placed, mirrored and recoloured on their own, and put on a
    canvas of the padding's grey; two canvases may be blended. Without jitter and mosaic the resize is that of
    evaluation. Every step reads its own place in the sample's random numbers, so switching one off leaves the others as
    they were; the crop, which tries several times, draws after all of them.

    Args:
        preprocessing: The evaluation preprocessing.
        flip: Probability of mirroring an image left to right.
        vertical_flip: Probability of mirroring it upside down.
        scale_jitter: [min, max] of a factor on the size that evaluation would give the image; larger images show a
            random window, smaller ones stand in a random place. None: none; images of a mosaic then have factor 1.
        crop: Probability of cutting out a part that leaves objects whole enough, see ``safe_crop``.
        hsv: Largest change of hue (share of the colour circle), saturation and value (share of the level), see
            ``adjust_hsv``.
        mosaic: Probability of a mosaic of four images (Bochkovskiy et al. 2020, arXiv 2004.10934): they meet in a point
            of the canvas's middle half, each in its own cell.
        mixup: Probability of blending with the canvas of another image, weight ~ Beta(32, 32), both images' boxes kept
            (after Zhang et al. 2019, arXiv 1902.04103).
        mosaic_off_epochs: The last epochs, which go without mosaic and mixup (Ge et al. 2021, arXiv 2107.08430).
        epochs: Epochs of the training; needed for ``mosaic_off_epochs``.
        multi_scale: [min, max] of a factor on the input size; each batch draws a size whose sides are multiples of 32.
        min_side: Boxes narrower or lower than this, in pixels of the input, are dropped.
        min_visible: Boxes of which less than this share of the area is left are dropped, 0..1.

    Attributes:
        size: (height, width) of evaluation.
        largest_size: The largest that a batch may have.

    Raises:
        BadInput: The resize is ``center_crop``, a range is upside down, no multiple of 32 is in the range of
            ``multi_scale``, or ``epochs`` is missing.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        flip: float = 0.5,
        vertical_flip: float = 0.0,
        scale_jitter: Sequence[float] | None = (0.5, 1.5),
        crop: float = 0.0,
        hsv: Sequence[float] = (0.015, 0.7, 0.4),
        mosaic: float = 0.0,
        mixup: float = 0.0,
        mosaic_off_epochs: int = 0,
        epochs: int | None = None,
        multi_scale: Sequence[float] | None = None,
        min_side: float = 2.0,
        min_visible: float = 0.1,
    ) -> None:
        _check_resize(preprocessing)
        if mosaic_off_epochs and epochs is None:
            raise BadInput(
                f"data.mosaic_off_epochs={mosaic_off_epochs} counts from an end that is not known", "give epochs"
            )
        self._p = preprocessing
        self.size = preprocessing.size
        self._flip, self._vertical = flip, vertical_flip
        self._jitter = _checked_range("scale_jitter", scale_jitter)
        self._crop = crop
        self._hsv = (float(hsv[0]), float(hsv[1]), float(hsv[2]))
        self._mosaic, self._mixup = mosaic, mixup
        self._mixing_epochs = math.inf if epochs is None else epochs - mosaic_off_epochs
        self._sizes = BatchSizes(preprocessing.size, _checked_range("multi_scale", multi_scale))
        self.largest_size = self._sizes.sizes[-1]
        self._least = {"min_side": min_side, "min_visible": min_visible}

    def size_at(self, seed: int, epoch: int, step: int) -> Size:
        """Returns (height, width) for batch ``step`` of an epoch; it depends on the arguments alone."""
        return self._sizes.at(seed, epoch, step)

    def __call__(
        self, split: BoxedImages, index: int, rng: np.random.Generator, *, epoch: int = 0, size: Size | None = None
    ) -> Sample:
        """Reads and augments one image, and those that are mixed with it.

        Args:
            split: The images.
            index: Which of them.
            rng: The only source of randomness; fresh for each sample.
            epoch: From 0; decides whether images are mixed.
            size: (height, width) of the result; None: the evaluation size.

        Returns:
            The input, float32 (3, H, W), contiguous, and the targets, float32 (n, 5): class, x1, y1, x2, y2 in pixels
            of the input, without crowd boxes.
        """
        # Everything but crops is drawn before anything is used, so that no draw depends on what another decided.
        mixup, partner = rng.random(2).tolist()
        weight = float(rng.beta(_MIXUP_BETA, _MIXUP_BETA))
        draws, other_draws = _CanvasDraws.make(rng), _CanvasDraws.make(rng)
        mixing, size = epoch < self._mixing_epochs, size or self.size
        canvas, targets = self._compose(split, index, draws, rng, size, mixing)
        if mixing and mixup < self._mixup:
            other, other_targets = self._compose(split, _partner(split, index, partner), other_draws, rng, size, mixing)
            canvas = cv2.addWeighted(canvas, weight, other, 1 - weight, 0)
            targets = np.concatenate([targets, other_targets])
        return processing.normalize(canvas, self._p.mean, self._p.std), targets

    def _compose(
        self,
        split: BoxedImages,
        index: int,
        draws: _CanvasDraws,
        rng: np.random.Generator,
        size: Size,
        mixing: bool,
    ) -> Sample:
        """Returns a canvas, uint8 (H, W, 3), with one image or four, and its targets."""
        canvas = np.full((*size, 3), self._p.pad_value, np.uint8)
        if not (mixing and draws.mosaic < self._mosaic):
            return canvas, self._paste(canvas, None, split, index, draws.tiles[0], rng)
        indices = [index, *(_partner(split, index, share) for share in draws.partners)]
        cells = zip(mosaic_cells(size, draws.centre), indices, draws.tiles, strict=False)
        return canvas, np.concatenate([self._paste(canvas, cell, split, i, tile, rng) for cell, i, tile in cells])

    def _paste(
        self,
        canvas: np.ndarray,
        cell: Rect | None,
        split: BoxedImages,
        index: int,
        draws: _TileDraws,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Puts an image on the canvas, in a cell of a mosaic or on all of it, and returns its targets."""
        image, boxes = split.image(index), split.boxes(index)
        boxes = boxes.select(~boxes.crowd)
        source = Rect(0, 0, image.shape[0], image.shape[1])
        if draws.crop < self._crop:
            source = safe_crop(boxes.xyxy, (source.height, source.width), rng)
        placement = self._place(source, (canvas.shape[0], canvas.shape[1]), cell, draws)
        placement.target.of(canvas)[:] = self._pixels(image, placement, draws)
        xyxy, which = move_boxes(boxes.xyxy, placement, **self._least)
        return _targets(xyxy, boxes.class_ids[which])

    def _place(self, source: Rect, size: Size, cell: Rect | None, draws: _TileDraws) -> Placement:
        fitted = fit(source, size, self._p.resize)
        horizontal, vertical = draws.flip < self._flip, draws.vertical < self._vertical
        if self._jitter is None and cell is None:
            return Placement(source, fitted.target, horizontal, vertical)
        low, high = self._jitter or (1.0, 1.0)
        factor = low + (high - low) * draws.scale
        scale = (fitted.target.height / source.height * factor, fitted.target.width / source.width * factor)
        placed = place(source, cell or Rect(0, 0, *size), scale, (draws.y, draws.x))
        return Placement(placed.source, placed.target, horizontal, vertical)

    def _pixels(self, image: np.ndarray, placement: Placement, draws: _TileDraws) -> np.ndarray:
        target = placement.target
        tile = processing.resize_image(placement.source.of(image), (target.height, target.width))
        if any(self._hsv):
            changes = (2 * draw - 1 for draw in (draws.hue, draws.saturation, draws.value))
            tile = adjust_hsv(tile, *(gain * change for gain, change in zip(self._hsv, changes, strict=True)))
        if placement.horizontal or placement.vertical:
            both = placement.horizontal and placement.vertical
            tile = cv2.flip(tile, -1 if both else int(placement.horizontal))
        return tile


def _partner(split: BoxedImages, index: int, share: float) -> int:
    """Returns an image to mix with another: any one, or of those that are read with it where reading one costs more."""
    return split.partner(index, share) if isinstance(split, Streamed) else int(share * len(split))


def adjust_hsv(image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """Turns the hue and scales saturation and value of every pixel; grey stays grey.

    Args:
        image: uint8 RGB, (H, W, 3).
        hue: Share of the colour circle by which hues are turned, from red towards yellow where positive.
        saturation: Saturations are multiplied by 1 + this, and cut at the top.
        value: Values (the largest of R, G, B) are multiplied by 1 + this, and cut at the top.

    Returns:
        uint8 RGB, (H, W, 3).
    """
    table = np.empty((1, 256, 3), np.uint8)
    # OpenCV divides the circle into 256 on the way there and into 255 on the way back.
    table[0, :, 0] = np.rint((_LEVELS / 256 + hue) % 1 * 255)
    table[0, :, 1] = np.rint(_LEVELS * (1 + saturation)).clip(0, 255)
    table[0, :, 2] = np.rint(_LEVELS * (1 + value)).clip(0, 255)
    levels = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    return np.asarray(cv2.cvtColor(cv2.LUT(levels, table), cv2.COLOR_HSV2RGB_FULL))


def _targets(xyxy: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Returns float32 (n, 5), without boxes whose sides vanish in float32, which would divide by zero in a loss."""
    out = np.concatenate([class_ids[:, None], xyxy], axis=1, dtype=np.float32)
    return np.asarray(out[(out[:, 3:] > out[:, 1:3]).all(axis=1)])


def _check_resize(preprocessing: Preprocessing) -> None:
    if preprocessing.resize == "center_crop":
        raise BadInput("data.resize=center_crop would cut objects off", "choose letterbox or stretch")


def _checked_range(name: str, bounds: Sequence[float] | None) -> tuple[float, float] | None:
    if bounds is None:
        return None
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
        raise BadInput(f"data.{name}={list(bounds)} is no range", "give [min, max] with 0 < min <= max")
    return float(bounds[0]), float(bounds[1])
