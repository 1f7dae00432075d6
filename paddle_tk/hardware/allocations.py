"""What a training step allocates, and what it would allocate at another batch and image size. Imports no framework.

A few small steps are recorded, allocation by allocation. The same allocations happen in the same order at any size, and
the bytes of each are a simple function of the sizes: constant or proportional to the batch, and a polynomial in the
image's sides. So each is extrapolated on its own, and the step is played back: where the peak lies follows by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

_EXACT = 1e-6  # relative: what a right function of the sizes may be off by, from floating-point arithmetic alone
_EXACT_BYTES = 0.5


@dataclass(frozen=True)
class Trace:
    """One recorded step.

    Attributes:
        batch: Images.
        size: (height, width) in pixels.
        before: Bytes allocated when the step began, its images and labels not counted.
        inputs: Bytes of its images and labels.
        sizes: Bytes of each allocation, in order.
        operators: What allocated it ("conv2d_grad"); empty where that is not known.
        passing: Whether it was freed by the same call of the same operator: a workspace.
        events: Allocation n as n, its release as -n - 1, in order; releases of what was there before have numbers too.
        forward_events: Events until the end of the forward pass.
        peak: Bytes at most, as the allocator counted them, images and labels included.
        update: The allocations of the optimizer's update: first, and last + 1.
    """

    batch: int
    size: tuple[int, int]
    before: int
    inputs: int
    sizes: Sequence[int]
    operators: Sequence[str]
    passing: Sequence[bool]
    events: Sequence[int]
    forward_events: int
    peak: int
    update: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Lines:
    """Bytes as functions of the batch B: ``fixed + each * B``; arrays of equal length."""

    fixed: Floats
    each: Floats

    def at(self, batch: int) -> Floats:
        """Returns the bytes at a batch."""
        found: Floats = self.fixed + self.each * batch
        return found


def extrapolate(traces: Sequence[Trace], target: tuple[int, int]) -> Lines:
    """Returns the bytes of every allocation at a size, by batch.

    Args:
        traces: Of one step, the last two of one size with different batches, those before it of other sizes and the
            batch of the last but one.
        target: (height, width) in pixels.
    """
    *grown, base, wider = traces
    sizes = np.array([trace.sizes for trace in (base, *grown)], np.float64)  # one row a trace
    at_target = _at_size(sizes, [trace.size for trace in (base, *grown)], target)
    more = np.array(wider.sizes, np.float64)
    return _by_batch(at_target, sizes[0], more, base.batch, wider.batch)


def _at_size(sizes: Floats, images: Sequence[tuple[int, int]], target: tuple[int, int]) -> Floats:
    """Evaluates at the target the simplest polynomial in the sides that passes through all sizes."""
    found: Floats = np.where((sizes == sizes[0]).all(axis=0), sizes[0], np.nan)
    for powers in _polynomials(images, target):
        open_ones = np.isnan(found)
        if not open_ones.any():
            break
        design = np.array([[_monomial(image, power) for power in powers] for image in images])
        wanted = np.array([_monomial(target, power) for power in powers])
        rows = sizes[:, open_ones]
        terms = np.linalg.lstsq(design, rows, rcond=None)[0]
        fits = (np.abs(design @ terms - rows) <= _EXACT_BYTES + _EXACT * rows).all(axis=0)
        values = np.where(fits, np.maximum(wanted @ terms, 0.0), np.nan)
        found[open_ones] = values
    # What depends on the data (how many cells answer for a box) follows no polynomial and is small.
    whole: Floats = np.where(np.isnan(found), sizes.max(axis=0), found)
    return whole


def _monomial(size: tuple[int, int], powers: tuple[int, int]) -> float:
    return float((size[0] / 32) ** powers[0] * (size[1] / 32) ** powers[1])


def _polynomials(images: Sequence[tuple[int, int]], target: tuple[int, int]) -> list[tuple[tuple[int, int], ...]]:
    """Returns sets of powers of (height, width), simplest first, of at most as many terms as there are sizes.

    Maps are proportional to the pixels, or affine in either side where strides round; attention is square in pixels.
    """
    pixels, squared, one = (1, 1), (2, 2), (0, 0)
    square = all(height == width for height, width in (*images, target))
    sides = ((1, 0),) if square else ((1, 0), (0, 1))
    found = [(pixels,), (squared,), (one, pixels), *((side,) for side in sides), (pixels, squared)]
    found += [(one, side) for side in sides]
    found += [(one, *sides, pixels)]
    return [powers for powers in found if len(powers) <= len(images)]


def _by_batch(at_target: Floats, base: Floats, more: Floats, batch: int, more_batch: int) -> Lines:
    """Splits bytes at the base batch into a fixed part and one for each image."""
    slope = (more - base) / (more_batch - batch)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(base > 0, slope * batch / base, 0.0)  # of the base's bytes that belong to its images
    share = np.clip(np.nan_to_num(share), 0.0, 1.0)
    return Lines(at_target * (1 - share), at_target * share / batch)


def play_back(trace: Trace, sizes: Lines, before: tuple[float, float]) -> Lines:
    """Returns the bytes after every event, by batch.

    Args:
        trace: Whose events are played.
        sizes: Of its allocations.
        before: Bytes when the step begins, images and labels included: fixed, and each image's.
    """
    events = np.array(trace.events, np.int64)
    number = np.where(events >= 0, events, -events - 1)
    sign = np.where(events >= 0, 1.0, -1.0)
    fixed, each = (np.cumsum(sign * values[number]) for values in (sizes.fixed, sizes.each))
    return Lines(np.append(before[0], before[0] + fixed), np.append(before[1], before[1] + each))


def envelope(levels: Lines) -> Lines:
    """Returns the few lines of which the largest is, at every batch from 1 on, the largest of all."""
    order = np.lexsort((-levels.fixed, levels.each))
    kept: list[int] = []
    for index in order:
        fixed, each = levels.fixed[index], levels.each[index]
        if kept and each == levels.each[kept[-1]]:
            continue  # the one before has as many bytes an image and is at least as high
        while kept and levels.at(1)[kept[-1]] <= fixed + each:
            kept.pop()  # lower at batch 1, and rises more slowly
        kept.append(int(index))
    return Lines(levels.fixed[kept], levels.each[kept])
