"""Tells memory that grows with every step from memory that goes up and down. Imports no framework.

What a process holds is noisy: batches of other sizes, caches that fill, garbage that is collected now and then, one
evaluation that needs more than a training step. A leak raises the floor under all of that. So the lowest value of every
few steps is kept (a block), twelve blocks in a row are judged at a time, and the same is done with blocks of two, four,
eight times that length, which see slower leaks. Twelve blocks are growth when

- nearly every later one lies above every earlier one (Kendall's rank correlation with time),
- the rise is large, in MB and beside what the blocks scatter around a straight line,
- it goes on: the second half rises about as fast as the first, in the window and since the growth began, which a
  filling cache does not, and
- it is spread over the window: no jump between two blocks is a good part of it, and
- it leads to where memory has not risen to before, which the teeth of a saw do once at most.

The slope is the median of all pairs' slopes (H. Theil 1950; P. K. Sen 1968, doi 10.1080/01621459.1968.10480934), which
a few outliers do not move. Where the growth began is the bend of the broken line, flat and then rising, that is nearest
to the blocks by least squares.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

STEPS_PER_BLOCK = 12  # of the shortest blocks
WINDOW = 12  # blocks
WARM_UP = 24  # steps
_HELD = 4 * WINDOW  # blocks kept, for finding the beginning
_LEAST_MB = 24.0  # clean runs of this toolkit crept by up to 30 MB, but over several hundred steps
_LEAST_CORRELATION = 0.8
_LEAST_SIGNAL = 4.0  # rise over scatter
_LARGEST_JUMP = 0.35  # of the rise
_KEEPS_ON = 0.75  # rise of the window's second half over that of the first
_KEPT_ON = 0.6  # the same since the growth began
_NEW = 0.5  # of the rise, above all that was there before
_AGAIN = 2.0  # growth since the beginning over that of the last finding


@dataclass(frozen=True)
class Growth:
    """Memory that grows with the steps.

    Attributes:
        began: Step at which it began, give or take ``resolution``; the first watched one where it grew by then already.
        found: Step at which that was known.
        mb_per_step: How fast, in MB (2^20 bytes) a step.
        grown_mb: Growth from ``began`` to ``found``.
        resolution: Steps in a block of the window in which it was found.
        blocks: Blocks since ``began`` that the slope is the median of.
    """

    began: int
    found: int
    mb_per_step: float
    grown_mb: float
    resolution: int
    blocks: int


@dataclass
class _Level:
    """Blocks of one length: their first steps and lowest values, the newest last."""

    steps: int
    blocks: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_HELD))
    half: tuple[int, float] | None = None


class LeakDetector:
    """Follows one series of values, one a step.

    Args:
        warm_up: Steps that are not looked at, in which caches fill.
        least_mb: Least rise over a window that counts.
    """

    def __init__(self, *, warm_up: int = WARM_UP, least_mb: float = _LEAST_MB) -> None:
        self.warm_up, self.least_mb = warm_up, least_mb
        self._seen = 0
        self._begin()

    def _begin(self) -> None:
        self._levels = [_Level(STEPS_PER_BLOCK)]
        self._open: list[float] = []
        self._first = 0
        self._next_mb = -np.inf

    def add(self, step: int, mb: float) -> Growth | None:
        """Takes the value after a step; steps come one after the other.

        Returns:
            Growth, when it has just become evident, and again whenever it has doubled since; otherwise None.
        """
        self._seen += 1
        if self._seen <= self.warm_up:
            return None
        if not self._open:
            self._first = step
        self._open.append(mb)
        if len(self._open) < STEPS_PER_BLOCK:
            return None
        block = (self._first, min(self._open))
        self._open = []
        return self._close(block, step)

    def forget(self) -> None:
        """Starts anew: what looked like growth has gone away again."""
        self._begin()

    def rate_since(self, step: int) -> float | None:
        """Returns the slope since a step in MB a step, by the shortest blocks that reach back to it; None: too few."""
        for level in self._levels:
            blocks = [block for block in level.blocks if block[0] >= step]
            if len(blocks) >= 2 and level.blocks[0][0] <= step + level.steps:
                x, y = np.array(blocks).T
                return theil_sen(x, y)
        return None

    def _close(self, block: tuple[int, float], step: int) -> Growth | None:
        """Enters a block on the shortest level, pairs of blocks on the longer ones, and judges where one was added."""
        found: Growth | None = None
        number = 0
        while True:
            level = self._levels[number]
            level.blocks.append(block)
            found = found or self._judge(number, step)
            if level.half is None:
                level.half = block
                return found
            block = (level.half[0], min(level.half[1], block[1]))
            level.half = None
            number += 1
            if number == len(self._levels):
                self._levels.append(_Level(2 * level.steps))

    def _judge(self, number: int, step: int) -> Growth | None:
        level = self._levels[number]
        if len(level.blocks) < WINDOW:
            return None
        values = np.array([value for _, value in level.blocks])
        earlier, window = values[:-WINDOW], values[-WINDOW:]
        if window[-1] < self._next_mb or not grows(window, self.least_mb) or not _is_new(earlier, window):
            return None
        # Where the blocks do not reach back to the beginning, longer ones do.
        reaching = (longer for longer in self._levels[number:] if _reaches_back(longer))
        growth = _describe(next(reaching, level), step)
        if growth is not None:
            # Below it no growth has doubled: nothing needs to be computed.
            self._next_mb = float(window[-1]) + (_AGAIN - 1) * growth.grown_mb
        return growth


def grows(values: np.ndarray, least: float) -> bool:
    """Whether values in the order of time rise steadily, by ``least`` or more in all.

    Args:
        values: At least four, evenly spaced in time.
        least: In the values' unit.
    """
    places = np.arange(len(values))
    slope = theil_sen(places, values)
    rise = slope * (len(values) - 1)
    if rise < least:
        return False
    left = values - slope * places
    scatter = 1.4826 * float(np.median(np.abs(left - np.median(left))))  # sigma of a normal distribution
    half = len(values) // 2
    first, second = values[half] - values[0], values[-1] - values[-1 - half]
    return bool(
        rise >= _LEAST_SIGNAL * scatter
        and kendall(values) >= _LEAST_CORRELATION
        and np.diff(values).max() <= _LARGEST_JUMP * rise
        and second >= _KEEPS_ON * first
    )


def _is_new(earlier: np.ndarray, window: np.ndarray) -> bool:
    """Whether a rise leads to where memory has not risen to before: that of a saw-tooth does not."""
    rise = window[-1] - window[0]
    # What was there from the beginning and went away is no tooth: memory had not come up to it from below.
    climbed = earlier[np.minimum.accumulate(earlier) < window[0] + _NEW * rise] if len(earlier) else earlier
    return bool(not len(climbed) or window[-1] - climbed.max() >= _NEW * rise)


def theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the median of the slopes of all pairs of points; ``x`` has no value twice."""
    one, other = np.triu_indices(len(x), 1)
    return float(np.median((y[other] - y[one]) / (x[other] - x[one])))


