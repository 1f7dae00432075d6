"""PaddleSlim's observers as they are used here: three of its own, repaired where they fail, and three put right.

Importing this module loads PaddleSlim's observers, and raises BadInput where they are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle

from paddle_tk.quantize.histogram import Array, GrowingHistogram
from paddle_tk.quantize.slim import load_observers
from paddle_tk.quantize.thresholds import entropy_threshold, moments_threshold, squared_error_threshold

PERCENT = 0.9999
_BITS = 8
_BINS = 2048
_slim = load_observers()


class HistLayer(_slim.hist.PercentHistObserverLayer):  # type: ignore[misc, name-defined, unused-ignore]
    """PaddleSlim's HistObserver with ``percent=0.9999`` and four repairs.

    PaddleSlim takes an array of one element for a number, which NumPy 2.4 refuses; loses batches in which all values
    are equal, and fails where all batches are such; and allocates 2048 x 64 x (new range / old range) values when a
    batch exceeds the first one's range, which is gigabytes for a layer that was nearly dead in the first batch. Here
    the range includes 0, as it does in PaddleSlim's scale anyway, so that only batches of zeros have no width; these
    are counted; and bins are merged without unfolding them.
    """

    def __init__(self) -> None:
        super().__init__(None, quant_bits=_BITS, bins_count=_BINS, percent=PERCENT)
        self._zeros = 0

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        """Counts a batch."""
        if self._min_max(inputs) == (0.0, 0.0):
            self._zeros += int(inputs.size)
            return inputs
        return super().forward(inputs)

    def _min_max(self, tensor: paddle.Tensor) -> tuple[float, float]:
        low, high = super()._min_max(tensor)
        return min(0.0, low), max(0.0, high)

    def _merge_histograms(
        self, new_hist: Array, origin_hist: Array, upsample_bins_count: int, downsample_bins_count: int,
        start_bin_idx: int, bins_count: int,
    ) -> Array:  # fmt: skip
        fine = start_bin_idx + np.arange(bins_count * upsample_bins_count)
        place = np.minimum(fine // downsample_bins_count, bins_count - 1)
        shares = np.repeat(origin_hist.astype(np.float64) / upsample_bins_count, upsample_bins_count)
        return (new_hist + np.bincount(place, weights=shares, minlength=bins_count)).astype(np.float32)

    def cal_thresholds(self) -> None:
        """Decides the scale from what was counted."""
        if self._hist is None:
            self._scale, self._zero_point = 0.0, 0
        else:
            super().cal_thresholds()

    def _cal_min_max_by_percent(self) -> tuple[float, float]:
        low, high = self._hist_min, self._hist_max
        width = (high - low) / self._bin_count
        counts = np.asarray(self._hist, np.float64).copy()
        counts[min(int(-low / width), self._bin_count - 1)] += self._zeros
        share = np.cumsum(counts / counts.sum())
        first, last = np.argmax(share >= 1 - self._percent), np.argmax(share >= self._percent)
        return low + float(first - 0.5) * width, low + float(last - 0.5) * width


class CriterionLayer(_slim.uniform.UniformObserver):  # type: ignore[misc, name-defined, unused-ignore]
    """An observer on PaddleSlim's base class that decides once, over the histogram of all batches.

    Args:
        criterion: Maps the histogram to a threshold.
    """

    def __init__(self, criterion: Callable[[GrowingHistogram], float]) -> None:
        super().__init__(quant_bits=_BITS)
        self._criterion, self._seen = criterion, GrowingHistogram()
        self._scale: Any = None

    def forward(self, inputs: paddle.Tensor) -> paddle.Tensor:
        """Counts a batch."""
        self._seen.add(inputs.numpy())
        return inputs

    def cal_thresholds(self) -> None:
        """Decides the scale from what was counted."""
        self._min, self._max = 0.0, self._criterion(self._seen) if self._seen.largest > 0 else 0.0
        self._scale, self._zero_point = self.cal_scales_zero_points()

    def min_value(self) -> float:
        """Returns 0: the scale is symmetric."""
        return float(self._min)

    def max_value(self) -> float:
        """Returns the threshold."""
        return float(self._max)

    def bit_length(self) -> int:
        """Returns the bits of a quantized value."""
        return _BITS

    def quant_axis(self) -> int:
        """Returns -1: one scale for the tensor."""
        return -1

    def scales(self) -> float:
        """Returns the threshold, as PaddleSlim's observers do."""
        self.cal_thresholds()
        return float(self._scale)

    def zero_points(self) -> int:
        """Returns 0."""
        return 0


class ChannelAbsMaxLayer(_slim.abs_max_weight.AbsMaxChannelWiseWeightObserverLayer):  # type: ignore[misc, name-defined, unused-ignore]
    """PaddleSlim's AbsMaxChannelWiseWeightObserver for any axis; its own constructor knows Conv2D and Linear only."""

    def __init__(self, axis: int) -> None:
        _slim.uniform.UniformObserver.__init__(self, quant_bits=_BITS)
        self._channel_axis, self._max = axis, None


def make_layer(algorithm: str) -> Any:
    """Returns a new observer: a layer that is called with each batch and has ``scales()``."""
    makers: dict[str, Callable[[], Any]] = {
        "abs_max": lambda: _slim.abs_max.AbsmaxObserverLayer(None, quant_bits=_BITS),
        "hist": HistLayer,
        "avg": lambda: _slim.avg.AVGObserverLayer(None, quant_bits=_BITS),
        "kl": lambda: CriterionLayer(entropy_threshold),
        "mse": lambda: CriterionLayer(squared_error_threshold),
        "emd": lambda: CriterionLayer(moments_threshold),
    }
    return makers[algorithm]()
