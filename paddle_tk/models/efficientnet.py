"""EfficientNet-B0 to B3 (Tan and Le, arXiv 1905.11946), written from the paper and its published settings.

Convolutions pad symmetrically (kernel // 2 on every side).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn

DROP_PATH = 0.2  # of the last block; it grows linearly from 0 in the first
SE_RATIO = 0.25


@dataclass(frozen=True)
class Stage:
    """A row of the paper's Table 1: ``repeats`` blocks, the first of which has ``stride``."""

    expand: int
    kernel: int
    stride: int
    channels: int
    repeats: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


def round_channels(channels: int, width: float) -> int:
    """Scales a channel count and rounds to the nearest multiple of 8 that loses no more than 10 %."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


def round_repeats(repeats: int, depth: float) -> int:
    """Scales a repeat count, rounding up."""
    return math.ceil(repeats * depth)


def _conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> Any:
    fan_out = kernel * kernel * out_channels // groups
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        weight_attr=nn.initializer.Normal(0.0, math.sqrt(2.0 / fan_out)),
        bias_attr=None if bias else False,
    )


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, swish: bool = True
) -> Any:
    layers = [
        _conv(in_channels, out_channels, kernel, stride=stride, groups=groups),
        # Paddle's momentum is the share of the old statistics that is kept.
        nn.BatchNorm2D(out_channels, momentum=0.99, epsilon=1e-3),
    ]
    return nn.Sequential(*layers, nn.Swish()) if swish else nn.Sequential(*layers)


class DropPath(nn.Layer):
    """Drops whole samples of a residual branch while training and scales the others to keep the mean.

    Args:
        rate: Probability, 0 <= rate < 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, C, H, W) to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = paddle.floor(keep + paddle.rand([x.shape[0], 1, 1, 1])).astype(x.dtype)
        return x * (kept / keep)


class SqueezeExcite(nn.Layer):
    """Weighs channels by their means over the picture (arXiv 1709.01507), here with a swish in between."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.reduce = _conv(channels, squeezed, 1, bias=True)
        self.swish = nn.Swish()
        self.expand = _conv(squeezed, channels, 1, bias=True)
        self.gate = nn.Sigmoid()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, C, H, W) to the same shape."""
        return x * self.gate(self.expand(self.swish(self.reduce(self.pool(x)))))


class MBConv(nn.Layer):
    """Inverted residual block with squeeze-and-excitation; the squeeze is a quarter of the block's input."""

    def __init__(
        self, in_channels: int, out_channels: int, *, expand: int, kernel: int, stride: int, drop_path: float
    ) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand = _conv_norm(in_channels, hidden, 1) if expand != 1 else nn.Identity()
        self.depthwise = _conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.squeeze = SqueezeExcite(hidden, max(1, int(in_channels * SE_RATIO)))
        self.project = _conv_norm(hidden, out_channels, 1, swish=False)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        out = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + self.drop_path(out) if self.residual else out


class EfficientNet(nn.Layer):
    """EfficientNet of any scale.

    Args:
        width: Factor of all channel counts.
        depth: Factor of all repeat counts.
        dropout: Before the classifier.
        num_classes: Class count C.
    """

    def __init__(self, *, width: float, depth: float, dropout: float, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels = round_channels(32, width)
        self.stem = _conv_norm(3, channels, 3, stride=2)
        total = sum(round_repeats(stage.repeats, depth) for stage in STAGES)
        blocks: list[MBConv] = []
        for stage in STAGES:
            out_channels = round_channels(stage.channels, width)
            for repeat in range(round_repeats(stage.repeats, depth)):
                blocks.append(
                    MBConv(
                        channels,
                        out_channels,
                        expand=stage.expand,
                        kernel=stage.kernel,
                        stride=stage.stride if repeat == 0 else 1,
                        drop_path=DROP_PATH * len(blocks) / total,
                    )
                )
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        last = round_channels(1280, width)
        self.head = _conv_norm(channels, last, 1)
        self.pool = nn.AdaptiveAvgPool2D(1)
        # The published bound, 1 / sqrt(classes), is as large at 1000 classes and far too large at 10.
        bound = 1.0 / math.sqrt(last)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(last, num_classes, weight_attr=nn.initializer.Uniform(-bound, bound)),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps images (B, 3, H, W) to logits (B, C)."""
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(paddle.flatten(self.pool(x), 1))


def efficientnet_b0(num_classes: int) -> EfficientNet:
    """Builds EfficientNet-B0, published at 224 px."""
    return EfficientNet(width=1.0, depth=1.0, dropout=0.2, num_classes=num_classes)


def efficientnet_b1(num_classes: int) -> EfficientNet:
    """Builds EfficientNet-B1, published at 240 px."""
    return EfficientNet(width=1.0, depth=1.1, dropout=0.2, num_classes=num_classes)


def efficientnet_b2(num_classes: int) -> EfficientNet:
    """Builds EfficientNet-B2, published at 260 px."""
    return EfficientNet(width=1.1, depth=1.2, dropout=0.3, num_classes=num_classes)


def efficientnet_b3(num_classes: int) -> EfficientNet:
    """Builds EfficientNet-B3, published at 300 px."""
    return EfficientNet(width=1.2, depth=1.4, dropout=0.3, num_classes=num_classes)
