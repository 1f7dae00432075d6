"""Which cells answer for which object: task-aligned assignment (arXiv 2108.07755), without gradients.

A cell is the better for an object the higher m = sqrt(p) IoU^6 is, p being its score for the object's class and IoU
the overlap of its box: YOLOv10's consistent matching metric with the published exponents 0.5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
from paddle import nn

from paddle_tk.models.yolov10.head import STRIDES, cell_centres

# Added to the metric of every candidate, so that one is picked where no box overlaps the object. Far below any metric
# that decides, and above the least normal float32.
_FLOOR = 1e-30


@dataclass(frozen=True)
class Cells:
    """The cells of all levels of a batch's maps.

    Attributes:
        centres: float32 (N, 2), x and y in input pixels.
        strides: float32 (N, 1).
        finest: (h, w) of the first level, whose cells come first.
    """

    centres: paddle.Tensor
    strides: paddle.Tensor
    finest: tuple[int, int]

    @classmethod
    def of(cls, maps: Sequence[paddle.Tensor]) -> Cells:
        """Returns those of one map (B, K, h, w) per level."""
        sizes = [(int(x.shape[2]), int(x.shape[3])) for x in maps]
        centres, strides = (paddle.to_tensor(x) for x in cell_centres(sizes))
        return cls(centres, strides, sizes[0])


@dataclass(frozen=True)
class Positives:
    """The P pairs of a cell and an object; no cell occurs twice.

    Attributes:
        image: int64 (P,), in the batch.
        object: int64 (P,), row of the image's targets.
        cell: int64 (P,).
        score: float32 (P,), 0..1: what the class score should be. Of an object's cells the best one's is their best
            IoU, the others' are in proportion to m (arXiv 2108.07755, equation 3).
    """

    image: paddle.Tensor
    object: paddle.Tensor
    cell: paddle.Tensor
    score: paddle.Tensor


def candidates(targets: paddle.Tensor, cells: Cells) -> paddle.Tensor:
    """Tells which cells an object may have: those whose centre it covers, or else the one on the finest level it is in.

    Args:
        targets: float32 (B, M, 5): class, x1, y1, x2, y2 in input pixels; class -1 is padding.
        cells: N cells.

    Returns:
        bool (B, M, N), False for padding.
    """
    x1, y1, x2, y2 = (targets[:, :, i : i + 1] for i in range(1, 5))
    x, y = cells.centres.unbind(1)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    covered = inside.any(axis=-1, keepdim=True)
    own = _finest_cell(targets, cells.finest).unsqueeze(-1) == paddle.arange(x.shape[0])
    return (targets[:, :, :1] >= 0) & (inside | (own & ~covered))


def _finest_cell(targets: paddle.Tensor, finest: tuple[int, int]) -> paddle.Tensor:
    """Returns the index, int64 (B, M), of the finest level's cell that holds or is nearest to each box's centre."""
    height, width = finest
    middle = (targets[:, :, 1:3] + targets[:, :, 3:5]) / (2 * STRIDES[0])
    column = paddle.clip(paddle.floor(middle[:, :, 0]), 0, width - 1).astype("int64")
    row = paddle.clip(paddle.floor(middle[:, :, 1]), 0, height - 1).astype("int64")
    return row * width + column


def pairwise_iou(first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
    """Maps boxes (B, M, 4) and (B, N, 4), x1 y1 x2 y2, to their IoU (B, M, N); 0 where a box has no area."""
    ax1, ay1, ax2, ay2 = (first[:, :, i].unsqueeze(2) for i in range(4))
    bx1, by1, bx2, by2 = (second[:, :, i].unsqueeze(1) for i in range(4))
    width = nn.functional.relu(paddle.minimum(ax2, bx2) - paddle.maximum(ax1, bx1))
    height = nn.functional.relu(paddle.minimum(ay2, by2) - paddle.maximum(ay1, by1))
    common = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
    return common / paddle.clip(union, min=1e-9)


def assign(
    class_logits: paddle.Tensor,
    boxes: paddle.Tensor,
    targets: paddle.Tensor,
    allowed: paddle.Tensor,
    most: int,
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
    metric = paddle.sqrt(_scores_of_classes(class_logits, targets)) * cubed * cubed
    best, cell = paddle.topk((metric + _FLOOR) * allowed.astype("float32"), min(most, iou.shape[2]), axis=-1)
    overlap = paddle.take_along_axis(iou, cell, axis=2)
    kept = _settle(cell, paddle.where(best > 0, overlap, paddle.full_like(overlap, -1.0)), iou.shape[2])
    weight = kept.astype("float32")
    metric, overlap = best * weight, overlap * weight
    # The floor of m keeps the quotient finite.
    score = metric / paddle.clip(metric.max(-1, keepdim=True), min=_FLOOR) * overlap.max(-1, keepdim=True)
    where = paddle.nonzero(kept)
    return Positives(where[:, 0], where[:, 1], paddle.masked_select(cell, kept), paddle.masked_select(score, kept))


def _scores_of_classes(class_logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
    """Returns each cell's score for each object's class, (B, M, N)."""
    batch, classes, cells = class_logits.shape
    first = paddle.arange(batch).unsqueeze(1) * classes
    rows = (first + paddle.clip(targets[:, :, 0], min=0).astype("int64")).flatten()
    chosen = paddle.gather(class_logits.reshape([batch * classes, cells]), rows)
    return nn.functional.sigmoid(chosen).reshape([batch, -1, cells])


def _settle(cell: paddle.Tensor, overlap: paddle.Tensor, cells: int) -> paddle.Tensor:
    """Tells which wishes are granted.

    Args:
        cell: int64 (B, M, K), distinct within a row.
        overlap: (B, M, K); negative where nothing is wished.
        cells: How many there are.

    Returns:
        bool (B, M, K); of equal overlaps the first object's wish is granted.
    """
    batch, objects = cell.shape[:2]
    wishes = paddle.put_along_axis(paddle.full([batch, objects, cells], -1.0), cell, overlap, axis=2)
    owner = wishes.argmax(axis=1)
    owner_of_wish = paddle.take_along_axis(owner, cell.reshape([batch, -1]), axis=1).reshape(cell.shape)
    return (overlap >= 0) & (owner_of_wish == paddle.arange(objects).reshape([1, -1, 1]))
