"""Paddle's networks that were made for one image size or return more than logits, fitted to this package.

LeNet, AlexNet, VGG and GoogLeNet's auxiliary classifiers flatten a feature map of one fixed size. For other
images the map is averaged to that size by means that export to ONNX, which an adaptive pool does not at most sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.vision.models import GoogLeNet as PaddleGoogLeNet
from paddle.vision.models import LeNet

from paddle_tk.errors import BadInput

_Steps = tuple[tuple[int, int, int], ...]  # kernel, stride, padding of each layer that changes the size
_POOL = (3, 2, 0)
_LENET: _Steps = ((2, 2, 0), (5, 1, 0), (2, 2, 0))
_ALEXNET: dict[str, _Steps] = {
    "imagenet": ((11, 4, 2), _POOL, _POOL, _POOL),
    "small": (_POOL, _POOL),
}
_VGG: _Steps = ((2, 2, 0),) * 5
_GOOGLENET_GRID = 3
_GOOGLENET_4A: dict[str, _Steps] = {
    "imagenet": ((7, 2, 3), _POOL, _POOL, _POOL),
    "small": (_POOL, _POOL),
}


class GoogLeNet(PaddleGoogLeNet):
    """GoogLeNet (arXiv 1409.4842) that returns its auxiliary logits only while it trains.

    Parameter names are Paddle's. The first pool is a layer of its own here, so that a stem can leave it out.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes)
        self.stem_pool = nn.MaxPool2D(kernel_size=3, stride=2)

    def forward(self, inputs: paddle.Tensor) -> Any:
        """Maps (B, 3, H, W) to logits (B, C), in training mode also those of the auxiliary heads."""
        x = self.stem_pool(self._conv(inputs))
        x = self._pool(self._conv_2(self._conv_1(x)))
        x = self._pool(self._ince3b(self._ince3a(x)))
        first = self._ince4a(x)
        second = self._ince4d(self._ince4c(self._ince4b(first)))
        x = self._pool(self._ince4e(second))
        x = self._pool_5(self._ince5b(self._ince5a(x)))
        logits = self._fc_out(paddle.flatten(self._drop(x), 1))
        if not self.training:
            return logits
        # As in Paddle's own network, only the first auxiliary head has a ReLU.
        x = paddle.flatten(self._conv_o1(self._pool_o1(first)), 1)
        first_logits = self._out1(self._drop_o1(nn.functional.relu(self._fc_o1(x))))
        x = paddle.flatten(self._conv_o2(self._pool_o2(second)), 1)
        return logits, first_logits, self._out2(self._drop_o2(self._fc_o2(x)))


def googlenet(num_classes: int) -> GoogLeNet:
    """Builds GoogLeNet."""
    return GoogLeNet(num_classes)


def lenet(num_classes: int) -> Any:
    """Builds LeNet with a first convolution for RGB rather than grey images."""
    network = LeNet(num_classes=num_classes)
    network.features[0] = nn.Conv2D(3, 6, 3, stride=1, padding=1)
    return network


def fit_to_size(key: str, network: Any, stem: str, image_size: tuple[int, int]) -> None:
    """Fits a network of fixed input size to ``image_size`` (height, width) in pixels; others are left alone.

    Args:
        key: The family's key.
        network: Changed in place; no parameter is added, renamed or reshaped.
        stem: "imagenet" or "small".
        image_size: Not under the family's least size.
    """
    if key in SIZE_ADAPTERS:
        SIZE_ADAPTERS[key](network, stem, image_size)


def take_any_size(network: Any) -> None:
    """Lets a network that was fitted to one image size take others, for the memory model: it allocates as much.

    A network that flattens its map without a pool (AlexNet and LeNet at their own size) still takes that size only.
    """
    for layer in network.sublayers(include_self=True):
        for name, child in list(layer.named_children()):
            if hasattr(child, "grid"):
                layer.add_sublayer(name, nn.AdaptiveAvgPool2D(child.grid))
    if isinstance(network, GoogLeNet):
        network._pool_o1 = network._pool_o2 = nn.AdaptiveAvgPool2D(_GOOGLENET_GRID)


def _sides(image_size: tuple[int, int], steps: _Steps) -> tuple[int, int]:
    height, width = image_size
    for kernel, stride, padding in steps:
        height = (height + 2 * padding - kernel) // stride + 1
        width = (width + 2 * padding - kernel) // stride + 1
    return height, width


def _pool_to(grid: int, sides: tuple[int, int]) -> Any:
    """Returns an average pool that maps ``sides``, each at least ``grid``, to (grid, grid)."""
    if min(sides) < grid:
        raise BadInput(f"a feature map of {sides} cannot be pooled to {grid}x{grid}", "use larger images")
    strides = [side // grid for side in sides]
    windows = [side - (grid - 1) * stride for side, stride in zip(sides, strides, strict=True)]
    pool = nn.AvgPool2D(kernel_size=windows, stride=strides)
    pool.grid = grid
    return pool


class SpreadMean(nn.Layer):
    """Adaptive average pooling to a larger map, as two products with constant matrices.

    Output row i averages input rows floor(i h / grid) up to ceil((i + 1) h / grid); columns alike.

    Args:
        grid: Side of the output.
        sides: (h, w) of the input.
    """

    def __init__(self, grid: int, sides: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (paddle.to_tensor(_adaptive_means(grid, side)) for side in sides)
        self.register_buffer("rows", rows, persistable=False)
        self.register_buffer("columns", columns.t(), persistable=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, C, h, w) to (B, C, grid, grid)."""
        rows, columns = self.rows.astype(x.dtype), self.columns.astype(x.dtype)
        return paddle.matmul(paddle.matmul(rows, x), columns)


def _adaptive_means(grid: int, side: int) -> np.ndarray[Any, Any]:
    means = np.zeros((grid, side), np.float32)
    for i in range(grid):
        start, end = i * side // grid, -(-(i + 1) * side // grid)
        means[i, start:end] = 1.0 / (end - start)
    return means


def _fit_vgg(network: Any, stem: str, image_size: tuple[int, int]) -> None:
    sides = _sides(image_size, _VGG)
    network.avgpool = _pool_to(7, sides) if min(sides) >= 7 else SpreadMean(7, sides)


def _fit_lenet(network: Any, stem: str, image_size: tuple[int, int]) -> None:
    sides = _sides(image_size, _LENET)
    if sides != (5, 5):
        network.features.add_sublayer("6", _pool_to(5, sides))


def _fit_alexnet(network: Any, stem: str, image_size: tuple[int, int]) -> None:
    sides = _sides(image_size, _ALEXNET[stem])
    if sides != (6, 6):
        network._conv5._pool = nn.Sequential(network._conv5._pool, _pool_to(6, sides))


def _fit_googlenet(network: Any, stem: str, image_size: tuple[int, int]) -> None:
    sides = _sides(image_size, _GOOGLENET_4A[stem])
    if _sides(sides, ((5, 3, 0),)) != (_GOOGLENET_GRID, _GOOGLENET_GRID):
        network._pool_o1 = network._pool_o2 = _pool_to(_GOOGLENET_GRID, sides)


SIZE_ADAPTERS: dict[str, Callable[[Any, str, tuple[int, int]], None]] = {
    "lenet": _fit_lenet,
    "vgg": _fit_vgg,
    "alexnet": _fit_alexnet,
    "googlenet": _fit_googlenet,
}
