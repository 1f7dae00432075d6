"""Top-k accuracy and the confusion matrix, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class TopK:
    """Accumulates top-k accuracy over batches.

    A sample is right for k when fewer than k classes rank before the true one: those with a greater logit,
    and those with an equal one and a lower class id, as in a stable sort. A row that holds a NaN is wrong for
    every k.

    Args:
        ks: The k's; one that is not under the class count is left out of the result, as it says nothing.
    """

    def __init__(self, ks: Sequence[int] = (1, 5)) -> None:
        if not ks or min(ks) < 1:
            raise ValueError(f"ks must be one or more integers >= 1, got {tuple(ks)}")
        self.ks = tuple(ks)
        self.reset()

    def reset(self) -> None:
        """Forgets all samples."""
        self.n = 0
        self._classes = 0
        self._hits = dict.fromkeys(self.ks, 0)

    def update(self, logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        """Adds a batch.

        Args:
            logits: (B, C) floats.
            labels: (B,) or (B, 1) integers in 0..C-1.

        Raises:
            ValueError: Shapes that do not fit, labels out of range, or another class count than before.
        """
        labels = np.asarray(labels).reshape(-1).astype(np.int64)
        logits = np.asarray(logits)
        if logits.ndim != 2 or len(logits) != len(labels):
            raise ValueError(f"logits (B, C) and labels (B,) expected, got {logits.shape} and {labels.shape}")
        classes = logits.shape[1]
        if self._classes not in (0, classes):
            raise ValueError(f"logits of {classes} classes after batches of {self._classes}")
        _check_ids("label", labels, classes)
        ranks = _ranks(logits, labels)
        self.n += len(labels)
        self._classes = classes
        for k in self.ks:
            self._hits[k] += int(np.count_nonzero(ranks < k))

    def result(self) -> dict[str, float]:
        """Returns shares in 0..1: {"top1": ..., "top5": ...}; "top5" only with more than 5 classes.

        Raises:
            ValueError: No sample was added.
        """
        if self.n == 0:
            raise ValueError("no samples were added")
        return {f"top{k}": self._hits[k] / self.n for k in self.ks if k < self._classes}

    @property
    def hits(self) -> dict[int, int]:
        """How many samples were right, by k."""
        return dict(self._hits)

    def state(self) -> dict[str, Any]:
        """Returns all that ``load`` needs, in JSON types."""
        return {
            "n": self.n,
            "classes": self._classes,
            "hits": {str(k): hits for k, hits in self._hits.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up what ``state`` returned.

        Raises:
            ValueError: The state is of other k's.
        """
        hits = {int(k): int(count) for k, count in state["hits"].items()}
        if set(hits) != set(self.ks):
            raise ValueError(f"state of k = {sorted(hits)}, expected {sorted(self.ks)}")
        self.n, self._classes, self._hits = int(state["n"]), int(state["classes"]), hits


def _ranks(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns how many classes rank before the true one, per row; where a NaN is, the greatest integer."""
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    ranks: np.ndarray[Any, Any] = np.count_nonzero(logits > true, axis=1)
    ties = logits == true
    tied = np.flatnonzero(np.count_nonzero(ties, axis=1) > 1)
    if len(tied):
        lower_id = np.arange(logits.shape[1]) < labels[tied, None]
        ranks[tied] += np.count_nonzero(ties[tied] & lower_id, axis=1)
    # Not below any k: a k above the class count must not turn a NaN into a hit.
    ranks[np.isnan(logits).any(axis=1)] = np.iinfo(ranks.dtype).max
    return ranks


def confusion_matrix(
    predicted: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], num_classes: int
) -> np.ndarray[Any, Any]:
    """Counts samples by true and predicted class.

    Args:
        predicted: (N,) class ids.
        labels: (N,) true class ids.
        num_classes: Class count C.

    Returns:
        int64 (C, C); row: true class, column: predicted class.

    Raises:
        ValueError: Lengths that differ, or an id outside 0..C-1.
    """
    predicted = np.asarray(predicted).reshape(-1).astype(np.int64)
    labels = np.asarray(labels).reshape(-1).astype(np.int64)
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} predictions for {len(labels)} labels")
    _check_ids("prediction", predicted, num_classes)
    _check_ids("label", labels, num_classes)
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes * num_classes)
    return counts.astype(np.int64).reshape(num_classes, num_classes)


def macro_recall(confusion: np.ndarray[Any, Any]) -> float:
    """Returns the mean over the classes of the share of their samples that are recognised, 0..1.

    Every class counts the same however many samples it has; one without samples is left out.

    Args:
        confusion: Counts (C, C); row: true class, column: predicted class.

    Raises:
        ValueError: There are no samples.
    """
    n = confusion.sum(axis=1)
    if not n.any():
        raise ValueError("no samples were counted")
    return float((np.diag(confusion)[n > 0] / n[n > 0]).mean())


def _check_ids(what: str, ids: np.ndarray[Any, Any], classes: int) -> None:
    if len(ids) and (ids.min() < 0 or ids.max() >= classes):
        raise ValueError(f"{what}s must be in 0..{classes - 1}, got {ids.min()}..{ids.max()}")
