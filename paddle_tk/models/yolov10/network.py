"""YOLOv10 n, s, m, b, l and x (Wang et al., arXiv 2405.14458)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn

from paddle_tk.errors import BadInput
from paddle_tk.models.activations import make_activation
from paddle_tk.models.yolov10.blocks import (
    ConvNorm,
    PartialAttention,
    PyramidPool,
    SeparatedDown,
    c2f,
    c2f_cib,
    fuse,
)
from paddle_tk.models.yolov10.head import LEVELS, STRIDES, Head, cell_centres, decode_boxes, join_levels
from paddle_tk.models.yolov10.loss import YOLOv10Loss


@dataclass(frozen=True)
class Size:
    """One published scale.

    Attributes:
        depth: Factor of the stages' repeats.
        width: Factor of the channels.
        most_channels: Bound of the channels before ``width`` is applied.
        compact: Stages of compact inverted blocks (C2fCIB) rather than of bottlenecks (C2f).
        large_kernel: Whether those have the 7x7 depthwise convolution.
    """

    depth: float
    width: float
    most_channels: int
    compact: frozenset[str]
    large_kernel: bool = False

    def channels(self, published: int) -> int:
        """Scales a channel count, up to a multiple of 8."""
        return math.ceil(min(published, self.most_channels) * self.width / 8) * 8

    def repeats(self, published: int) -> int:
        """Scales a repeat count."""
        return max(1, round(published * self.depth))


_DEEP = frozenset({"stage5", "top4", "bottom4", "bottom5"})
SIZES = {
    "n": Size(0.33, 0.25, 1024, frozenset({"bottom5"}), large_kernel=True),
    "s": Size(0.33, 0.50, 1024, frozenset({"stage5", "bottom5"}), large_kernel=True),
    "m": Size(0.67, 0.75, 768, _DEEP - {"top4"}),
    "b": Size(0.67, 1.00, 512, _DEEP),
    "l": Size(1.00, 1.00, 512, _DEEP),
    "x": Size(1.00, 1.25, 512, _DEEP | {"stage4"}),
}


class _Builder:
    """Builds the parts of one size; channel counts are given as published for width 1."""

    def __init__(self, size: Size, act: str) -> None:
        self.size, self.act = size, act

    def conv(self, inputs: int, outputs: int) -> ConvNorm:
        return ConvNorm(self.size.channels(inputs), self.size.channels(outputs), 3, stride=2, act=self.act)

    def down(self, inputs: int, outputs: int) -> SeparatedDown:
        return SeparatedDown(self.size.channels(inputs), self.size.channels(outputs), self.act)

    def stage(self, name: str, inputs: tuple[int, ...], outputs: int, repeats: int, *, shortcut: bool = False) -> Any:
        channels, count = sum(self.size.channels(c) for c in inputs), self.size.repeats(repeats)
        if name in self.size.compact:
            large = self.size.large_kernel
            return c2f_cib(channels, self.size.channels(outputs), count, large_kernel=large, act=self.act)
        return c2f(channels, self.size.channels(outputs), count, shortcut=shortcut, act=self.act)


class Backbone(nn.Layer):
    """Five reductions by 2; the numbers in the names are those of the reductions."""

    def __init__(self, build: _Builder) -> None:
        super().__init__()
        self.stem = ConvNorm(3, build.size.channels(64), 3, stride=2, act=build.act)
        self.down2, self.stage2 = build.conv(64, 128), build.stage("stage2", (128,), 128, 3, shortcut=True)
        self.down3, self.stage3 = build.conv(128, 256), build.stage("stage3", (256,), 256, 6, shortcut=True)
        self.down4, self.stage4 = build.down(256, 512), build.stage("stage4", (512,), 512, 6, shortcut=True)
        self.down5, self.stage5 = build.down(512, 1024), build.stage("stage5", (1024,), 1024, 3, shortcut=True)
        self.pool = PyramidPool(build.size.channels(1024), build.act)
        self.attention = PartialAttention(build.size.channels(1024), build.act)

    def forward(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Maps (B, 3, H, W) to maps reduced 8, 16 and 32 times."""
        third = self.stage3(self.down3(self.stage2(self.down2(self.stem(images)))))
        fourth = self.stage4(self.down4(third))
        fifth = self.stage5(self.down5(fourth))
        return [third, fourth, self.attention(self.pool(fifth))]


