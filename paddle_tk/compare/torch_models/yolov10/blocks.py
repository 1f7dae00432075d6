"""Building blocks of YOLOv10 (arXiv 2405.14458), as ``paddle_tk.models.yolov10.blocks`` defines them.

Every block maps (B, in_channels, H, W) to (B, out_channels, H', W'); convolutions pad by half their kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paddle_tk.compare.torch_models.norm import BatchNorm2d
from paddle_tk.errors import BadInput

_ACTIVATIONS: dict[str, Any] = {
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
}


def make_activation(name: str) -> Any:
    """Returns an activation layer.

    Raises:
        BadInput: An unknown name.
    """
    if name not in _ACTIVATIONS:
        raise BadInput(f"unknown activation '{name}'", f"use one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


class ConvNorm(nn.Module):
    """Convolution, batch norm and an activation, or none."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, act: str | None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)
        self.act = nn.Identity() if act is None else make_activation(act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps as the convolution does."""
        return self.act(self.norm(self.conv(x)))


class LargeKernel(nn.Module):
    """Depthwise 7x7 beside a depthwise 3x3 that eases its training."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.large = ConvNorm(channels, channels, 7, groups=channels, act=None)
        self.small = ConvNorm(channels, channels, 3, groups=channels, act=None)
        self.act = make_activation(act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        return self.act(self.large(x) + self.small(x))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions."""

    def __init__(self, channels: int, *, shortcut: bool, act: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, act=act)
        self.conv2 = ConvNorm(channels, channels, 3, act=act)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        out = self.conv2(self.conv1(x))
        return x + out if self.shortcut else out


class CompactBottleneck(nn.Module):
    """The compact inverted block with a large kernel: depthwise convolutions mix positions, 1x1 ones mix channels."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        inner = 2 * channels
        self.layers = nn.Sequential(
            ConvNorm(channels, channels, 3, groups=channels, act=act),
            ConvNorm(channels, inner, 1, act=act),
            LargeKernel(inner, act),
            ConvNorm(inner, channels, 1, act=act),
            ConvNorm(channels, channels, 3, groups=channels, act=act),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        return x + self.layers(x)


class Stage(nn.Module):
    """C2f: half of the channels pass a chain of blocks, and all the chain's outputs are joined.

    Args:
        in_channels: Of the input.
        out_channels: Of the output; the chain has half of them.
        blocks: The chain.
        act: Activation.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: list[Any], act: str) -> None:
        super().__init__()
        inner = out_channels // 2
        self.split = ConvNorm(in_channels, 2 * inner, 1, act=act)
        self.blocks = nn.ModuleList(blocks)
        self.join = ConvNorm((2 + len(blocks)) * inner, out_channels, 1, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        parts = list(self.split(x).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, dim=1))


def c2f(in_channels: int, out_channels: int, repeats: int, *, shortcut: bool = False, act: str) -> Stage:
    """Returns a stage of ordinary bottlenecks."""
    blocks = [Bottleneck(out_channels // 2, shortcut=shortcut, act=act) for _ in range(repeats)]
    return Stage(in_channels, out_channels, blocks, act)


def c2f_cib(in_channels: int, out_channels: int, act: str) -> Stage:
    """Returns a stage of one compact inverted block."""
    return Stage(in_channels, out_channels, [CompactBottleneck(out_channels // 2, act)], act)


class SeparatedDown(nn.Module):
    """SCDown: a 1x1 convolution changes the channels, then a depthwise one of stride 2 the resolution."""

    def __init__(self, in_channels: int, out_channels: int, act: str) -> None:
        super().__init__()
        self.channels = ConvNorm(in_channels, out_channels, 1, act=act)
        self.reduce = ConvNorm(out_channels, out_channels, 3, stride=2, groups=out_channels, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        return self.reduce(self.channels(x))


class PyramidPool(nn.Module):
    """SPPF: three 5x5 max-pools in a row, joined with what goes in."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, channels // 2, 1, act=act)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = ConvNorm(channels // 2 * 4, channels, 1, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        parts = [self.reduce(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.join(torch.cat(parts, dim=1))


class Attention(nn.Module):
    """Multi-head self-attention over all positions, with keys of half the values' width."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.value_width = heads, channels // heads
        self.key_width = self.value_width // 2
        self.query_key_value = ConvNorm(channels, channels + 2 * heads * self.key_width, 1, act=None)
        self.position = ConvNorm(channels, channels, 3, groups=channels, act=None)
        self.project = ConvNorm(channels, channels, 1, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        batch, channels, height, width = x.shape
        joined = self.query_key_value(x).reshape(batch, self.heads, -1, height * width)
        query, key, value = joined.split([self.key_width, self.key_width, self.value_width], dim=2)
        weights = torch.softmax((query * self.key_width**-0.5).transpose(-2, -1) @ key, dim=-1)
        mixed = (value @ weights.transpose(-2, -1)).reshape(batch, channels, height, width)
        return self.project(mixed + self.position(value.reshape(batch, channels, height, width)))


class PartialAttention(nn.Module):
    """PSA: one half of the channels passes attention and a feed-forward network, the other goes by."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        inner = channels // 2
        self.split = ConvNorm(channels, 2 * inner, 1, act=act)
        self.attention = Attention(inner, heads=max(1, inner // 64))
        self.feed_forward = nn.Sequential(
            ConvNorm(inner, 2 * inner, 1, act=act), ConvNorm(2 * inner, inner, 1, act=None)
        )
        self.join = ConvNorm(2 * inner, channels, 1, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        kept, mixed = self.split(x).chunk(2, dim=1)
        mixed = mixed + self.attention(mixed)
        mixed = mixed + self.feed_forward(mixed)
        return self.join(torch.cat([kept, mixed], dim=1))
