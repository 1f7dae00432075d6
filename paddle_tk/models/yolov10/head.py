"""YOLOv10's heads: two of one shape, of which only the one-to-one head is used once training is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddle_tk.models.yolov10.blocks import ConvNorm, conv

STRIDES = (8, 16, 32)
BINS = 16  # distances 0..15 cells from a cell's centre to each side of a box (arXiv 2006.04388)
LEVELS = len(STRIDES)
# The published widths follow the class count where the network is narrow; ours stay those of COCO's 80 classes, so
# that its weights fit any count.
_PUBLISHED_CLASSES = 80


class Branch(nn.Sequential):
    """One output of one level."""


class Head(nn.Layer):
    """Box distances and class logits on every level.

    The box branch has two 3x3 convolutions, the class branch two depthwise-separable ones (paper, section 3.3).

    Args:
        channels: Of each level's map.
        num_classes: Class count C.
        act: Activation.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, act: str) -> None:
        super().__init__()
        box_width = max(16, channels[0] // 4, 4 * BINS)
        class_width = max(channels[0], _PUBLISHED_CLASSES)
        self.boxes = nn.LayerList([_box_branch(c, box_width, act) for c in channels])
        self.classes = nn.LayerList([_class_branch(c, class_width, num_classes, act) for c in channels])
        self._start(num_classes)

    def _start(self, num_classes: int) -> None:
        """Sets the last biases: about 5 objects in an image of 640 px, each class as likely as another."""
        for box, classes, stride in zip(self.boxes, self.classes, STRIDES, strict=True):
            nn.initializer.Constant(1.0)(box.out.bias)
            nn.initializer.Constant(math.log(5 / num_classes / (640 / stride) ** 2))(classes.out.bias)

    def forward(self, features: Sequence[paddle.Tensor]) -> list[paddle.Tensor]:
        """Returns the distance logits (B, 64, h, w) of each level, then the class logits (B, C, h, w) of each."""
        boxes = [branch(features[level]) for level, branch in enumerate(self.boxes)]
        return boxes + [branch(features[level]) for level, branch in enumerate(self.classes)]


def _box_branch(channels: int, width: int, act: str) -> Any:
    return Branch(
        ("conv1", ConvNorm(channels, width, 3, act=act)),
        ("conv2", ConvNorm(width, width, 3, act=act)),
        ("out", conv(width, 4 * BINS, 1, bias=True)),
    )


def _class_branch(channels: int, width: int, num_classes: int, act: str) -> Any:
    return Branch(
        ("depthwise1", ConvNorm(channels, channels, 3, groups=channels, act=act)),
        ("pointwise1", ConvNorm(channels, width, 1, act=act)),
        ("depthwise2", ConvNorm(width, width, 3, groups=width, act=act)),
        ("pointwise2", ConvNorm(width, width, 1, act=act)),
        ("out", conv(width, num_classes, 1, bias=True)),
    )


def cell_centres(sizes: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cells' centres, float32 (N, 2) as x, y in input pixels, and their strides, float32 (N, 1).

    Args:
        sizes: (h, w) of each level, in the order of ``STRIDES``.
    """
    centres, strides = [], []
    for level, (height, width) in enumerate(sizes):  # Paddle's tracing knows no strict zip
        stride = STRIDES[level]
        y, x = np.mgrid[:height, :width].astype(np.float32)
        centres.append((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride)
        strides.append(np.full((height * width, 1), stride, np.float32))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides)


def join_levels(maps: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """Maps (B, K, h, w) of every level to one (B, K, N)."""
    # Not by flatten, which exports as a computation on shapes.
    flat = [x.reshape([x.shape[0], x.shape[1], x.shape[2] * x.shape[3]]) for x in maps]
    return paddle.concat(flat, axis=2)


def decode_boxes(logits: paddle.Tensor, centres: paddle.Tensor, strides: paddle.Tensor) -> paddle.Tensor:
    """Turns distance logits into boxes.

    Each of the four distances is the mean of 0..15 under the softmax of its 16 logits, in cells.

    Args:
        logits: (..., N, 64): 16 bins each for left, top, right, bottom.
        centres: (N, 2), x and y in input pixels.
        strides: (N, 1).

    Returns:
        (..., N, 4), x1 y1 x2 y2 in input pixels.
    """
    leading = logits.shape[:-1]
    shares = nn.functional.softmax(logits.reshape([*leading, 4, BINS]), axis=-1)
    values = paddle.to_tensor(np.arange(BINS, dtype=np.float32).reshape(BINS, 1))
    distances = paddle.matmul(shares, values).reshape([*leading, 4]) * strides
    near, far = paddle.split(distances, 2, axis=-1)
    return paddle.concat([centres - near, centres + far], axis=-1)
