"""What holds a batch of images with boxes together: one input size, and targets of one length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from paddle_tk.errors import BadInput

_STREAM = 0x6D73  # apart from the streams of shuffling and of samples
_STEP = 32  # the stride of the coarsest map that every detector has


class BatchSizes:
    """The input sizes that batches draw from.

    Args:
        size: (height, width) of evaluation, in pixels.
        ratios: [min, max] of a factor on it; None: always ``size``.

    Attributes:
        sizes: (height, width) in pixels, smallest first. With ``ratios``, the shorter side takes every multiple of 32
            in the range, and the longer one the multiple that comes nearest to the aspect ratio.

    Raises:
        BadInput: There is no multiple of 32 in the range.
    """

    def __init__(self, size: tuple[int, int], ratios: tuple[float, float] | None) -> None:
        self.sizes = [size] if ratios is None else _multiples(size, ratios)

    def at(self, seed: int, epoch: int, step: int) -> tuple[int, int]:
        """Returns (height, width) for batch ``step`` of an epoch; it depends on the arguments alone."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        drawn = np.random.default_rng((seed, _STREAM, epoch, step)).integers(len(self.sizes))
        return self.sizes[int(drawn)]


def _multiples(size: tuple[int, int], ratios: tuple[float, float]) -> list[tuple[int, int]]:
    shorter = min(size)
    least, most = math.ceil(shorter * ratios[0] / _STEP), math.floor(shorter * ratios[1] / _STEP)
    if most < max(1, least):
        raise BadInput(
            f"data.multi_scale={list(ratios)} leaves no multiple of {_STEP} px for a side of {shorter} px",
            "widen the range",
        )
    counts = range(max(1, least), most + 1)
    return [(round(size[0] * n / shorter) * _STEP, round(size[1] * n / shorter) * _STEP) for n in counts]


def pad_targets(targets: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks the targets of a batch.

    Args:
        targets: Per image float32 (n, 5).

    Returns:
        float32, (B, M, 5), with M the largest n and at least 1; rows of class -1 and a box of zeros fill up.
    """
    out = np.zeros((len(targets), max(1, *(len(rows) for rows in targets)), 5), np.float32)
    out[:, :, 0] = -1
    for padded, rows in zip(out, targets, strict=True):
        padded[: len(rows)] = rows
    return out
