"""Average precision and recall of detections by COCO's protocol, curves, and a confusion matrix with background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from paddle_tk.metrics.coco_evaluation import Detections, Evaluation, Objects, evaluate, xywh
from paddle_tk.metrics.detection_curves import ImageBoxes, PrecisionRecall, best_threshold, count_confusion

_IOU_50, _IOU_75 = 0, 5  # places among the IoU thresholds 0.5, 0.55 .. 0.95


@dataclass(frozen=True)
class DetectionFigures:
    """COCO's twelve figures, shares in 0..1; None where there is no truth to measure by.

    "map" is precision averaged over 101 recall points and the classes with truth; "ar" the recall reached, averaged
    over the classes with truth and the IoU thresholds 0.5, 0.55 .. 0.95. Small, medium and large are objects of up to
    32x32, 32x32 to 96x96, and 96x96 square pixels or more; one of just 32x32 is both small and medium.

    Attributes:
        map50_95: At most 100 detections per image and class, averaged over the ten IoU thresholds; so are the next
            ones unless their name says otherwise.
        map50: At IoU 0.5.
        map75: At IoU 0.75.
        map_small: Of small objects.
        map_medium: Of medium ones.
        map_large: Of large ones.
        ar1: Recall with one detection per image and class.
        ar10: With ten.
        ar100: With a hundred.
        ar_small: Recall of small objects.
        ar_medium: Of medium ones.
        ar_large: Of large ones.
        per_class: By class name: "ap50_95", "ap50", and "n", the objects that had to be found.
        n: How many images.
        n_boxes: How many objects had to be found: all but crowds and difficult ones.
    """

    map50_95: float | None
    map50: float | None
    map75: float | None
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: dict[str, dict[str, float | int | None]]
    n: int
    n_boxes: int

    @property
    def main(self) -> dict[str, float]:
        """The mean average precisions by name, 0 where there is no truth to measure by."""
        return {name: float(getattr(self, name) or 0.0) for name in ("map50_95", "map50", "map75")}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)


class DetectionMetric:
    """Collects detections and truth image by image and measures them as COCO's evaluation does.

    A crowd is neither required nor wrong: any number of detections may match it, and their overlap with it is
    intersection / detected area (pycocotools' iscrowd). A difficult object is neither required nor wrong either, with
    the ordinary intersection / union: pycocotools has no flag for that, as its "ignore" is overwritten by iscrowd, and
    iscrowd would excuse every small box inside the object. This is VOC's rule, at each of the IoU thresholds.

    Args:
        classes: Class names in the order of the class ids.

    Raises:
        ValueError: No class, or a name that stands twice.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"one or more different class names expected, got {self.classes}")
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self._images: list[ImageBoxes] = []
        self._evaluated: Evaluation | None = None

    @property
    def n(self) -> int:
        """How many images were added."""
        return len(self._images)

    def add(
        self,
        *,
        true_boxes: np.ndarray,
        true_classes: np.ndarray,
        crowd: np.ndarray,
        difficult: np.ndarray,
        areas: np.ndarray,
        boxes: np.ndarray,
        scores: np.ndarray,
        class_ids: np.ndarray,
    ) -> None:
        """Adds an image. The order of images and detections decides between equal scores.

        Args:
            true_boxes: (n, 4): x1, y1, x2, y2 in pixels.
            true_classes: (n,): class ids.
            crowd: (n,): COCO's iscrowd.
            difficult: (n,): VOC's flag.
            areas: (n,): square pixels, of the mask where there is one; they decide on small, medium and large.
            boxes: (m, 4): what was found, in the same pixels. Of any float type: widened to float64 first.
            scores: (m,).
            class_ids: (m,).

        Raises:
            ValueError: Lengths that do not fit, a class id out of range, or a value that is not finite.
        """
        n, m = len(true_classes), len(class_ids)
        _check_shapes("truth", n, true_boxes, (crowd, difficult, areas))
        _check_shapes("detections", m, boxes, (scores,))
        for name, ids in (("true", true_classes), ("detected", class_ids)):
            if len(ids) and (np.min(ids) < 0 or np.max(ids) >= len(self.classes)):
                raise ValueError(f"{name} classes must be in 0..{len(self.classes) - 1}, got {np.unique(ids)}")
        for name, values in (("true box", true_boxes), ("area", areas), ("box", boxes), ("score", scores)):
            if not np.isfinite(values).all():
                raise ValueError(f"a {name} of image {self.n} is not finite")
        is_crowd = np.array(crowd, np.bool_)
        self._images.append(
            ImageBoxes(
                boxes=xywh(true_boxes),
                class_ids=np.array(true_classes, np.int64),
                crowd=is_crowd,
                ignored=is_crowd | np.asarray(difficult, np.bool_),
                areas=np.array(areas, np.float64),
                found_boxes=xywh(boxes),
                found_scores=np.array(scores, np.float64),
                found_class_ids=np.array(class_ids, np.int64),
            )
        )
        self._evaluated = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what was added as arrays that ``add_arrays`` takes, for instance in another process."""
        names = [field.name for field in fields(ImageBoxes)]
        counts = [[len(getattr(image, name)) for name in names] for image in self._images]
        joined = {name: self._joined(name) for name in names} if self._images else {}
        return {"counts": np.array(counts, np.int64).reshape(-1, len(names)), **joined}

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds the images of another metric's ``arrays()``."""
        names = [field.name for field in fields(ImageBoxes)]
        ends = np.cumsum(arrays["counts"], axis=0)
        for counts, end in zip(arrays["counts"], ends, strict=True):
            parts = {name: arrays[name][e - c : e] for name, c, e in zip(names, counts, end, strict=True)}
            self._images.append(ImageBoxes(**parts))
        self._evaluated = None

    def sort(self, numbers: np.ndarray) -> None:
        """Puts the images in the order of their numbers, (n,): it decides between equal scores."""
        self._images = [self._images[i] for i in np.argsort(numbers, kind="stable")]
        self._evaluated = None

    def result(self) -> DetectionFigures:
        """Returns the figures over all images.

        Raises:
            ValueError: No image was added.
        """
        evaluation = self._evaluation()
        # Axes: IoU threshold, recall point, class, area range, most detections.
        precision, recall = evaluation.precision[..., -1], evaluation.recall
        all_areas = precision[..., 0]
        return DetectionFigures(
            map50_95=_mean(all_areas),
            map50=_mean(all_areas[_IOU_50]),
            map75=_mean(all_areas[_IOU_75]),
            map_small=_mean(precision[..., 1]),
            map_medium=_mean(precision[..., 2]),
            map_large=_mean(precision[..., 3]),
            ar1=_mean(recall[..., 0, 0]),
            ar10=_mean(recall[..., 0, 1]),
            ar100=_mean(recall[..., 0, 2]),
            ar_small=_mean(recall[..., 1, 2]),
            ar_medium=_mean(recall[..., 2, 2]),
            ar_large=_mean(recall[..., 3, 2]),
            per_class=self._per_class(all_areas),
            n=self.n,
            n_boxes=int(sum(self._counts())),
        )

    def precision_recall(self) -> PrecisionRecall:
        """Returns the curves at IoU 0.5.

        Raises:
            ValueError: No image was added.
        """
        return PrecisionRecall.of(self._evaluation())

    def confusion(self, iou: float = 0.5, score: float = 0.25) -> np.ndarray:
        """Counts objects and detections by true and found class.

        Args:
            iou: The least overlap of a match, above 0 and at most 1.
            score: The least score of a detection that counts.

        Returns:
            int64, (C + 1, C + 1); row: true class, column: found class. The last row counts detections where there is
            nothing, the last column objects that were missed. Crowds and difficult objects, and what is found on them,
            are not counted.

        Raises:
            ValueError: ``iou`` is out of range.
        """
        _check_iou(iou)
        counts = np.zeros((len(self.classes) + 1,) * 2, np.int64)
        for image in self._images:
            count_confusion(counts, image, iou, score)
        return counts

    def best_threshold(self, iou: float = 0.5) -> tuple[float, float] | None:
        """Finds the score threshold with the highest F1, averaged over the classes with truth.

        Args:
            iou: The least overlap of a match, above 0 and at most 1.

        Returns:
            (threshold, mean F1): what scores at least the threshold is kept; of equally good ones the highest. None
            where nothing right was found.

        Raises:
            ValueError: No image was added, or ``iou`` is out of range.
        """
        _check_iou(iou)
        self._require_images()
        return best_threshold(self._images, len(self.classes), iou)

    def _require_images(self) -> None:
        if not self._images:
            raise ValueError("no images were added")

    def _evaluation(self) -> Evaluation:
        self._require_images()
        if self._evaluated is None:
            self._evaluated = evaluate(self._objects(), self._detections(), len(self.classes))
        return self._evaluated

    def _objects(self) -> Objects:
        return Objects(
            self._numbers("class_ids"),
            *(self._joined(name) for name in ("class_ids", "boxes", "areas", "crowd", "ignored")),
        )

    def _detections(self) -> Detections:
        return Detections(
            self._numbers("found_class_ids"),
            *(self._joined(name) for name in ("found_class_ids", "found_boxes", "found_scores")),
        )

    def _joined(self, name: str) -> np.ndarray:
        return np.concatenate([getattr(image, name) for image in self._images])

    def _numbers(self, name: str) -> np.ndarray:
        return np.repeat(np.arange(self.n), [len(getattr(image, name)) for image in self._images])

    def _counts(self) -> list[int]:
        required = self._joined("class_ids")[~self._joined("ignored")]
        counts: list[int] = np.bincount(required, minlength=len(self.classes)).tolist()
        return counts

    def _per_class(self, precision: np.ndarray) -> dict[str, dict[str, float | int | None]]:
        return {
            name: {"ap50_95": _mean(precision[:, :, i]), "ap50": _mean(precision[_IOU_50, :, i]), "n": n}
            for i, (name, n) in enumerate(zip(self.classes, self._counts(), strict=True))
        }


def _check_shapes(what: str, count: int, boxes: np.ndarray, others: Sequence[np.ndarray]) -> None:
    found = [np.shape(boxes), *(np.shape(values) for values in others)]
    if found != [(count, 4), *[(count,)] * len(others)]:
        raise ValueError(f"{what}: {count} class ids with arrays of shapes {found}")


def _check_iou(iou: float) -> None:
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be above 0 and at most 1, got {iou}")


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
