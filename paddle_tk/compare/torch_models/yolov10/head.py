"""YOLOv10's heads and what turns their maps into boxes, as ``paddle_tk.models.yolov10.head`` defines them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from paddle_tk.compare.torch_models.yolov10.blocks import ConvNorm

STRIDES = (8, 16, 32)
BINS = 16  # distances 0..15 cells from a cell's centre to each side of a box (arXiv 2006.04388)
LEVELS = len(STRIDES)
_PUBLISHED_CLASSES = 80


class Head(nn.Module):
    """Box distances and class logits on every level.

    Args:
        channels: Of each level's map.
        num_classes: Class count C.
        act: Activation.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, act: str) -> None:
        super().__init__()
        box_width = max(channels[0] // 4, 4 * BINS)
        class_width = max(channels[0], _PUBLISHED_CLASSES)
        self.boxes = nn.ModuleList([_box_branch(c, box_width, act) for c in channels])
        self.classes = nn.ModuleList([_class_branch(c, class_width, num_classes, act) for c in channels])

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the distance logits (B, 64, h, w) of each level, then the class logits (B, C, h, w) of each."""
        boxes = [branch(features[level]) for level, branch in enumerate(self.boxes)]
        return boxes + [branch(features[level]) for level, branch in enumerate(self.classes)]


def _box_branch(channels: int, width: int, act: str) -> Any:
    layers = OrderedDict(
        conv1=ConvNorm(channels, width, 3, act=act),
        conv2=ConvNorm(width, width, 3, act=act),
        out=nn.Conv2d(width, 4 * BINS, 1),
    )
    return nn.Sequential(layers)


def _class_branch(channels: int, width: int, num_classes: int, act: str) -> Any:
    layers = OrderedDict(
        depthwise1=ConvNorm(channels, channels, 3, groups=channels, act=act),
        pointwise1=ConvNorm(channels, width, 1, act=act),
        depthwise2=ConvNorm(width, width, 3, groups=width, act=act),
        pointwise2=ConvNorm(width, width, 1, act=act),
        out=nn.Conv2d(width, num_classes, 1),
    )
    return nn.Sequential(layers)


def cell_centres(maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cells' centres, float32 (N, 2) as x, y in input pixels, and their strides, float32 (N, 1).

    Args:
        maps: One (B, K, h, w) per level, in the order of ``STRIDES``.
    """
    centres, strides = [], []
    for x, stride in zip(maps, STRIDES, strict=True):
        height, width = x.shape[2:]
        rows = torch.arange(height, dtype=torch.float32, device=x.device)
        columns = torch.arange(width, dtype=torch.float32, device=x.device)
        row, column = torch.meshgrid(rows, columns, indexing="ij")
        centres.append((torch.stack([column.flatten(), row.flatten()], dim=1) + 0.5) * stride)
        strides.append(torch.full((height * width, 1), float(stride), device=x.device))
    return torch.cat(centres), torch.cat(strides)


def join_levels(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps (B, K, h, w) of every level to one (B, K, N)."""
    return torch.cat([x.flatten(2) for x in maps], dim=2)


def decode_boxes(logits: torch.Tensor, centres: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
    """Turns distance logits into boxes.

    Each of the four distances is the mean of 0..15 under the softmax of its 16 logits, in cells.

    Args:
        logits: (..., N, 64): 16 bins each for left, top, right, bottom.
        centres: (N, 2), x and y in input pixels.
        strides: (N, 1).

    Returns:
        (..., N, 4), x1 y1 x2 y2 in input pixels.
    """
    shares = torch.softmax(logits.reshape(*logits.shape[:-1], 4, BINS), dim=-1)
    values = torch.arange(BINS, dtype=torch.float32, device=logits.device)
    near, far = ((shares @ values) * strides).chunk(2, dim=-1)
    return torch.cat([centres - near, centres + far], dim=-1)
