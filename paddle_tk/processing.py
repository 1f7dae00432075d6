"""Pre- and post-processing: NumPy and cv2 only, one file for training, prediction and the edge runner.

It imports nothing of this package and keeps to Python 3.6 syntax (annotations that 3.6 cannot evaluate are
quoted), so that it can be copied beside a model onto an old device. All images are uint8 RGB, height x width
x 3.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

MAX_LEVEL = 255
# Of an image's (box, class) pairs the best so many are looked at: it bounds the time that suppression takes, and is
# ten times the 100 detections per image that are usually kept.
MAX_CANDIDATES = 1000


def resize_image(
    image: "np.ndarray",
    size: "tuple[int, int] | list[int]",
    mode: str = "stretch",
    crop_ratio: float = 0.875,
    pad_value: int = 114,
) -> "np.ndarray":
    """Brings an image to the network's input size.

    Args:
        image: uint8 RGB, (H, W, 3).
        size: (height, width) in pixels.
        mode: "stretch" (aspect ratio ignored), "center_crop" (scaled until it covers ``size / crop_ratio``,
            then the middle is cut out) or "letterbox" (scaled until it fits, centred on a grey ground).
        crop_ratio: Only for "center_crop", 0 < crop_ratio <= 1.
        pad_value: Only for "letterbox", grey level 0..255.

    Returns:
        uint8 RGB, (size[0], size[1], 3); the image itself where nothing has to be done.

    Raises:
        ValueError: The image has another type or shape, or the mode is unknown.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected a uint8 image of shape (H, W, 3), got {image.dtype} {image.shape}")
    height, width = int(size[0]), int(size[1])
    if mode == "stretch":
        return _scale(image, height, width)
    if mode == "center_crop":
        return _center_crop(image, height, width, crop_ratio)
    if mode == "letterbox":
        return _letterbox(image, height, width, pad_value)
    raise ValueError(f"unknown resize mode {mode!r}: stretch, center_crop or letterbox")


def _scale(image: "np.ndarray", height: int, width: int) -> "np.ndarray":
    if image.shape[:2] == (height, width):
        return image
    # Averaging areas keeps a reduced image free of aliasing; it is defined only where neither side grows.
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))


def _center_crop(image: "np.ndarray", height: int, width: int, crop_ratio: float) -> "np.ndarray":
    scaled_height, scaled_width = _covering_size(image.shape[0], image.shape[1], height, width, crop_ratio)
    scaled = _scale(image, scaled_height, scaled_width)
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    return scaled[top : top + height, left : left + width]


def _covering_size(
    source_height: int, source_width: int, height: int, width: int, crop_ratio: float
) -> "tuple[int, int]":
    if not 0 < crop_ratio <= 1:
        raise ValueError(f"crop_ratio must be above 0 and at most 1, got {crop_ratio}")
    factor = max(height / crop_ratio / source_height, width / crop_ratio / source_width)
    return max(height, round(source_height * factor)), max(width, round(source_width * factor))


def _fitting_size(source_height: int, source_width: int, height: int, width: int) -> "tuple[int, int]":
    factor = min(height / source_height, width / source_width)
    return min(height, max(1, round(source_height * factor))), min(width, max(1, round(source_width * factor)))


def _letterbox(image: "np.ndarray", height: int, width: int, pad_value: int) -> "np.ndarray":
    scaled_height, scaled_width = _fitting_size(image.shape[0], image.shape[1], height, width)
    out = np.full((height, width, 3), pad_value, np.uint8)
    top, left = (height - scaled_height) // 2, (width - scaled_width) // 2
    out[top : top + scaled_height, left : left + scaled_width] = _scale(image, scaled_height, scaled_width)
    return out


