"""COCO's evaluation of boxes from flat arrays: matching and precision/recall by faster-coco-eval, class by class.

The classes are evaluated one after the other, each over the images in which it occurs. That gives the figures of one
evaluation over all, because COCO never matches across classes, and holds the Python objects that the library wants for
one class at a time instead of for (images x classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ("all", "small", "medium", "large")
MAX_DETECTIONS = (1, 10, 100)  # the best so many per image and class are looked at
_ABSENT = -1.0  # the library's mark for what has no truth


@dataclass(frozen=True)
class Objects:
    """What is there, in all images.

    Attributes:
        images: int64, (n,): image numbers from 0, ascending.
        class_ids: int64, (n,).
        boxes: float64, (n, 4): x, y, width, height in pixels.
        areas: float64, (n,): square pixels; what decides on small, medium and large.
        crowd: bool, (n,).
        ignored: bool, (n,): neither required nor wrong; true wherever ``crowd`` is.
    """

    images: np.ndarray
    class_ids: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Detections:
    """What was found, in all images.

    Attributes:
        images: int64, (m,): image numbers from 0, ascending.
        class_ids: int64, (m,).
        boxes: float64, (m, 4): x, y, width, height in pixels.
        scores: float64, (m,).
    """

    images: np.ndarray
    class_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Precision and recall by IoU threshold (T = 10), recall point (R = 101), class, area range (4), limit (3).

    NaN where there is no truth: no object of that class and area range that is not ignored.

    Attributes:
        precision: float64, (T, R, C, 4, 3).
        scores: float64, (T, R, C, 4, 3): the score at which that recall is reached, 0 where it never is.
        recall: float64, (T, C, 4, 3).
    """

    precision: np.ndarray
    scores: np.ndarray
    recall: np.ndarray


def xywh(boxes: np.ndarray) -> np.ndarray:
    """Returns corners (x1, y1, x2, y2) of shape (n, 4) as float64 (x, y, width, height), COCO's form.

    The widening comes first: float32 boxes must give the figures of the same numbers in float64.
    """
    wide = np.array(boxes, np.float64)
    wide[:, 2:] -= wide[:, :2]
    return wide


