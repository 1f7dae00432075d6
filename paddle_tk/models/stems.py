"""Stems for small images: the published networks reduce 224 px to 7, which leaves one of 32 px.

Every small stem here brings the whole network's reduction from 32 down to 8 (AlexNet: 4), by strides and
pools alone. No layer is renamed, so published weights still load, except into a first convolution of another
shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle
from paddle import nn
from paddle.vision.models.inceptionv3 import InceptionStem


def _conv3x3_like(conv: Any) -> Any:
    """Returns a 3x3 convolution of stride 1 that keeps the size, with ``conv``'s channels."""
    out_channels, in_channels = conv.weight.shape[:2]
    bias = None if conv.bias is not None else False
    return nn.Conv2D(in_channels, out_channels, 3, stride=1, padding=1, bias_attr=bias)


def _remove_strides(network: Any, count: int) -> None:
    """Sets the first ``count`` convolutions of stride 2 to stride 1; their weights stay as they are."""
    strided = [layer for layer in network.sublayers() if isinstance(layer, nn.Conv2D) and max(layer._stride) > 1]
    for layer in strided[:count]:
        layer._stride = [1, 1]


def _resnet(network: Any) -> None:
    network.conv1 = _conv3x3_like(network.conv1)
    network.maxpool = nn.Identity()


def _mobilenet(network: Any) -> None:
    _remove_strides(network, 2)


def _shufflenet(network: Any) -> None:
    _remove_strides(network, 1)
    network._max_pool = nn.Identity()


def _densenet(network: Any) -> None:
    network.conv1_func._conv = _conv3x3_like(network.conv1_func._conv)
    network.pool2d_max = nn.Identity()


def _squeezenet(network: Any) -> None:
    # One pool object serves three places, so the first pool stays and only the convolution's stride goes.
    network._conv = _conv3x3_like(network._conv)


def _googlenet(network: Any) -> None:
    network._conv._conv = _conv3x3_like(network._conv._conv)
    network.stem_pool = nn.Identity()


def _alexnet(network: Any) -> None:
    network._conv1._conv = _conv3x3_like(network._conv1._conv)
    network._conv1._pool = nn.Identity()


class SmallInceptionStem(InceptionStem):
    """Inception v3's stem without its first stride and its last pool; its parameters keep their names."""

    def __init__(self) -> None:
        super().__init__()
        _remove_strides(self, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, 3, H, W) to (B, 192, about H / 2, about W / 2)."""
        x = self.conv_2b_3x3(self.conv_2a_3x3(self.conv_1a_3x3(x)))
        return self.conv_4a_3x3(self.conv_3b_1x1(self.max_pool(x)))


def _inception(network: Any) -> None:
    network.inception_stem = SmallInceptionStem()


SMALL_STEMS: dict[str, Callable[[Any], None]] = {
    "resnet": _resnet,
    "mobilenet": _mobilenet,
    "shufflenet": _shufflenet,
    "densenet": _densenet,
    "squeezenet": _squeezenet,
    "googlenet": _googlenet,
    "alexnet": _alexnet,
    "inception": _inception,
}
