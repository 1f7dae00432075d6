"""Observers of activations and weights: what range a tensor has over the calibration images, and where to clip it."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from paddle_tk.errors import BadInput
from paddle_tk.quantize.histogram import Array
from paddle_tk.quantize.thresholds import LEVELS
from paddle_tk.types import TensorRange

ALGORITHMS = ("abs_max", "hist", "avg", "kl", "mse", "emd")
LEAST_THRESHOLD = 1e-7  # of a tensor of zeros, whatever the algorithm; where PaddleSlim's abs-max observer starts


class RangeObserver:
    """Watches one activation tensor over the calibration batches.

    PaddleSlim's semantic: an observer chooses a threshold T, and the symmetric 8-bit scale is T / 127. Over all |x| of
    all batches, T is:

    - "abs_max": the largest (PaddleSlim's AbsmaxObserver).
    - "hist": the larger of -q(0.0001) and q(0.9999), the quantiles of x, to two bins of 1/2048 of its range with zero
      (PaddleSlim's HistObserver, see ``slim_observers.HistLayer``).
    - "avg": the mean over the batches of the mean over a batch's images of the largest (PaddleSlim's AVGObserver): a
      smaller last batch weighs as much as the others.
    - "kl", "mse", "emd": PaddleSlim's criteria put right, see ``thresholds``: least divergence of the distributions,
      least squared error, least change of mean and standard deviation. Neither the order of the batches nor how the
      images are divided into them matters.

    T is at most the largest |x|, and at least 1e-7.

    Args:
        algorithm: One of ``ALGORITHMS``.

    Raises:
        BadInput: An unknown algorithm, or PaddleSlim is not installed.
    """

    def __init__(self, algorithm: str) -> None:
        if algorithm not in ALGORITHMS:
            raise BadInput(f"unknown calibration algorithm '{algorithm}'", f"choose one of {', '.join(ALGORITHMS)}")
        from paddle_tk.quantize.slim_observers import make_layer

        self.algorithm, self.batches = algorithm, 0
        self._layer: Any = make_layer(algorithm)
        self._low, self._high = np.inf, -np.inf

    def add(self, array: Array) -> None:
        """Takes one batch into account.

        Args:
            array: float32 of any shape, images along the first axis.

        Raises:
            ValueError: Another type, no value at all, or one that is not finite.
        """
        if array.dtype != np.float32 or array.size == 0:
            raise ValueError(f"expected float32 values, got {array.dtype} {array.shape}")
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"expected finite values, got some from {low} to {high}")
        self._low, self._high = min(self._low, low), max(self._high, high)
        self.batches += 1
        with paddle.no_grad():
            self._layer(paddle.to_tensor(np.atleast_1d(array)))

    def range(self) -> TensorRange:
        """Returns what was seen so far.

        Raises:
            ValueError: Nothing was.
        """
        if not self.batches:
            raise ValueError("no batch was observed")
        self._layer._scale = None  # abs-max would keep the one of an earlier question
        largest = max(-self._low, self._high)  # PaddleSlim's quantile may lie half a bin beyond it
        threshold = max(min(float(self._layer.scales()), largest), LEAST_THRESHOLD)
        return TensorRange(self._low, self._high, threshold, self.algorithm, self.batches)


def channel_scales(weight: Array, axis: int) -> Array:
    """Returns the int8 scale of each channel of a weight, by PaddleSlim's channel-wise abs-max observer.

    Args:
        weight: float32, as Paddle stores it.
        axis: The axis of output channels: 0 for Conv2D (out, in, h, w), 1 for Linear (in, out) and for Conv2DTranspose
            (in, out, h, w).

    Returns:
        float32, (channels,): max |w| / 127; 1e-8 / 127 for a channel of zeros.

    Raises:
        BadInput: PaddleSlim is not installed.
    """
    from paddle_tk.quantize.slim_observers import ChannelAbsMaxLayer

    layer = ChannelAbsMaxLayer(axis)
    layer(paddle.to_tensor(weight))
    return np.asarray(layer.scales().numpy() / np.float32(LEVELS))
