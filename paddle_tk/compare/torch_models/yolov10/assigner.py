"""Which cells answer for which object, as ``paddle_tk.models.yolov10.assigner`` defines it, without gradients.

A cell is the better for an object the higher m = sqrt(p) IoU^6 is, p being its score for the object's class and IoU
the overlap of its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from paddle_tk.compare.torch_models.yolov10.head import STRIDES, cell_centres

# Added to the metric of every candidate, so that one is picked where no box overlaps the object.
_FLOOR = 1e-30


@dataclass(frozen=True)
class Cells:
    """The cells of all levels of a batch's maps.

    Attributes:
        centres: float32 (N, 2), x and y in input pixels.
        strides: float32 (N, 1).
        finest: (h, w) of the first level, whose cells come first.
    """

    centres: torch.Tensor
    strides: torch.Tensor
    finest: tuple[int, int]

    @classmethod
    def of(cls, maps: Sequence[torch.Tensor]) -> Cells:
        """Returns those of one map (B, K, h, w) per level."""
        return cls(*cell_centres(maps), (maps[0].shape[2], maps[0].shape[3]))


@dataclass(frozen=True)
class Positives:
    """The P pairs of a cell and an object; no cell occurs twice.

    Attributes:
        image: int64 (P,), in the batch.
        object: int64 (P,), row of the image's targets.
        cell: int64 (P,).
        score: float32 (P,), 0..1: what the class score should be.
    """

    image: torch.Tensor
    object: torch.Tensor
    cell: torch.Tensor
    score: torch.Tensor


def candidates(targets: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Tells which cells an object may have: those whose centre it covers, or else the one on the finest level it is in.

    Args:
        targets: float32 (B, M, 5): class, x1, y1, x2, y2 in input pixels; class -1 is padding.
        cells: N cells.

    Returns:
        bool (B, M, N), False for padding.
    """
    x1, y1, x2, y2 = targets[:, :, 1:].split(1, dim=2)
    x, y = cells.centres.unbind(1)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    covered = inside.any(dim=-1, keepdim=True)
    own = _finest_cell(targets, cells.finest).unsqueeze(-1) == torch.arange(x.shape[0], device=x.device)
    return (targets[:, :, :1] >= 0) & (inside | (own & ~covered))


def _finest_cell(targets: torch.Tensor, finest: tuple[int, int]) -> torch.Tensor:
    """Returns the index, int64 (B, M), of the finest level's cell that holds or is nearest to each box's centre."""
    height, width = finest
    middle = (targets[:, :, 1:3] + targets[:, :, 3:5]) / (2 * STRIDES[0])
    column = middle[:, :, 0].floor().clamp(0, width - 1).long()
    row = middle[:, :, 1].floor().clamp(0, height - 1).long()
    return row * width + column


def pairwise_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Maps boxes (B, M, 4) and (B, N, 4), x1 y1 x2 y2, to their IoU (B, M, N); 0 where a box has no area."""
    ax1, ay1, ax2, ay2 = first.unsqueeze(2).unbind(3)
    bx1, by1, bx2, by2 = second.unsqueeze(1).unbind(3)
    width = torch.relu(torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1))
    height = torch.relu(torch.minimum(ay2, by2) - torch.maximum(ay1, by1))
    common = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
    return common / union.clamp(min=1e-9)


def assign(
    class_logits: torch.Tensor, boxes: torch.Tensor, targets: torch.Tensor, allowed: torch.Tensor, most: int
) -> Positives:
    """Gives every object up to ``most`` of its candidates, the best by m; a cell wanted twice goes to the larger IoU.

    Args:
        class_logits: (B, C, N).
        boxes: What the cells predict, (B, N, 4), x1 y1 x2 y2 in input pixels.
        targets: float32 (B, M, 5), as ``candidates`` takes them.
        allowed: What ``candidates`` returned.
        most: 10 for the one-to-many head, 1 for the one-to-one head.
    """
    iou = pairwise_iou(targets[:, :, 1:], boxes)
    cubed = iou * iou * iou
    metric = torch.sqrt(_scores_of_classes(class_logits, targets)) * cubed * cubed
    best, cell = torch.topk((metric + _FLOOR) * allowed.float(), min(most, iou.shape[2]), dim=-1)
    overlap = iou.gather(2, cell)
    kept = _settle(cell, torch.where(best > 0, overlap, -1.0), iou.shape[2])
    weight = kept.float()
    metric, overlap = best * weight, overlap * weight
    # The floor of m keeps the quotient finite.
    score = metric / metric.amax(-1, keepdim=True).clamp(min=_FLOOR) * overlap.amax(-1, keepdim=True)
    image, row, _ = kept.nonzero(as_tuple=True)
    return Positives(image, row, cell[kept], score[kept])


def _scores_of_classes(class_logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns each cell's score for each object's class, (B, M, N)."""
    classes = targets[:, :, 0].clamp(min=0).long()
    images = torch.arange(class_logits.shape[0], device=class_logits.device).unsqueeze(1)
    return torch.sigmoid(class_logits[images, classes])


def _settle(cell: torch.Tensor, overlap: torch.Tensor, cells: int) -> torch.Tensor:
    """Tells which wishes are granted.

    Args:
        cell: int64 (B, M, K), distinct within a row.
        overlap: (B, M, K); negative where nothing is wished.
        cells: How many there are.

    Returns:
        bool (B, M, K); of equal overlaps the first object's wish is granted.
    """
    batch, objects = cell.shape[:2]
    wishes = overlap.new_full((batch, objects, cells), -1.0).scatter(2, cell, overlap)
    owner = wishes.argmax(dim=1)
    owner_of_wish = owner.gather(1, cell.reshape(batch, -1)).reshape(cell.shape)
    return (overlap >= 0) & (owner_of_wish == torch.arange(objects, device=cell.device).reshape(1, -1, 1))
