"""Precision over recall, confusion with background, and the score threshold with the highest F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddle_tk.metrics.coco_evaluation import RECALL_POINTS, Evaluation, overlaps


@dataclass(frozen=True)
class PrecisionRecall:
    """Curves at IoU 0.5, all areas, at most 100 detections per image and class.

    Attributes:
        recall: float64, (101,): 0, 0.01 .. 1.
        precision: float64, (C, 101): the best precision at that recall or a higher one, 0 where it is not reached;
            NaN for a class without truth.
        scores: float64, (C, 101): the score from which that recall is reached, 0 where it never is; NaN likewise.
        mean: float64, (101,): over the classes with truth; NaN where there are none.
    """

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, evaluation: Evaluation) -> PrecisionRecall:
        """Takes the curves out of an evaluation."""
        precision, scores = evaluation.precision[0, :, :, 0, -1].T, evaluation.scores[0, :, :, 0, -1].T
        known = precision[~np.isnan(precision[:, 0])]
        mean = known.mean(axis=0) if len(known) else np.full(len(RECALL_POINTS), np.nan)
        return cls(RECALL_POINTS.copy(), precision.copy(), scores.copy(), mean)


@dataclass(frozen=True)
class ImageBoxes:
    """What is in one image and what was found there; boxes as float64 x, y, width, height.

    Attributes:
        boxes: (n, 4), of the objects.
        class_ids: int64, (n,).
        crowd: bool, (n,).
        ignored: bool, (n,): neither required nor wrong; true wherever ``crowd`` is.
        areas: float64, (n,).
        found_boxes: (m, 4), of the detections.
        found_scores: float64, (m,).
        found_class_ids: int64, (m,).
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray
    found_boxes: np.ndarray
    found_scores: np.ndarray
    found_class_ids: np.ndarray


@dataclass(frozen=True)
class _Matches:
    """How an image's detections of at least some score fare, best first.

    Attributes:
        rows: int64, (k,): which detections.
        objects: int64, (k,): the object of the same class that each takes, -1 for none.
        excused: bool, (k,): takes none, but lies on an ignored object of its class.
        shares: float64, (k, n): the overlaps.
    """

    rows: np.ndarray
    objects: np.ndarray
    excused: np.ndarray
    shares: np.ndarray


def _match(image: ImageBoxes, iou: float, score: float) -> _Matches:
    rows = np.flatnonzero(image.found_scores >= score)
    rows = rows[np.argsort(-image.found_scores[rows], kind="stable")]
    shares = overlaps(image.found_boxes[rows], image.boxes, image.crowd)
    same = image.found_class_ids[rows][:, None] == image.class_ids
    objects = _choose(np.where(same & ~image.ignored, shares, 0.0), iou)
    on_ignored = (same & image.ignored & (shares >= iou)).any(axis=1)
    return _Matches(rows, objects, on_ignored & (objects < 0), shares)


def _choose(shares: np.ndarray, least: float) -> np.ndarray:
    """Returns int64 (k,): the column each row takes, the first row first, -1 where none is left; changes ``shares``."""
    taken = np.full(len(shares), -1, np.int64)
    for row in np.flatnonzero((shares >= least).any(axis=1)):
        column = int(shares[row].argmax())
        if shares[row, column] >= least:
            taken[row] = column
            shares[:, column] = 0.0
    return taken


def count_confusion(counts: np.ndarray, image: ImageBoxes, iou: float, score: float) -> None:
    """Adds the objects and detections of an image to a confusion matrix.

    Detections choose by falling score, each the free object that it overlaps most, first among those of its own class;
    one left over that lies on an ignored object of its class is not counted; the others choose among the objects still
    free, whatever their class. So the diagonal holds the true positives that COCO counts at this IoU and score.

    Args:
        counts: int64, (C + 1, C + 1), changed in place; row: true class, column: found class, the last of each:
            background.
        image: The image.
        iou: The least overlap of a match, above 0.
        score: The least score of a detection that counts.
    """
    background = len(counts) - 1
    own = _match(image, iou, score)
    found = image.found_class_ids[own.rows]
    numbers = np.arange(len(image.class_ids))
    free = ~image.ignored & ~np.isin(numbers, own.objects)
    left = (own.objects < 0) & ~own.excused
    matched = np.where(left, _choose(np.where(left[:, None] & free, own.shares, 0.0), iou), own.objects)
    hit = matched >= 0
    missed = ~image.ignored & ~np.isin(numbers, matched)
    np.add.at(counts, (image.class_ids[matched[hit]], found[hit]), 1)
    counts[background, :-1] += np.bincount(found[~hit & ~own.excused], minlength=background)
    counts[:-1, background] += np.bincount(image.class_ids[missed], minlength=background)


def best_threshold(images: Sequence[ImageBoxes], classes: int, iou: float = 0.5) -> tuple[float, float] | None:
    """Finds the score threshold with the highest F1, averaged over the classes with truth.

    Args:
        images: The images.
        classes: Class count C.
        iou: The least overlap of a match, above 0.

    Returns:
        (threshold, mean F1): what scores at least the threshold is kept; of equally good ones the highest. None where
        nothing right was found.
    """
    scores, found, hits = [], [], []
    for image in images:
        own = _match(image, iou, -np.inf)
        counted = own.rows[~own.excused]
        scores.append(image.found_scores[counted])
        found.append(image.found_class_ids[counted])
        hits.append(own.objects[~own.excused] >= 0)
    required = np.bincount(np.concatenate([i.class_ids[~i.ignored] for i in images]), minlength=classes)
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    return _highest_f1(all_scores[order], np.concatenate(found)[order], np.concatenate(hits)[order], required)


def _highest_f1(
    scores: np.ndarray, class_ids: np.ndarray, hits: np.ndarray, required: np.ndarray
) -> tuple[float, float] | None:
    """Takes the detections best first, whether each is right, and per class how many objects there are."""
    # Each detection, when it is let in, changes the F1 of its class; the sum of the changes so far is the sum of F1.
    changes = np.zeros(len(scores))
    for class_id in np.flatnonzero(required):
        rows = np.flatnonzero(class_ids == class_id)
        f1 = 2 * np.cumsum(hits[rows]) / (np.arange(1, len(rows) + 1) + required[class_id])
        changes[rows] = np.diff(f1, prepend=0.0)
    last_of_ties = np.flatnonzero(np.diff(scores, append=-np.inf))
    sums = np.cumsum(changes)[last_of_ties]
    if not hits.any() or not len(sums):
        return None
    best = int(np.argmax(sums))
    return float(scores[last_of_ties[best]]), float(sums[best] / np.count_nonzero(required))