def resize_geometry(
    source_size: "tuple[int, int] | list[int]",
    size: "tuple[int, int] | list[int]",
    mode: str,
    crop_ratio: float = 0.875,
) -> "tuple[float, float, float, float]":
    """Tells where ``resize_image`` puts a point of the image.

    Args:
        source_size: (height, width) of the image in pixels.
        size: (height, width) of the network input in pixels.
        mode: As in ``resize_image``.
        crop_ratio: As in ``resize_image``.

    Returns:
        (scale_x, scale_y, left, top): a point (x, y) of the image lies at (x * scale_x + left, y * scale_y + top) in
        the input; left and top are negative where a border is cut off.

    Raises:
        ValueError: The resize mode is unknown.
    """
    source_height, source_width = int(source_size[0]), int(source_size[1])
    height, width = int(size[0]), int(size[1])
    if mode == "stretch":
        return width / source_width, height / source_height, 0.0, 0.0
    if mode == "center_crop":
        scaled_height, scaled_width = _covering_size(source_height, source_width, height, width, crop_ratio)
        left, top = -((scaled_width - width) // 2), -((scaled_height - height) // 2)
    elif mode == "letterbox":
        scaled_height, scaled_width = _fitting_size(source_height, source_width, height, width)
        left, top = (width - scaled_width) // 2, (height - scaled_height) // 2
    else:
        raise ValueError(f"unknown resize mode {mode!r}: stretch, center_crop or letterbox")
    return scaled_width / source_width, scaled_height / source_height, float(left), float(top)


@lru_cache(maxsize=16)
def _channel_tables(mean: "tuple[float, ...]", std: "tuple[float, ...]") -> "tuple[np.ndarray, ...]":
    """Returns per channel the normalised float32 value of each of the 256 grey levels."""
    levels = np.arange(MAX_LEVEL + 1, dtype=np.float64) / MAX_LEVEL
    return tuple(((levels - m) / s).astype(np.float32)[np.newaxis] for m, s in zip(mean, std))  # noqa: B905 - 3.6


def normalize(image: "np.ndarray", mean: "tuple[float, ...]", std: "tuple[float, ...]") -> "np.ndarray":
    """Returns ``(image / 255 - mean) / std`` as a contiguous float32 array with the channels first.

    Every value is looked up in a table that was computed in float64 and rounded once, which is quicker than
    arithmetic on the pixels and gives the same bits on every machine.

    Args:
        image: uint8 RGB, (H, W, 3).
        mean: Per channel, in units of 0..1.
        std: Per channel, in units of 0..1, above 0.

    Returns:
        float32, (3, H, W).
    """
    out = np.empty((3, image.shape[0], image.shape[1]), np.float32)
    tables = _channel_tables(tuple(mean), tuple(std))
    for channel, plane in enumerate(cv2.split(image)):
        cv2.LUT(plane, tables[channel], dst=out[channel])
    return out


def preprocess(image: "np.ndarray", preprocessing: "dict[str, Any]") -> "np.ndarray":
    """Turns a decoded image into a network input.

    Args:
        image: uint8 RGB, (H, W, 3).
        preprocessing: What a manifest holds under "preprocessing": size, resize, mean, std, crop_ratio,
            pad_value.

    Returns:
        float32, (3, size[0], size[1]), contiguous.

    Raises:
        ValueError: The image has another type or shape, or the resize mode is unknown.
    """
    p = preprocessing
    resized = resize_image(image, p["size"], p["resize"], p["crop_ratio"], p["pad_value"])
    return normalize(resized, p["mean"], p["std"])


def softmax(logits: "np.ndarray") -> "np.ndarray":
    """Returns probabilities along the last axis, which sum to 1; safe from overflow."""
    shifted = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return np.asarray(shifted / np.sum(shifted, axis=-1, keepdims=True))


def top_k(probabilities: "np.ndarray", k: int) -> "tuple[np.ndarray, np.ndarray]":
    """Finds the ``k`` largest values along the last axis.

    Args:
        probabilities: (..., C), any scores.
        k: At least 1; more than C gives all C.

    Returns:
        Class indices int64 and their values, both (..., min(k, C)), largest first; of equal values the lower
        index comes first.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    order = np.argsort(-probabilities, axis=-1, kind="stable")[..., :k]
    return order.astype(np.int64), np.take_along_axis(probabilities, order, axis=-1)


def nms(
    boxes: "np.ndarray",
    scores: "np.ndarray",
    iou_threshold: float,
    class_ids: "np.ndarray | None" = None,
    limit: "int | None" = None,
) -> "np.ndarray":
    """Greedy non-maximum suppression: the best box stays, those that overlap it too much go, and so on.

    Args:
        boxes: (N, 4): x1, y1, x2, y2.
        scores: (N,), without NaN; of equal ones the lower index ranks first.
        iou_threshold: A box goes when its intersection / union with a better one that stays is above this.
        class_ids: (N,): boxes of different classes do not suppress each other; None: all do.
        limit: Stop when so many stay; None: never.

    Returns:
        int64, (K,): indices of the boxes that stay, best first.

    Raises:
        ValueError: Lengths that do not fit.
    """
    _check_lengths(boxes, scores, class_ids)
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T.astype(np.float64))
    areas = (x2 - x1) * (y2 - y1)
    ids = None if class_ids is None else class_ids[order]
    stays = np.ones(len(order), np.bool_)
    kept = []
    for i in range(len(order)):
        if not stays[i]:
            continue
        kept.append(i)
        if limit is not None and len(kept) >= limit:
            break
        rest = slice(i + 1, None)
        width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        # Multiplied out, boxes without area need no division by zero.
        goes = shared > iou_threshold * (areas[i] + areas[rest] - shared)
        stays[rest] &= ~goes if ids is None else ~(goes & (ids[rest] == ids[i]))
    return order[kept].astype(np.int64)


def _check_lengths(boxes: "np.ndarray", scores: "np.ndarray", class_ids: "np.ndarray | None") -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(scores):
        raise ValueError(f"expected boxes (N, 4) with N scores, got {boxes.shape} and {scores.shape}")
    if class_ids is not None and len(class_ids) != len(boxes):
        raise ValueError(f"expected {len(boxes)} class ids, got {len(class_ids)}")


def decode_detections(
    boxes: "np.ndarray",
    scores: "np.ndarray",
    source_size: "tuple[int, int] | list[int]",
    preprocessing: "dict[str, Any]",
    postprocessing: "dict[str, Any]",
) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Turns a detector's outputs for one image into detections in the pixels of that image.

    Every (box, class) pair that reaches the score threshold is a candidate, as in COCO's protocol, so one box may be
    found as several classes; the best ``MAX_CANDIDATES`` are looked at. They are moved to the image and clipped to it,
    then suppressed class by class where the network asks for it. Of equal scores the lower (box, class) index ranks
    first; pairs with a value that is not finite and boxes without area in the image are left out.

    Args:
        boxes: (N, 4): x1, y1, x2, y2 in pixels of the network input.
        scores: (N, C), 0..1.
        source_size: (height, width) of the image in pixels.
        preprocessing: As in ``preprocess``: how the image became the input.
        postprocessing: "score_threshold" (0..1), "nms_iou" (0..1; None: no suppression), "max_detections" (>= 1).

    Returns:
        Boxes float32 (K, 4): x1, y1, x2, y2 in the image; scores float32 (K,); class ids int64 (K,); best first.

    Raises:
        ValueError: Shapes that do not fit, or ``max_detections`` below 1.
    """
    if scores.ndim != 2:
        raise ValueError(f"expected scores (N, C), got {scores.shape}")
    _check_lengths(boxes, scores, None)
    limit, nms_iou = int(postprocessing["max_detections"]), postprocessing["nms_iou"]
    if limit < 1:
        raise ValueError(f"max_detections must be at least 1, got {limit}")
    rows, class_ids = _candidates(boxes, scores, float(postprocessing["score_threshold"]), max(limit, MAX_CANDIDATES))
    found = _to_source(boxes[rows], source_size, preprocessing)
    whole = np.flatnonzero((found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1]))
    rows, class_ids, found = rows[whole], class_ids[whole], found[whole]
    values = scores[rows, class_ids].astype(np.float32)
    if nms_iou is None:
        return found[:limit], values[:limit], class_ids[:limit]
    kept = nms(found, values, float(nms_iou), class_ids, limit)
    return found[kept], values[kept], class_ids[kept]


