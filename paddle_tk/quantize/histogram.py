"""A histogram of a tensor's values that grows with them and does not depend on how they came in batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BINS = 4096  # on each side of zero; the largest |value| lies in the upper half of them
_LEAST_EXPONENT = -126  # of a normal float32: 2 ** -exponent must be one too


class GrowingHistogram:
    """Counts of values in bins whose width is a power of two, with the mean of each bin.

    Bin j > 0 holds the values of ((j - 1) w, j w], bin -j their negatives, bin 0 exact zeros. When a larger |value|
    comes, w is doubled as often as needed and pairs of bins become one, which loses nothing but resolution. So the
    counts follow from the values alone: neither their order nor their division into batches changes one of them.
    2,049 to 4,096 bins lie between zero and the largest |value|.

    Attributes:
        largest: The largest |value| so far.
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self._exponent = _LEAST_EXPONENT
        self._counts: Array = np.zeros(2 * BINS + 1, np.int64)
        self._sums: Array = np.zeros(2 * BINS + 1, np.float64)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self._exponent)

    def add(self, values: Array) -> None:
        """Counts values.

        Args:
            values: float32 of any shape, finite, not empty.
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        largest = max(float(flat.max()), -float(flat.min()))
        if largest > self.largest:
            self._grow_to(largest)
        scaled = flat * np.float32(math.ldexp(1.0, -self._exponent))  # exact: only the exponent changes
        places = np.copysign(np.ceil(np.abs(scaled)), scaled).astype(np.int64) + BINS
        self._counts += np.bincount(places, minlength=2 * BINS + 1)
        self._sums += np.bincount(places, weights=flat, minlength=2 * BINS + 1)

    def _grow_to(self, largest: float) -> None:
        self.largest = largest
        share, exponent = math.frexp(largest / BINS)
        wanted = max(exponent - 1 if share == 0.5 else exponent, _LEAST_EXPONENT)
        if wanted <= self._exponent:
            return
        place = np.arange(-BINS, BINS + 1)
        factor = 2 ** min(wanted - self._exponent, 62)
        merged = np.sign(place) * -(-np.abs(place) // factor) + BINS
        self._counts = np.bincount(merged, weights=self._counts, minlength=2 * BINS + 1).astype(np.int64)
        self._sums = np.bincount(merged, weights=self._sums, minlength=2 * BINS + 1)
        self._exponent = wanted

    def points(self) -> tuple[Array, Array]:
        """Returns the mean value of each bin that is not empty, float64 (n,) ascending, and its count, float64 (n,)."""
        used = np.flatnonzero(self._counts)
        return self._sums[used] / self._counts[used], self._counts[used].astype(np.float64)

    def magnitudes(self) -> Array:
        """Returns the counts of |value| in ((j - 1) w, j w] for j = 1 ... up to the largest, float64; without zeros."""
        both = self._counts[BINS + 1 :] + self._counts[:BINS][::-1]
        used = np.flatnonzero(both)
        return both[: used[-1] + 1].astype(np.float64) if len(used) else np.empty(0, np.float64)