def overlaps(found: np.ndarray, true: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Returns the overlap of every found box with every true one.

    It is intersection / union, and intersection / found area for a crowd, as in COCO's API (pycocotools, maskApi.c,
    ``bbIou``). The steps are those of that function, so that an overlap of just 0.5 is one here too.

    Args:
        found: float64, (m, 4): x, y, width, height.
        true: float64, (n, 4): likewise.
        crowd: bool, (n,).

    Returns:
        float64, (m, n), 0..1.
    """
    found_ends, true_ends = found[:, :2] + found[:, 2:], true[:, :2] + true[:, 2:]
    sides = np.minimum(found_ends[:, None], true_ends) - np.maximum(found[:, None, :2], true[:, :2])
    shared = np.where((sides > 0).all(axis=2), sides[..., 0] * sides[..., 1], 0.0)
    found_areas, true_areas = found[:, 2] * found[:, 3], true[:, 2] * true[:, 3]
    whole = np.where(crowd, found_areas[:, None], found_areas[:, None] + true_areas - shared)
    return np.asarray(shared / np.where(shared > 0, whole, 1.0))


def evaluate(objects: Objects, detections: Detections, classes: int) -> Evaluation:
    """Evaluates all classes.

    Args:
        objects: The truth.
        detections: What was found. Of equal scores the earlier image, then the earlier entry, comes first.
        classes: Class count C.

    Returns:
        The curves.
    """
    shape = (len(IOU_THRESHOLDS), len(RECALL_POINTS), classes, len(AREA_RANGES), len(MAX_DETECTIONS))
    precision, scores = np.full(shape, np.nan), np.full(shape, np.nan)
    recall = np.full((shape[0], *shape[2:]), np.nan)
    object_rows, detection_rows = _by_class(objects.class_ids, classes), _by_class(detections.class_ids, classes)
    for class_id in range(classes):
        rows = object_rows[class_id]
        if objects.ignored[rows].all():
            continue  # nothing to find: every figure of the class is absent
        found = _Evaluator(_select(objects, rows), _select(detections, detection_rows[class_id])).curves()
        precision[:, :, class_id], scores[:, :, class_id], recall[:, class_id] = (
            np.where(values == _ABSENT, np.nan, values) for values in found
        )
    return Evaluation(precision, scores, recall)


def _by_class(class_ids: np.ndarray, classes: int) -> list[np.ndarray]:
    order = np.argsort(class_ids, kind="stable")
    return np.split(order, np.searchsorted(class_ids[order], np.arange(1, classes)))


def _select(arrays: Any, rows: np.ndarray) -> Any:
    return type(arrays)(**{name: values[rows] for name, values in vars(arrays).items()})


class _Evaluator(COCOeval_faster):  # type: ignore[misc, unused-ignore]
    """The library's evaluation of one class, with our overlaps.

    The library knows one flag, iscrowd, for three things: the object is ignored, it may be matched more than once, and
    its overlap is divided by the found area. An ignored object that is no crowd needs the first two only, so it bears
    the flag, and its overlap is computed here.
    """

    def __init__(self, objects: Objects, detections: Detections) -> None:
        self._objects, self._detections = objects, detections
        images = np.union1d(objects.images, detections.images)
        # Where each image's rows begin and end; image numbers ascend.
        self._object_ends = _bounds(objects.images, images)
        self._detection_ends = _bounds(detections.images, images)
        shared = {"images": [{"id": i} for i in range(len(images))], "categories": [{"id": 1}]}
        true = COCO({**shared, "annotations": _object_entries(objects, images)})
        found = COCO({**shared, "annotations": _detection_entries(detections, images)})
        super().__init__(true, found, "bbox")

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray:
        """Returns the overlaps in image ``imgId``, rows by falling score; called by the library."""
        objects, detections = self._objects, self._detections
        true = slice(*self._object_ends[imgId : imgId + 2])
        found = slice(*self._detection_ends[imgId : imgId + 2])
        best = np.argsort(-detections.scores[found], kind="stable")[: MAX_DETECTIONS[-1]]
        return overlaps(detections.boxes[found][best], objects.boxes[true], objects.crowd[true])

    def curves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns precision (T, R, 4, 3), scores (T, R, 4, 3), recall (T, 4, 3); -1 where there is no truth."""
        self.params.iouThrs, self.params.recThrs = IOU_THRESHOLDS, RECALL_POINTS
        self.params.maxDets = list(MAX_DETECTIONS)
        self.evaluate()
        self.accumulate()
        return self.eval["precision"][:, :, 0], self.eval["scores"][:, :, 0], self.eval["recall"][:, 0]


def _bounds(rows_images: np.ndarray, images: np.ndarray) -> list[int]:
    return [*np.searchsorted(rows_images, images).tolist(), len(rows_images)]


# An id of 0 would read as "not matched" in the library: ids count from 1.
def _object_entries(objects: Objects, images: np.ndarray) -> list[dict[str, Any]]:
    columns = (np.searchsorted(images, objects.images), objects.areas, objects.ignored)
    return [
        {"id": number, "image_id": image, "category_id": 1, "area": area, "iscrowd": ignored}
        for number, (image, area, ignored) in enumerate(zip(*(c.tolist() for c in columns), strict=True), 1)
    ]


def _detection_entries(detections: Detections, images: np.ndarray) -> list[dict[str, Any]]:
    areas = detections.boxes[:, 2] * detections.boxes[:, 3]
    columns = (np.searchsorted(images, detections.images), areas, detections.scores)
    return [
        {"id": number, "image_id": image, "category_id": 1, "area": area, "score": score}
        for number, (image, area, score) in enumerate(zip(*(c.tolist() for c in columns), strict=True), 1)
    ]
