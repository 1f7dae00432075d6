"""Three criteria for the |value| beyond which a tensor is clipped, each over everything a histogram has seen.

A symmetric 8-bit scale with threshold T has the step T / 127: values become multiples of it from -T to T.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paddle_tk.quantize.histogram import Array, GrowingHistogram

LEVELS = 127  # steps from zero to the threshold
_MAGNITUDES = LEVELS + 1  # values of |x| that a scale has, zero included
_SQUARED_SHARES = np.arange(20, 201) / 200  # of the largest |value|: 0.1, 0.105, ... 1
_MOMENT_SHARES = np.arange(15, 51) / 50  # PaddleSlim's: 0.3, 0.32, ... 1
_ENTROPY_STEP = 8  # bins from one threshold to the next


def quantize_dequantize(values: Array, threshold: float) -> Array:
    """Returns the multiples of ``threshold / 127`` nearest to ``values``, clipped to +- ``threshold``."""
    step = threshold / LEVELS
    return np.asarray(np.clip(np.round(values / step), -LEVELS, LEVELS) * step)


def squared_error_threshold(seen: GrowingHistogram) -> float:
    """Returns the T with the least sum of squared errors, from rounding and from clipping together.

    The candidates are 0.1, 0.105, ... 1 times the largest |value|; of equal ones the largest is taken. Every value
    stands at the mean of its bin, which is at most 1 / 2049 of the largest |value| wide.
    """
    values, counts = seen.points()

    def error(threshold: float) -> float:
        return float(counts @ np.square(values - quantize_dequantize(values, threshold)))

    return _least(error, seen.largest * _SQUARED_SHARES)


def moments_threshold(seen: GrowingHistogram) -> float:
    """Returns the T with the least |mean(x) - mean(q)| + |std(x) - std(q)|, q being x quantized: PaddleSlim's "EMD".

    PaddleSlim's candidates, 0.3, 0.32, ... 1 times the largest |value|, and its rule that of equal ones the largest is
    taken; but one decision over all batches where PaddleSlim keeps that of the last one, and the largest |value| where
    PaddleSlim takes the largest value, which for a tensor of negative values is none. The standard deviation is that of
    the values seen (divided by n). Every value stands at the mean of its bin.
    """
    values, counts = seen.points()
    shares = counts / counts.sum()

    def moments(points: Array) -> tuple[float, float]:
        mean = float(shares @ points)
        return mean, float(np.sqrt(shares @ np.square(points - mean)))

    mean, deviation = moments(values)

    def error(threshold: float) -> float:
        found = moments(quantize_dequantize(values, threshold))
        return abs(mean - found[0]) + abs(deviation - found[1])

    return _least(error, seen.largest * _MOMENT_SHARES)


def entropy_threshold(seen: GrowingHistogram) -> float:
    """Returns the T whose quantization keeps most of the distribution of |x|: the least KL(P || Q).

    For T at the upper edge of bin i, P is the histogram of the first i bins with everything beyond T in the last of
    them; Q is the histogram without what is beyond T, in which the i bins are gathered into 128 levels (bin j into
    level floor(128 j / i)) and each level's count is spread evenly over its bins that P has. Both are normalised. A Q
    that is 0 where P is not has an infinite divergence. Exact zeros are left out: every scale has a zero. Candidates
    are every eighth of the 2,049 to 4,096 bins from the 128th on, and the largest |value| itself; of equal ones the
    largest is taken. (S. Migacz, "8-bit inference with TensorRT", 2017; PaddleSlim's own search takes the signed
    histogram for one of |x|.)
    """
    counts = seen.magnitudes()
    ends = [*range(_MAGNITUDES, len(counts), _ENTROPY_STEP), len(counts)]
    divergences = np.array([entropy_divergence(counts, end) for end in ends])
    best = ends[int(np.flatnonzero(divergences == divergences.min())[-1])]
    return seen.largest if best == len(counts) else best * seen.width


def entropy_divergence(counts: Array, end: int) -> float:
    """Returns KL(P || Q) in nats for a threshold at the end of the first ``end`` bins; see ``entropy_threshold``."""
    inside = counts[:end]
    reference = inside.copy()
    reference[-1] += counts[end:].sum()
    present = reference > 0
    level = np.arange(end) * _MAGNITUDES // end
    bins = np.bincount(level, weights=present, minlength=_MAGNITUDES)
    mean = np.bincount(level, weights=inside, minlength=_MAGNITUDES) / np.maximum(bins, 1)
    p, q = reference[present], mean[level[present]]
    if not (q > 0).all():
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    return float(p @ np.log(p / q))


def _least(error: Callable[[float], float], candidates: Array) -> float:
    errors = np.array([error(float(candidate)) for candidate in candidates])
    return float(candidates[np.flatnonzero(errors == errors.min())[-1]])
