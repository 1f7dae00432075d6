"""ResNet-18 and 50 (He et al., arXiv 1512.03385), as ``paddle.vision.models`` defines them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paddle_tk.compare.torch_models.norm import BatchNorm2d


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> Any:
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, channels, 3, stride), BatchNorm2d(channels)
        self.conv2, self.bn2 = _conv(channels, channels, 3), BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class BottleneckBlock(nn.Module):
    """A 3x3 convolution, which has the stride, between two 1x1 ones, and a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        wide = channels * self.expansion
        self.conv1, self.bn1 = _conv(in_channels, channels, 1), BatchNorm2d(channels)
        self.conv2, self.bn2 = _conv(channels, channels, 3, stride), BatchNorm2d(channels)
        self.conv3, self.bn3 = _conv(channels, wide, 1), BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, 4 * channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """A ResNet.

    Args:
        block: Kind of its blocks.
        repeats: Blocks in each of the four stages.
        num_classes: Class count C.
        stem: "imagenet" (7x7 of stride 2 and a max-pool) or "small" (3x3 of stride 1, no pool).
    """

    def __init__(
        self, block: type[BasicBlock | BottleneckBlock], repeats: tuple[int, ...], num_classes: int, stem: str
    ) -> None:
        super().__init__()
        small = stem == "small"
        self.conv1 = _conv(3, 64, 3) if small else _conv(3, 64, 7, 2)
        self.bn1 = BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, repeats[0], 1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, repeats[1], 2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, repeats[2], 2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, repeats[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (B, 3, H, W) to logits (B, C)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _stage(
    block: type[BasicBlock | BottleneckBlock], in_channels: int, channels: int, repeats: int, stride: int
) -> Any:
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(_conv(in_channels, out_channels, 1, stride), BatchNorm2d(out_channels))
    first = block(in_channels, channels, stride, downsample)
    return nn.Sequential(first, *(block(out_channels, channels, 1, None) for _ in range(repeats - 1)))


def resnet18(num_classes: int, *, stem: str) -> ResNet:
    """Builds ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, stem)


def resnet50(num_classes: int, *, stem: str) -> ResNet:
    """Builds ResNet-50."""
    return ResNet(BottleneckBlock, (3, 4, 6, 3), num_classes, stem)
