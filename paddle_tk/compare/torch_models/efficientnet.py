"""EfficientNet-B0 (Tan and Le, arXiv 1905.11946), as ``paddle_tk.models.efficientnet`` defines it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paddle_tk.compare.torch_models.norm import BatchNorm2d

_DROP_PATH = 0.2  # of the last block; it grows linearly from 0 in the first
_LAST = 1280
# Factor of the hidden channels, kernel, stride of the first block, output channels, repeats: the paper's Table 1.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_SMALL_STRIDE = (1, 1, 2, 2, 1, 2, 1)  # of the stages with the small stem, whose first convolution has stride 1 too


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, swish: bool = True
) -> Any:
    layers = [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        BatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, nn.SiLU()) if swish else nn.Sequential(*layers)


class DropPath(nn.Module):
    """Drops whole samples of a residual branch while training and scales the others to keep the mean.

    Args:
        rate: Probability, 0 <= rate < 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = torch.floor(keep + torch.rand(x.shape[0], 1, 1, 1, device=x.device)).to(x.dtype)
        return x * (kept / keep)


class SqueezeExcite(nn.Module):
    """Weighs channels by their means over the picture (arXiv 1709.01507), here with a swish in between."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.swish = nn.SiLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, C, H, W) to the same shape."""
        return x * self.gate(self.expand(self.swish(self.reduce(self.pool(x)))))


class MBConv(nn.Module):
    """Inverted residual block with squeeze-and-excitation; the squeeze is a quarter of the block's input."""

    def __init__(
        self, in_channels: int, out_channels: int, *, expand: int, kernel: int, stride: int, drop_path: float
    ) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand = _conv_norm(in_channels, hidden, 1) if expand != 1 else nn.Identity()
        self.depthwise = _conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.squeeze = SqueezeExcite(hidden, in_channels // 4)
        self.project = _conv_norm(hidden, out_channels, 1, swish=False)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        out = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + self.drop_path(out) if self.residual else out


class EfficientNet(nn.Module):
    """EfficientNet-B0.

    Args:
        num_classes: Class count C.
        stem: "imagenet", or "small": the first two strides are 1.
        dropout: Before the classifier.
    """

    def __init__(self, num_classes: int, stem: str, dropout: float) -> None:
        super().__init__()
        small = stem == "small"
        channels = 32
        self.stem = _conv_norm(3, channels, 3, stride=1 if small else 2)
        total = sum(repeats for *_, repeats in _STAGES)
        blocks: list[MBConv] = []
        for (expand, kernel, stride, out_channels, repeats), small_stride in zip(_STAGES, _SMALL_STRIDE, strict=True):
            first = small_stride if small else stride
            for repeat in range(repeats):
                blocks.append(
                    MBConv(
                        channels,
                        out_channels,
                        expand=expand,
                        kernel=kernel,
                        stride=first if repeat == 0 else 1,
                        drop_path=_DROP_PATH * len(blocks) / total,
                    )
                )
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv_norm(channels, _LAST, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(_LAST, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (B, 3, H, W) to logits (B, C)."""
        x = self.head(self.blocks(self.stem(images)))
        return self.classifier(torch.flatten(self.pool(x), 1))


def efficientnet_b0(num_classes: int, *, stem: str, dropout: float = 0.2) -> EfficientNet:
    """Builds EfficientNet-B0."""
    return EfficientNet(num_classes, stem, dropout)
