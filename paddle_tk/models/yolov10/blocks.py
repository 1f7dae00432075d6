"""Building blocks of YOLOv10 (arXiv 2405.14458, figures 2 to 4); those it takes over from YOLOv8 are named so.

Every block maps (B, in_channels, H, W) to (B, out_channels, H', W'); convolutions pad by half their kernel.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import paddle
from paddle import nn

from paddle_tk.models.activations import make_activation
from paddle_tk.models.flops import MatrixProduct


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> Any:
    """Returns a convolution initialised as published: uniform in +-1 / sqrt(fan in), its bias 0."""
    # Paddle's own initialisation ignores groups, which leaves depthwise weights hundreds of times too small.
    bound = 1.0 / math.sqrt(in_channels // groups * kernel * kernel)
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        weight_attr=nn.initializer.Uniform(-bound, bound),
        bias_attr=None if bias else False,
    )


class ConvAct(nn.Layer):
    """A convolution with bias and an activation: what fusing leaves of ``ConvNorm`` and ``LargeKernel``."""

    def __init__(self, convolution: Any, activation: Any) -> None:
        super().__init__()
        self.conv, self.act = convolution, activation

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps as the convolution does."""
        return self.act(self.conv(x))


class ConvNorm(nn.Layer):
    """Convolution, batch norm and an activation, or none."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, act: str | None
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel, stride=stride, groups=groups)
        # The published momentum, 0.03, is the share of the new statistics; Paddle's is that of the old.
        self.norm = nn.BatchNorm2D(out_channels, momentum=0.97, epsilon=1e-3)
        self.act = nn.Identity() if act is None else make_activation(act)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps as the convolution does."""
        return self.act(self.norm(self.conv(x)))

    def fused(self) -> ConvAct:
        """Returns the same function in evaluation mode as one convolution; see ``fuse``."""
        return ConvAct(self.fused_conv(), self.act)

    def fused_conv(self) -> Any:
        """Returns the convolution with the norm's scale and shift in its weight and bias."""
        old, norm = self.conv, self.norm
        scale = norm.weight / paddle.sqrt(norm._variance + norm._epsilon)
        new = _with_bias(old)
        new.weight.set_value(old.weight * scale.reshape([-1, 1, 1, 1]))
        new.bias.set_value(norm.bias - norm._mean * scale)
        return new


def _with_bias(old: Any) -> Any:
    outputs, inputs, kernel, _ = old.weight.shape
    groups = int(old._groups)
    zero = nn.initializer.Constant(0.0)  # draws no random numbers: a fusing must not change the training around it
    return nn.Conv2D(
        inputs * groups, outputs, kernel, stride=old._stride, padding=kernel // 2, groups=groups, weight_attr=zero
    )


class LargeKernel(nn.Layer):
    """Depthwise 7x7 beside a depthwise 3x3 that eases its training; the two are one convolution afterwards."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.large = ConvNorm(channels, channels, 7, groups=channels, act=None)
        self.small = ConvNorm(channels, channels, 3, groups=channels, act=None)
        self.act = nn.Identity() if act is None else make_activation(act)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Keeps the shape."""
        return self.act(self.large(x) + self.small(x))

    def fused(self) -> ConvAct:
        """Returns the same function in evaluation mode as one 7x7 convolution; see ``fuse``."""
        large, small = self.large.fused_conv(), self.small.fused_conv()
        large.weight.set_value(large.weight + nn.functional.pad(small.weight, [2, 2, 2, 2]))
        large.bias.set_value(large.bias + small.bias)
        return ConvAct(large, self.act)


def fuse(layer: Any) -> None:
    """Replaces every convolution with batch norm below ``layer`` by one convolution, in place."""
    for name, child in list(layer.named_children()):
        if isinstance(child, ConvNorm | LargeKernel):
            with paddle.no_grad():
                layer.add_sublayer(name, child.fused())
        else:
            fuse(child)


