"""The framework-free top-k metric as a Paddle metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from paddle_tk.metrics.accuracy import TopK


class TopKMetric(paddle.metric.Metric):
    """Wraps ``TopK`` for ``paddle.Model.prepare``.

    Args:
        num_classes: Decides whether top-5 is reported (above 5 classes).
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self._classes = num_classes
        self._names = ["top1", "top5"] if num_classes > 5 else ["top1"]
        self._counter = TopK(ks=(1, 5) if num_classes > 5 else (1,))

    def name(self) -> list[str]:
        """Returns the keys of ``accumulate``."""
        return list(self._names)

    def reset(self) -> None:
        """Forgets all batches."""
        self._counter.reset()

    def update(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch: logits (B, C), labels (B,)."""
        self._counter.update(logits, labels)

    def accumulate(self) -> list[float]:
        """Returns the figures over all batches since the reset, in 0..1."""
        result = self._counter.result()
        return [result[name] for name in self._names]

    def numbers(self) -> np.ndarray:
        """Returns the counts, float64; those of several processes add up."""
        return np.array([self._counter.n, *self._counter.hits.values()], np.float64)

    def take(self, numbers: np.ndarray) -> None:
        """Takes over such counts."""
        hits = {str(k): int(n) for k, n in zip(self._counter.ks, numbers[1:], strict=True)}
        self._counter.load({"n": int(numbers[0]), "classes": self._classes, "hits": hits})

    def state(self) -> dict[str, Any]:
        """Returns the counts as plain JSON types."""
        return self._counter.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over saved counts."""
        self._counter.load(dict(state))