class Neck(nn.Layer):
    """Carries coarse features to the fine maps and the outcome back (a path aggregation network, as in YOLOv8)."""

    def __init__(self, build: _Builder) -> None:
        super().__init__()
        self.top4 = build.stage("top4", (1024, 512), 512, 3)
        self.top3 = build.stage("top3", (512, 256), 256, 3)
        self.down4, self.bottom4 = build.conv(256, 256), build.stage("bottom4", (256, 512), 512, 3)
        self.down5, self.bottom5 = build.down(512, 512), build.stage("bottom5", (512, 1024), 1024, 3)

    def forward(self, features: list[paddle.Tensor]) -> list[paddle.Tensor]:
        """Keeps the maps' sizes."""
        third, fourth, fifth = features
        top4 = self.top4(paddle.concat([_double(fifth), fourth], axis=1))
        top3 = self.top3(paddle.concat([_double(top4), third], axis=1))
        bottom4 = self.bottom4(paddle.concat([self.down4(top3), top4], axis=1))
        return [top3, bottom4, self.bottom5(paddle.concat([self.down5(bottom4), fifth], axis=1))]


def _double(x: paddle.Tensor) -> paddle.Tensor:
    # By size, as Paddle2ONNX cannot convert the operator's scale.
    return nn.functional.interpolate(x, size=[2 * x.shape[2], 2 * x.shape[3]], mode="nearest")


class YOLOv10(nn.Layer):
    """A detector that needs no non-maximum suppression. Image sides are multiples of 32.

    While it trains, a second head with many positives per object teaches the shared layers; the one that is used in
    the end has one positive per object and gives no gradient to them (paper, section 3.1).

    Args:
        size: One of ``SIZES``.
        num_classes: Class count C.
        act: Name of all activations.

    Attributes:
        dual: Whether the one-to-many head is there; see ``inference_form``.
    """

    nms_iou: float | None = None
    strides = STRIDES

    def __init__(self, size: Size, num_classes: int, act: str) -> None:
        super().__init__()
        build = _Builder(size, act)
        self.num_classes, self.dual = num_classes, True
        self.backbone, self.neck = Backbone(build), Neck(build)
        channels = [size.channels(c) for c in (256, 512, 1024)]
        self.one_to_many = Head(channels, num_classes, act)
        self.one_to_one = Head(channels, num_classes, act)
        self.one_to_one.set_state_dict(self.one_to_many.state_dict())  # they start as one, as published
        self.head_layers = tuple(
            f"{head}.classes.{level}.out" for head in ("one_to_many", "one_to_one") for level in range(LEVELS)
        )

    def raw(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Maps (B, 3, H, W) to distance logits (B, 64, h, w) and class logits (B, C, h, w).

        Returns:
            Twelve maps: of the one-to-one head three of distances and three of classes, then those of the
            one-to-many head; without the latter in the inference form.
        """
        features = self.neck(self.backbone(images))
        if not self.dual:
            return list(self.one_to_one(features))
        return [*self.one_to_one([x.detach() for x in features]), *self.one_to_many(features)]

    def decode(self, raw: list[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Turns the one-to-one head's maps into boxes.

        Args:
            raw: As ``raw`` returns it; only the first six are used.

        Returns:
            Boxes (B, N, 4), x1 y1 x2 y2 in input pixels, and scores (B, N, C) in 0..1; both float32.
        """
        distances, classes = raw[:LEVELS], raw[LEVELS : 2 * LEVELS]
        centres, strides = (paddle.to_tensor(x) for x in cell_centres([x.shape[2:] for x in distances]))
        logits = join_levels(distances).astype("float32").transpose([0, 2, 1])
        scores = nn.functional.sigmoid(join_levels(classes).astype("float32").transpose([0, 2, 1]))
        return decode_boxes(logits, centres, strides), scores

    def forward(self, images: paddle.Tensor) -> Any:
        """Returns ``raw`` in training mode, boxes and scores in evaluation mode."""
        if self.training:
            return self.raw(images)
        return self.decode(self.one_to_one(self.neck(self.backbone(images))))

    def make_loss(self) -> YOLOv10Loss:
        """Returns the loss of ``raw``."""
        return YOLOv10Loss()

    def inference_form(self) -> YOLOv10:
        """Returns a copy that evaluates to the same with less: it has no batch norms and no one-to-many head."""
        small = copy.deepcopy(self)
        small.eval()
        if small.dual:
            del small.one_to_many
            small.dual = False
        small.head_layers = tuple(name for name in self.head_layers if name.startswith("one_to_one"))
        fuse(small)
        return small


def build_yolov10(size: str, *, num_classes: int, activation: str | None = None) -> YOLOv10:
    """Builds a freshly initialised network; equal for equal ``paddle.seed``.

    Args:
        size: "n", "s", "m", "b", "l" or "x".
        num_classes: At least 1.
        activation: "silu", "hardswish", "relu" or "relu6", in every place; None: silu, as published.

    Raises:
        BadInput: An unknown size or activation, or no class.
    """
    if size not in SIZES:
        raise BadInput(f"YOLOv10 has no size '{size}'", f"use one of {', '.join(SIZES)}")
    if num_classes < 1:
        raise BadInput(f"a detector needs at least 1 class, got {num_classes}", "set model.num_classes=auto")
    make_activation(activation or "silu")  # refuses an unknown name before anything is built
    return YOLOv10(SIZES[size], num_classes, activation or "silu")