class Bottleneck(nn.Layer):
    """Two 3x3 convolutions (YOLOv8)."""

    def __init__(self, channels: int, *, shortcut: bool, act: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, act=act)
        self.conv2 = ConvNorm(channels, channels, 3, act=act)
        self.shortcut = shortcut

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Keeps the shape."""
        out = self.conv2(self.conv1(x))
        return x + out if self.shortcut else out


class CompactBottleneck(nn.Layer):
    """The compact inverted block (CIB): depthwise convolutions mix positions, 1x1 ones mix channels."""

    def __init__(self, channels: int, *, shortcut: bool, large_kernel: bool, act: str) -> None:
        super().__init__()
        inner = 2 * channels
        middle = LargeKernel(inner, act) if large_kernel else ConvNorm(inner, inner, 3, groups=inner, act=act)
        self.layers = nn.Sequential(
            ConvNorm(channels, channels, 3, groups=channels, act=act),
            ConvNorm(channels, inner, 1, act=act),
            middle,
            ConvNorm(inner, channels, 1, act=act),
            ConvNorm(channels, channels, 3, groups=channels, act=act),
        )
        self.shortcut = shortcut

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Keeps the shape."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class Stage(nn.Layer):
    """YOLOv8's C2f: half of the channels pass a chain of blocks, and all the chain's outputs are joined.

    Args:
        in_channels: Of the input.
        out_channels: Of the output; the chain has half of them.
        repeats: Blocks in the chain.
        block: Builds a block of a channel count.
        act: Activation.
    """

    def __init__(self, in_channels: int, out_channels: int, repeats: int, *, block: Any, act: str) -> None:
        super().__init__()
        inner = out_channels // 2
        self.split = ConvNorm(in_channels, 2 * inner, 1, act=act)
        self.blocks = nn.LayerList([block(inner) for _ in range(repeats)])
        self.join = ConvNorm((2 + repeats) * inner, out_channels, 1, act=act)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H, W)."""
        parts = list(paddle.split(self.split(x), 2, axis=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(paddle.concat(parts, axis=1))


def c2f(in_channels: int, out_channels: int, repeats: int, *, shortcut: bool, act: str) -> Stage:
    """Returns a stage of ordinary bottlenecks."""
    return Stage(in_channels, out_channels, repeats, block=partial(Bottleneck, shortcut=shortcut, act=act), act=act)


def c2f_cib(in_channels: int, out_channels: int, repeats: int, *, large_kernel: bool, act: str) -> Stage:
    """Returns a stage of compact inverted blocks, which always have their shortcut."""
    block = partial(CompactBottleneck, shortcut=True, large_kernel=large_kernel, act=act)
    return Stage(in_channels, out_channels, repeats, block=block, act=act)


class SeparatedDown(nn.Layer):
    """SCDown: a 1x1 convolution changes the channels, then a depthwise one of stride 2 the resolution."""

    def __init__(self, in_channels: int, out_channels: int, act: str) -> None:
        super().__init__()
        self.channels = ConvNorm(in_channels, out_channels, 1, act=act)
        self.reduce = ConvNorm(out_channels, out_channels, 3, stride=2, groups=out_channels, act=None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        return self.reduce(self.channels(x))


class PyramidPool(nn.Layer):
    """SPPF (YOLOv8): three 5x5 max-pools in a row, which see 5, 9 and 13 positions, joined."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, channels // 2, 1, act=act)
        self.pool = nn.MaxPool2D(5, stride=1, padding=2)
        self.join = ConvNorm(channels // 2 * 4, channels, 1, act=act)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Keeps the shape."""
        parts = [self.reduce(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.join(paddle.concat(parts, axis=1))


class Attention(nn.Layer):
    """Multi-head self-attention over all positions, with keys of half the values' width.

    A depthwise convolution of the values stands for a position encoding.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.value_width = heads, channels // heads
        self.key_width = self.value_width // 2
        self.query_key_value = ConvNorm(channels, channels + 2 * heads * self.key_width, 1, act=None)
        self.position = ConvNorm(channels, channels, 3, groups=channels, act=None)
        self.project = ConvNorm(channels, channels, 1, act=None)
        self.similarity = MatrixProduct(transpose_x=True)
        self.softmax = nn.Softmax(axis=-1)
        self.mix = MatrixProduct(transpose_y=True)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Keeps the shape."""
        batch, channels, height, width = x.shape
        joined = self.query_key_value(x).reshape([batch, self.heads, -1, height * width])
        query, key, value = paddle.split(joined, [self.key_width, self.key_width, self.value_width], axis=2)
        weights = self.softmax(self.similarity(query * self.key_width**-0.5, key))
        mixed = self.mix(value, weights).reshape([batch, channels, height, width])
        return self.project(mixed + self.position(value.reshape([batch, channels, height, width])))


class PartialAttention(nn.Layer):
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

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Keeps the shape."""
        kept, mixed = paddle.split(self.split(x), 2, axis=1)
        mixed = mixed + self.attention(mixed)
        mixed = mixed + self.feed_forward(mixed)
        return self.join(paddle.concat([kept, mixed], axis=1))
