"""The parts of a loss, averaged over an epoch's images, as a Paddle metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle


class LossParts(paddle.metric.Metric):
    """Means of loss parts, each batch weighted by its images.

    Args:
        names: The parts.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = list(names)
        self.reset()

    def name(self) -> list[str]:
        """Returns the keys of ``accumulate``."""
        return list(self._names)

    def reset(self) -> None:
        """Forgets all batches."""
        self._samples = 0
        self._sums = dict.fromkeys(self._names, 0.0)

    def update(self, parts: Mapping[str, float], samples: int) -> None:
        """Counts a batch of ``samples`` images; parts without a name are left out."""
        self._samples += samples
        for name in self._names:
            self._sums[name] += parts[name] * samples

    def accumulate(self) -> list[float]:
        """Returns the means since the reset; NaN before the first batch."""
        return [self._sums[name] / self._samples if self._samples else float("nan") for name in self._names]

    def numbers(self) -> np.ndarray:
        """Returns images and sums, float64; those of several processes add up."""
        return np.array([self._samples, *self._sums.values()], np.float64)

    def take(self, numbers: np.ndarray) -> None:
        """Takes over such numbers."""
        self._samples = int(numbers[0])
        self._sums = {name: float(value) for name, value in zip(self._names, numbers[1:], strict=True)}

    def state(self) -> dict[str, Any]:
        """Returns the sums as plain JSON types."""
        return {"samples": self._samples, "sums": dict(self._sums)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over saved sums.

        Raises:
            ValueError: They are of other parts.
        """
        if set(state["sums"]) != set(self._names):
            raise ValueError(f"sums of {sorted(state['sums'])}, expected {sorted(self._names)}")
        self._samples, self._sums = int(state["samples"]), {k: float(v) for k, v in state["sums"].items()}
