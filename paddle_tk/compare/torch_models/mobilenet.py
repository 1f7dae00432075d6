"""MobileNetV2 (Sandler et al., arXiv 1801.04381), as ``paddle.vision.models`` defines it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paddle_tk.compare.torch_models.norm import BatchNorm2d

_LAST = 1280
# Factor of the hidden channels, output channels, repeats, stride of the first one: the paper's Table 2.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_SMALL_STRIDE = (1, 1, 2, 2, 1, 2, 1)  # of the stages with the small stem, whose first convolution has stride 1 too


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> Any:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Wider by a 1x1 convolution, depthwise 3x3, narrower by a 1x1 convolution without activation."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expand: int) -> None:
        super().__init__()
        hidden = in_channels * expand
        wider = [_conv_norm_relu(in_channels, hidden, 1)] if expand != 1 else []
        self.conv = nn.Sequential(
            *wider,
            _conv_norm_relu(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.

    Args:
        num_classes: Class count C.
        stem: "imagenet", or "small": the first two strides are 1.
        dropout: Before the classifier.
    """

    def __init__(self, num_classes: int, stem: str, dropout: float) -> None:
        super().__init__()
        small = stem == "small"
        channels = 32
        features: list[Any] = [_conv_norm_relu(3, channels, 3, stride=1 if small else 2)]
        for (expand, out_channels, repeats, stride), small_stride in zip(_STAGES, _SMALL_STRIDE, strict=True):
            for repeat in range(repeats):
                first = small_stride if small else stride
                block = InvertedResidual(channels, out_channels, stride=first if repeat == 0 else 1, expand=expand)
                # A first block keeps its lack of a shortcut whatever its stride, as its channels change.
                features.append(block)
                channels = out_channels
        self.features = nn.Sequential(*features, _conv_norm_relu(channels, _LAST, 1))
        self.pool2d_avg = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(_LAST, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (B, 3, H, W) to logits (B, C)."""
        return self.classifier(torch.flatten(self.pool2d_avg(self.features(images)), 1))


def mobilenet_v2(num_classes: int, *, stem: str, dropout: float = 0.2) -> MobileNetV2:
    """Builds MobileNetV2."""
    return MobileNetV2(num_classes, stem, dropout)