def kendall(values: np.ndarray) -> float:
    """Returns the rank correlation of values with their order, -1..1."""
    one, other = np.triu_indices(len(values), 1)
    return float(np.sign(values[other] - values[one]).mean())


def _reaches_back(level: _Level) -> bool:
    """Whether the blocks hold the beginning of the growth, or all there was."""
    x, y = _points(level)
    if len(x) < _HELD:
        return len(x) > WINDOW // 2
    return bool(_bend(x, y, level.steps) > x[0])


def _points(level: _Level) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and values, without what came before memory was last given back: it is no part of the growth."""
    first, lowest = np.array(level.blocks, float).T
    above = np.flatnonzero(lowest > lowest[-WINDOW:].max())
    begin = above[-1] + 1 if len(above) else 0
    return first[begin:], lowest[begin:]


def _describe(level: _Level, step: int) -> Growth | None:
    """Returns the growth that a window shows; None where it has been getting slower ever since it began."""
    x, y = _points(level)
    began = _bend(x, y, level.steps)
    x, y = x[x >= began], y[x >= began]
    half = len(x) // 2
    if theil_sen(x[half:], y[half:]) < _KEPT_ON * theil_sen(x[: half + 1], y[: half + 1]):
        return None
    slope = theil_sen(x, y)
    return Growth(round(began), step, slope, slope * (step - began), level.steps, len(x))


def _bend(x: np.ndarray, y: np.ndarray, spacing: int) -> float:
    """Returns where the broken line bends that is nearest to the points; at least half a window lies behind it."""
    best, least = float(x[0]), np.inf
    for place in np.arange(x[0], x[-WINDOW // 2] + 1, max(1, spacing // 4)):
        design = np.stack([np.ones_like(x), np.maximum(0.0, x - place)], axis=1)
        answer, *_ = np.linalg.lstsq(design, y, rcond=None)
        error = float(((design @ answer - y) ** 2).sum())
        if error < least:
            best, least = float(place), error
    return best
