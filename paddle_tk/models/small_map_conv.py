"""Convolutions over small maps on a CPU, as one matrix product for the whole batch.

Paddle's CPU kernel multiplies image by image. Where a map has a few positions only (the last stages of a network for
small images), every image reads the whole weight again and the product is bound by memory: forward and backward of a
512-channel 3x3 convolution over 2x2 maps, batch 32, took 56 ms that way and 11 ms as one product. Parameters, their
names and the mathematics are the same; sums are rounded in another order. benchmarks/small_map_conv.py measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle

# Above 4x4 positions the unfolded columns cost more than the shared weight saves.
MOST_POSITIONS = 16


def use_small_map_conv(network: paddle.nn.Layer) -> int:
    """Lets a network's ordinary convolutions compute small maps by one product while it trains.

    Evaluation keeps Paddle's kernel, so that figures are those of the network that is shipped. Grouped, dilated and
    oddly padded convolutions are left alone.

    Args:
        network: Changed in place; to be used for training on a CPU only, and never exported.

    Returns:
        How many layers can take the faster way.
    """
    layers = [layer for layer in network.sublayers() if _fits(layer)]
    for layer in layers:
        layer.forward = SmallMapForward(layer)
    return len(layers)


def _fits(layer: Any) -> bool:
    if type(layer) is not paddle.nn.Conv2D or layer._groups != 1 or layer._padding_mode != "zeros":
        return False
    return _pair(layer._dilation) == (1, 1) and _padding(layer) is not None


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _padding(layer: Any) -> tuple[int, int] | None:
    padding = layer._padding
    if isinstance(padding, int):
        return padding, padding
    if isinstance(padding, list | tuple) and len(padding) == 2 and all(isinstance(p, int) for p in padding):
        return int(padding[0]), int(padding[1])
    return None


def is_small(height: int, width: int) -> bool:
    """Whether an output map is computed by the one product."""
    return 0 < height * width <= MOST_POSITIONS


class SmallMapForward:
    """The forward of one layer: one product where maps are small and the layer trains, Paddle's kernel elsewhere.

    Attributes:
        small: Decides by the height and width of the output map; is asked once in every training pass. The memory model
            replaces it, so that small images take the way that large ones will.
    """

    def __init__(self, layer: Any) -> None:
        self.layer, self.plain = layer, layer.forward
        self.small: Callable[[int, int], bool] = is_small
        self.kernel, self.stride = _pair(layer._kernel_size), _pair(layer._stride)
        self.padding = _padding(layer) or (0, 0)

    def __call__(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, C, H, W) to the convolution's output."""
        height, width = self._output_size(int(x.shape[2]), int(x.shape[3]))
        if not self.layer.training or not self.small(height, width):
            return self.plain(x)
        batch, channels = int(x.shape[0]), int(x.shape[1])
        columns = self._columns(x, batch, channels)
        flat = columns.transpose([1, 0, 2]).reshape([channels * self.kernel[0] * self.kernel[1], -1])
        weight = self.layer.weight
        y = paddle.matmul(weight.reshape([weight.shape[0], -1]), flat)
        y = y.reshape([weight.shape[0], batch, height, width]).transpose([1, 0, 2, 3])
        return y if self.layer.bias is None else y + self.layer.bias.reshape([1, -1, 1, 1])

    def _output_size(self, height: int, width: int) -> tuple[int, int]:
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        return (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1

    def _columns(self, x: paddle.Tensor, batch: int, channels: int) -> paddle.Tensor:
        """Returns the patches as (B, C * kh * kw, positions)."""
        if self.kernel == (1, 1) and self.padding == (0, 0):
            return x[:, :, :: self.stride[0], :: self.stride[1]].reshape([batch, channels, -1])
        return paddle.nn.functional.unfold(x, list(self.kernel), list(self.stride), list(self.padding))
