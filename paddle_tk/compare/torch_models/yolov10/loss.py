"""YOLOv10's training loss with dual assignments, as ``paddle_tk.models.yolov10.loss`` defines it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from paddle_tk.compare.torch_models.yolov10.assigner import Cells, Positives, assign, candidates
from paddle_tk.compare.torch_models.yolov10.head import BINS, LEVELS, decode_boxes, join_levels

_BOX_GAIN, _CLASS_GAIN, _DISTRIBUTION_GAIN = 7.5, 0.5, 1.5
_MANY, _ONE = 10, 1  # cells per object
_LEAST_PER_IMAGE = 0.25  # of the sum of target scores that the losses are divided by
_EPSILON = 1e-7


class YOLOv10Loss(nn.Module):
    """Class, box and distance-distribution losses of the one-to-one and of the one-to-many head, added up.

    Attributes:
        parts: What the loss's parts are called.
    """

    parts = ("box", "cls", "dfl", "one_to_one", "one_to_many")

    def forward(self, *raw_and_targets: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Called as ``loss(*network.raw(images), targets)``.

        Args:
            raw_and_targets: The twelve maps; last the targets, float32 (B, M, 5), M >= 1: class, x1, y1, x2, y2 in
                input pixels, class -1 is padding.

        Returns:
            The total, and its parts with their gains: "box" + "cls" + "dfl", which is also "one_to_one" +
            "one_to_many".

        Raises:
            ValueError: The maps are not those of two heads.
        """
        *raw, targets = raw_and_targets
        if len(raw) != 4 * LEVELS:
            raise ValueError(f"the loss needs the {4 * LEVELS} maps of both heads, got {len(raw)}")
        with torch.autocast(targets.device.type, enabled=False):
            targets = targets.float()
            cells = Cells.of(raw[:LEVELS])
            allowed = candidates(targets, cells)
            one = _head_loss(raw[: 2 * LEVELS], targets, cells, allowed, _ONE)
            many = _head_loss(raw[2 * LEVELS :], targets, cells, allowed, _MANY)
            box, classes, distribution = (a + b for a, b in zip(one, many, strict=True))
            total = box + classes + distribution
        values = (box, classes, distribution, sum(one), sum(many))
        return total, {name: value.detach() for name, value in zip(self.parts, values, strict=True)}


def _head_loss(
    maps: Sequence[torch.Tensor], targets: torch.Tensor, cells: Cells, allowed: torch.Tensor, most: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the box, class and distribution loss of one head."""
    distances = join_levels(maps[:LEVELS]).float().transpose(1, 2)
    classes = join_levels(maps[LEVELS:]).float()
    with torch.no_grad():
        boxes = decode_boxes(distances, cells.centres, cells.strides)
        found = assign(classes, boxes, targets, allowed, most)
        divisor = found.score.sum().clamp(min=_LEAST_PER_IMAGE * targets.shape[0])
    negative = nn.functional.softplus(classes).sum()
    if found.cell.shape[0] == 0:
        nothing = distances.sum() * 0.0  # part of the graph all the same: every parameter has a gradient
        return nothing, _CLASS_GAIN * negative / divisor, nothing
    truth = targets[found.image, found.object]
    # Binary cross-entropy with logit x and target t is softplus(x) - x t, and t is 0 but at the positives.
    positive = (classes[found.image, truth[:, 0].long(), found.cell] * found.score).sum()
    box, distribution = _box_losses(distances, truth[:, 1:], cells, found)
    return (
        _BOX_GAIN * box / divisor,
        _CLASS_GAIN * (negative - positive) / divisor,
        _DISTRIBUTION_GAIN * distribution / divisor,
    )


def _box_losses(
    distances: torch.Tensor, truth: torch.Tensor, cells: Cells, found: Positives
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sums of 1 - CIoU and of the distributions' losses over the positives, weighted by their scores."""
    logits = distances[found.image, found.cell]
    centres, strides = cells.centres[found.cell], cells.strides[found.cell]
    box = ((1.0 - ciou(decode_boxes(logits, centres, strides), truth)) * found.score).sum()
    aims = torch.cat([centres - truth[:, :2], truth[:, 2:] - centres], dim=1) / strides
    return box, (distribution_loss(logits.reshape(-1, 4, BINS), aims).mean(dim=1) * found.score).sum()


def ciou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns the complete IoU (arXiv 1911.08287) of boxes (P, 4), x1 y1 x2 y2, pair by pair: (P,), at most 1."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = first.unbind(1), second.unbind(1)
    aw, ah, bw, bh = ax2 - ax1, ay2 - ay1, bx2 - bx1, by2 - by1
    common = torch.relu(torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)) * torch.relu(
        torch.minimum(ay2, by2) - torch.maximum(ay1, by1)
    )
    iou = common / (aw * ah + bw * bh - common + _EPSILON)
    around_w = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    around_h = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    apart = ((bx1 + bx2 - ax1 - ax2) ** 2 + (by1 + by2 - ay1 - ay2) ** 2) / 4
    ratios = 4 / math.pi**2 * (torch.atan(bw / (bh + _EPSILON)) - torch.atan(aw / (ah + _EPSILON))) ** 2
    weight = (ratios / (1.0 + _EPSILON - iou + ratios)).detach()
    return iou - apart / (around_w**2 + around_h**2 + _EPSILON) - weight * ratios


def distribution_loss(logits: torch.Tensor, aims: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of bins with a distance split between the two bins around it (arXiv 2006.04388).

    Args:
        logits: (P, 4, 16).
        aims: Distances in cells, (P, 4); brought into 0..14.99.

    Returns:
        (P, 4).
    """
    aims = aims.clamp(0.0, BINS - 1 - 0.01)
    lower = aims.floor()
    share = (aims - lower).unsqueeze(-1)
    bins = lower.long().unsqueeze(-1)
    fitted = (logits.gather(2, bins) * (1.0 - share) + logits.gather(2, bins + 1) * share).squeeze(-1)
    return torch.logsumexp(logits, dim=-1) - fitted
