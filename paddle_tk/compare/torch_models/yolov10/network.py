"""YOLOv10-n (Wang et al., arXiv 2405.14458), as ``paddle_tk.models.yolov10.network`` defines it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paddle_tk.compare.torch_models.yolov10.blocks import (
    ConvNorm,
    PartialAttention,
    PyramidPool,
    SeparatedDown,
    c2f,
    c2f_cib,
)
from paddle_tk.compare.torch_models.yolov10.head import LEVELS, Head, cell_centres, decode_boxes, join_levels
from paddle_tk.compare.torch_models.yolov10.loss import YOLOv10Loss


class Backbone(nn.Module):
    """Five reductions by 2; the numbers in the names are those of the reductions."""

    def __init__(self, act: str) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, 3, stride=2, act=act)
        self.down2 = ConvNorm(16, 32, 3, stride=2, act=act)
        self.stage2 = c2f(32, 32, 1, shortcut=True, act=act)
        self.down3 = ConvNorm(32, 64, 3, stride=2, act=act)
        self.stage3 = c2f(64, 64, 2, shortcut=True, act=act)
        self.down4 = SeparatedDown(64, 128, act)
        self.stage4 = c2f(128, 128, 2, shortcut=True, act=act)
        self.down5 = SeparatedDown(128, 256, act)
        self.stage5 = c2f(256, 256, 1, shortcut=True, act=act)
        self.pool = PyramidPool(256, act)
        self.attention = PartialAttention(256, act)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps (B, 3, H, W) to maps reduced 8, 16 and 32 times."""
        third = self.stage3(self.down3(self.stage2(self.down2(self.stem(images)))))
        fourth = self.stage4(self.down4(third))
        fifth = self.stage5(self.down5(fourth))
        return [third, fourth, self.attention(self.pool(fifth))]


class Neck(nn.Module):
    """Carries coarse features to the fine maps and the outcome back."""

    def __init__(self, act: str) -> None:
        super().__init__()
        self.top4 = c2f(256 + 128, 128, 1, act=act)
        self.top3 = c2f(128 + 64, 64, 1, act=act)
        self.down4 = ConvNorm(64, 64, 3, stride=2, act=act)
        self.bottom4 = c2f(64 + 128, 128, 1, act=act)
        self.down5 = SeparatedDown(128, 128, act)
        self.bottom5 = c2f_cib(128 + 256, 256, act)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Keeps the maps' sizes."""
        third, fourth, fifth = features
        top4 = self.top4(torch.cat([_double(fifth), fourth], dim=1))
        top3 = self.top3(torch.cat([_double(top4), third], dim=1))
        bottom4 = self.bottom4(torch.cat([self.down4(top3), top4], dim=1))
        return [top3, bottom4, self.bottom5(torch.cat([self.down5(bottom4), fifth], dim=1))]


def _double(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


class YOLOv10(nn.Module):
    """A detector that needs no non-maximum suppression. Image sides are multiples of 32.

    Args:
        num_classes: Class count C.
        act: Name of all activations.
    """

    def __init__(self, num_classes: int, act: str) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone, self.neck = Backbone(act), Neck(act)
        self.one_to_many = Head([64, 128, 256], num_classes, act)
        self.one_to_one = Head([64, 128, 256], num_classes, act)

    def raw(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps (B, 3, H, W) to distance logits (B, 64, h, w) and class logits (B, C, h, w).

        Returns:
            Twelve maps: of the one-to-one head, which gives no gradient to the layers before it, three of distances
            and three of classes; then those of the one-to-many head.
        """
        features = self.neck(self.backbone(images))
        return [*self.one_to_one([x.detach() for x in features]), *self.one_to_many(features)]

    def decode(self, raw: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Turns the one-to-one head's maps into boxes.

        Args:
            raw: As ``raw`` returns it; only the first six are used.

        Returns:
            Boxes (B, N, 4), x1 y1 x2 y2 in input pixels, and scores (B, N, C) in 0..1; both float32.
        """
        distances, classes = raw[:LEVELS], raw[LEVELS : 2 * LEVELS]
        centres, strides = cell_centres(distances)
        logits = join_levels(distances).float().transpose(1, 2)
        scores = torch.sigmoid(join_levels(classes).float().transpose(1, 2))
        return decode_boxes(logits, centres, strides), scores

    def forward(self, images: torch.Tensor) -> Any:
        """Returns ``raw`` in training mode, boxes and scores in evaluation mode."""
        if self.training:
            return self.raw(images)
        return self.decode(self.one_to_one(self.neck(self.backbone(images))))

    def make_loss(self) -> YOLOv10Loss:
        """Returns the loss of ``raw``."""
        return YOLOv10Loss()


def yolov10n(num_classes: int, *, activation: str = "silu") -> YOLOv10:
    """Builds YOLOv10-n.

    Raises:
        BadInput: An unknown activation.
    """
    return YOLOv10(num_classes, activation)
