"""Which images an epoch shows, and in which order: a function of (seed, epoch) alone.

An order is made of draws. Draw ``repetition * n + index`` is image ``index`` of ``n``, shown for the ``repetition``-th
time, counted from 0: each repetition is augmented with random numbers of its own, and the first one as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from paddle_tk.data.streams import StreamOrder

_STREAM = 0x626C  # apart from the streams of the plain shuffle, of augmentation and of mixup


Draws = np.ndarray | StreamOrder


class EpochOrder(Protocol):
    """The order of an epoch's images; every epoch has the same number of draws."""

    def __len__(self) -> int: ...

    def draws(self, seed: int, epoch: int) -> Draws:
        """Returns the epoch's draws, int64 (len(self),), or what gives any stretch of them."""


class PlainOrder:
    """Every image once, shuffled.

    Args:
        images: How many there are.
    """

    def __init__(self, images: int) -> None:
        self._images = images

    def __len__(self) -> int:
        return self._images

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the epoch's draws, int64 (n,)."""
        return np.random.default_rng((seed, epoch)).permutation(self._images)


class ClassOrder:
    """A fixed number of draws from each class, shuffled together.

    An image of a class is not drawn again before every other one of the class has been: the draws of a class are whole
    passes over it and a random part of one more.

    Args:
        labels: int64, (n,): the class of each image, any integers.
        wanted: Draws in an epoch by class; a class that is left out is not shown.
    """

    def __init__(self, labels: np.ndarray, wanted: Mapping[int, int]) -> None:
        self._images = len(labels)
        self._members = {label: np.flatnonzero(labels == label) for label in wanted}
        empty = [label for label, members in self._members.items() if not len(members)]
        if empty or min(wanted.values(), default=0) < 0:
            raise ValueError(f"classes {empty} have no images, or a count is negative: {dict(wanted)}")
        self.wanted = dict(wanted)

    def __len__(self) -> int:
        return sum(self.wanted.values())

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the epoch's draws, int64 (len(self),)."""
        rng = np.random.default_rng((seed, _STREAM, epoch))
        parts: list[np.ndarray] = []
        for label, count in self.wanted.items():
            members = self._members[label]
            whole, rest = divmod(count, len(members))
            parts += [members + repetition * self._images for repetition in range(whole)]
            parts.append(rng.permutation(members)[:rest] + whole * self._images)
        return rng.permutation(np.concatenate(parts))


class RepeatOrder:
    """Every image as often as its repeat factor says, on average over the epochs.

    The fractional parts are drawn anew in each epoch, by systematic sampling over the shuffled images, so that every
    epoch has the same length: the sum of the factors, rounded.

    Args:
        factors: float64, (n,), each at least 1.
    """

    def __init__(self, factors: np.ndarray) -> None:
        if not len(factors) or factors.min() < 1:
            raise ValueError("repeat factors must be at least 1")
        self._total = round(float(factors.sum()))
        self.factors = factors * (self._total / factors.sum())

    def __len__(self) -> int:
        return self._total

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the epoch's draws, int64 (len(self),)."""
        rng = np.random.default_rng((seed, _STREAM, epoch))
        n = len(self.factors)
        shuffled, start = rng.permutation(n), rng.random()
        ends = np.floor(np.cumsum(self.factors[shuffled]) + start)
        ends[-1] = self._total  # a sum of floats may end just beside the whole number
        counts = np.diff(ends, prepend=0.0).astype(np.int64)
        repetitions = np.concatenate([np.arange(count) for count in counts])
        return rng.permutation(np.repeat(shuffled, counts) + repetitions * n)