def _candidates(
    boxes: "np.ndarray", scores: "np.ndarray", threshold: float, limit: int
) -> "tuple[np.ndarray, np.ndarray]":
    """Returns box and class indices, int64, of at most ``limit`` pairs, best first."""
    flat = np.flatnonzero(scores >= threshold)
    values = scores.reshape(-1)[flat]
    finite = np.isfinite(values) & np.isfinite(boxes).all(axis=1)[flat // scores.shape[1]]
    flat, values = flat[finite], values[finite]
    if len(flat) > limit:
        # Only the best are sorted: those above the last place's value, and of those equal to it the first ones.
        last = np.partition(values, len(values) - limit)[len(values) - limit]
        above, equal = np.flatnonzero(values > last), np.flatnonzero(values == last)
        best = np.sort(np.concatenate([above, equal[: limit - len(above)]]))
        flat, values = flat[best], values[best]
    flat = flat[np.argsort(-values, kind="stable")].astype(np.int64)
    return flat // scores.shape[1], flat % scores.shape[1]


def _to_source(
    boxes: "np.ndarray", source_size: "tuple[int, int] | list[int]", preprocessing: "dict[str, Any]"
) -> "np.ndarray":
    """Returns boxes in the pixels of the image and clipped to it, float32; the inverse of ``resize_geometry``."""
    p = preprocessing
    scale_x, scale_y, left, top = resize_geometry(source_size, p["size"], p["resize"], p["crop_ratio"])
    moved = (boxes.astype(np.float64) - (left, top, left, top)) / (scale_x, scale_y, scale_x, scale_y)
    height, width = int(source_size[0]), int(source_size[1])
    return np.clip(moved, 0, (width, height, width, height)).astype(np.float32)
