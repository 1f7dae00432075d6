"""PicoDet's loss: which cell answers for which box, and what its answer costs.

Boxes are assigned by ATSS (arXiv 1912.02424) in the first third of the epochs, then by task alignment (TOOD, arXiv
2108.07755). Scores are trained by the varifocal loss (arXiv 2008.13367), boxes by the generalised IoU (arXiv
1902.09630) and the distribution focal loss (arXiv 2006.04388). Weights, thresholds and the third are those of
PaddleDetection 2.6, configs/picodet/_base_/picodet_v2.yml.

Shapes: B images, M rows of targets, C classes, N cells of all levels, finest level first. Cells come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional

from paddle_tk.models.losses import Divisor, own_divisor

_WEIGHTS = {"vfl": 1.0, "iou": 2.5, "dfl": 0.5}
_STATIC_SHARE = 3  # one epoch in so many is assigned by ATSS: 100 of the published 300
_NEGATIVE = 0.75  # the varifocal loss's alpha
_NEAREST = 9  # ATSS's candidates per level
_ANCHOR = 5.0  # side of ATSS's square anchors, in strides
_ALIGNED = 13  # task-aligned candidates per box
_IOU_POWER = 6.0
_BELOW_LAST = 0.1  # targets stay this far under the largest distance, as published
_TINY = 1e-9
_LEAST = 1e-30  # keeps logarithms and quotients finite

Corners = Sequence[paddle.Tensor]  # x1, y1, x2, y2 of equal shape


class Assignment(NamedTuple):
    """Which box each cell answers for.

    Attributes:
        box: Row of its image's targets, int64 (B, N); any row where the score is 0.
        score: The score that the cell is to give to that box's class, float32 (B, N), 0..1; 0: it answers for none.
    """

    box: paddle.Tensor
    score: paddle.Tensor


class Cells(NamedTuple):
    """The cells of all levels.

    Attributes:
        points: Their centres in pixels, x and y: (2, N).
        strides: Their sides in pixels: (N,).
        counts: How many there are, by level.
    """

    points: paddle.Tensor
    strides: paddle.Tensor
    counts: tuple[int, ...]


class PicoDetLoss(nn.Layer):
    """The loss of a batch, in float32 whatever the network's precision.

    Sums over cells are divided by the sum of target scores, at least 1, so they do not grow with the batch.

    Args:
        strides: Pixels per cell, by level.

    Attributes:
        parts: Names of the parts; their values sum to the total.
        static: Whether boxes are assigned by ATSS; set by ``start_epoch`` and by nothing else.
        divisor: See ``own_divisor``.
    """

    parts = tuple(_WEIGHTS)
    divisor: Divisor

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.static = True
        self.divisor = own_divisor

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Chooses how boxes are assigned.

        Args:
            epoch: Counted from 0.
            epochs: Epochs of the whole run.
        """
        self.static = epoch * _STATIC_SHARE < epochs

    def forward(self, *raw_and_targets: paddle.Tensor) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Called as ``loss(*raw, targets)``.

        Args:
            raw_and_targets: What ``PicoDet.raw`` returned; last the targets (B, M, 5), rows of class id and x1 y1 x2
                y2 in pixels of the input. Rows of class id -1 fill up; images without a box are welcome.

        Returns:
            The total and its weighted parts, float32 scalars.
        """
        *raw, targets = raw_and_targets
        with paddle.amp.auto_cast(enable=False):
            found = self._parts(raw, targets.astype("float32"))
        parts = {name: weight * found[name] for name, weight in _WEIGHTS.items()}
        return sum(parts.values()), {name: value.detach() for name, value in parts.items()}

    def _parts(self, raw: list[paddle.Tensor], targets: paddle.Tensor) -> dict[str, paddle.Tensor]:
        classes, alignment, distributions = flatten_maps(raw)
        cells = grid(raw, self.strides)
        log_scores = 0.5 * (functional.log_sigmoid(classes) + functional.log_sigmoid(alignment))
        with paddle.no_grad():
            predicted = boxes_of(distributions, cells)
            if self.static:
                found = assign_static(targets, predicted, cells)
            else:
                found = assign_aligned(targets, predicted, log_scores, cells)
            labels = paddle.take_along_axis(targets[:, :, 0].astype("int64"), found.box, axis=1)
            total = self.divisor(found.score.sum(), 1.0, 0.0, int(targets.shape[0]))
        iou, dfl = _box_losses(distributions, cells, targets, found)
        return {"vfl": varifocal(log_scores, labels, found.score) / total, "iou": iou / total, "dfl": dfl / total}


def flatten_maps(raw: Sequence[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Joins the levels of ``PicoDet.raw``, in float32.

    Returns:
        Class logits (B, C, N), alignment logits (B, 1, N), logits of the distance distributions (B, 4, bins, N).
    """
    flat = [x.astype("float32").reshape([-1, int(x.shape[1]), int(x.shape[2]) * int(x.shape[3])]) for x in raw]
    classes, alignment, distances = (paddle.concat(flat[kind::3], axis=2) for kind in range(3))
    sides = [-1, 4, int(distances.shape[1]) // 4, int(distances.shape[2])]
    return classes, alignment, distances.reshape(sides)


def grid(raw: Sequence[paddle.Tensor], strides: Sequence[int]) -> Cells:
    """Returns the cells of ``PicoDet.raw``'s maps; constants in a traced graph."""
    points, sides, counts = [], [], []
    for level, stride in enumerate(strides):
        height, width = int(raw[3 * level].shape[2]), int(raw[3 * level].shape[3])
        rows, columns = np.divmod(np.arange(height * width), width)
        points.append((np.stack([columns, rows]) + 0.5) * stride)
        sides.append(np.full(height * width, stride))
        counts.append(height * width)
    centres = paddle.to_tensor(np.concatenate(points, axis=1).astype(np.float32))
    return Cells(centres, paddle.to_tensor(np.concatenate(sides).astype(np.float32)), tuple(counts))


def expected_distances(logits: paddle.Tensor, axis: int) -> paddle.Tensor:
    """Returns the means of distributions over 0, 1, .. along ``axis``, which is dropped."""
    shape = [1] * len(logits.shape)
    shape[axis] = int(logits.shape[axis])
    bins = paddle.to_tensor(np.arange(shape[axis], dtype=np.float32).reshape(shape))
    return (functional.softmax(logits, axis=axis) * bins).sum(axis=axis)


def boxes_of(distributions: paddle.Tensor, cells: Cells) -> paddle.Tensor:
    """Returns the predicted boxes (B, 4, N), x1 y1 x2 y2 in pixels, from logits (B, 4, bins, N)."""
    sides = expected_distances(distributions, axis=2) * cells.strides
    return paddle.concat([cells.points - sides[:, :2], cells.points + sides[:, 2:]], axis=1)


def assign_static(targets: paddle.Tensor, predicted: paddle.Tensor, cells: Cells) -> Assignment:
    """ATSS: cells near a box's centre whose square anchors overlap it well, compared with the other near cells.

    The target score is the overlap of the cell's predicted box, as the varifocal loss wants it. Cells that are equally
    far from a centre are taken or left together.

    Args:
        targets: As the loss takes them.
        predicted: Predicted boxes (B, 4, N) in pixels.
        cells: The cells.
    """
    truth, inside = _corners(targets[:, :, 1:], 2), _inside(targets, cells)
    half = 0.5 * _ANCHOR * cells.strides
    x, y = cells.points[0], cells.points[1]
    overlap = iou(truth, (x - half, y - half, x + half, y + half))
    distance = (0.5 * (truth[0] + truth[2]) - x).square() + (0.5 * (truth[1] + truth[3]) - y).square()
    near = _nearest(distance, cells.counts)
    count = near.sum(axis=2, keepdim=True)
    mean = (near * overlap).sum(axis=2, keepdim=True) / count
    variance = (near * (overlap - mean).square()).sum(axis=2, keepdim=True) / (count - 1.0)
    box, owned = _settle(inside & (near > 0) & (overlap >= mean + variance.sqrt()), overlap)
    chosen = paddle.take_along_axis(targets, box.unsqueeze(2), axis=1)[:, :, 1:].transpose([0, 2, 1])
    quality = iou(_corners(chosen, 1), _corners(predicted, 1)).squeeze(1)
    return Assignment(box, quality * owned.any(axis=1).astype("float32"))


def assign_aligned(
    targets: paddle.Tensor, predicted: paddle.Tensor, log_scores: paddle.Tensor, cells: Cells
) -> Assignment:
    """Task alignment: the cells in a box whose score and overlap are best, by score * overlap ** 6.

    The target score is that product, scaled so that a box's best cell gets the best overlap among its cells.

    Args:
        targets: As the loss takes them.
        predicted: Predicted boxes (B, 4, N) in pixels.
        log_scores: Logarithms of predicted scores (B, C, N).
        cells: The cells.
    """
    overlap = iou(_corners(targets[:, :, 1:], 2), _corners(predicted, 1))
    label = targets[:, :, 0].astype("int64").clip(min=0)
    score = paddle.take_along_axis(log_scores, label.unsqueeze(2), axis=1).exp()
    metric = score * overlap.pow(_IOU_POWER)
    metric = metric * _inside(targets, cells).astype("float32")
    least = paddle.topk(metric, min(_ALIGNED, int(metric.shape[2])), axis=2)[0][:, :, -1:]
    box, owned = _settle((metric > 0) & (metric >= least), overlap)
    mine = owned.astype("float32")
    metric, overlap = metric * mine, overlap * mine
    scale = overlap.max(axis=2, keepdim=True) / metric.max(axis=2, keepdim=True).clip(min=_LEAST)
    return Assignment(box, (metric * scale).max(axis=1))


def varifocal(log_scores: paddle.Tensor, labels: paddle.Tensor, wanted: paddle.Tensor) -> paddle.Tensor:
    """Returns the sum of the varifocal loss over cells and classes.

    Args:
        log_scores: Logarithms of scores (B, C, N), not above 0; the loss of a logit of any size stays finite.
        labels: Class id of each cell's box, (B, N).
        wanted: Its target score, (B, N); 0 where the cell answers for no box.
    """
    classes, count = int(log_scores.shape[1]), int(log_scores.shape[2])
    rows = _answering(wanted)
    wanted, image = wanted.reshape([-1])[rows], rows // count
    entry = (image * classes + labels.reshape([-1])[rows]) * count + rows - image * count
    log_score = paddle.gather(log_scores.reshape([-1]), entry)
    positive = -wanted * (wanted * log_score + (1.0 - wanted) * _complement(log_score)[1])
    # Everything counts as negative first: most entries are, and a mask of all classes would cost more than this.
    correction = (positive - _refused(log_score)) * (wanted > 0).astype("float32")
    return _refused(log_scores).sum() + correction.sum()


def _refused(log_scores: paddle.Tensor) -> paddle.Tensor:
    """Returns the varifocal loss of scores that should be 0."""
    score, log_unscored = _complement(log_scores)
    return -_NEGATIVE * score.square() * log_unscored


def _complement(log_scores: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Returns scores and the logarithms of 1 - score, exact where the score is near 1."""
    unscored = -paddle.expm1(log_scores)
    return 1.0 - unscored, unscored.clip(min=_LEAST).log()


def _answering(wanted: paddle.Tensor) -> paddle.Tensor:
    """Returns where the target scores (B, N), laid flat, are above 0.

    One row of weight 0 stands for none, so that every parameter gets a gradient, which is then 0.
    """
    rows = paddle.nonzero(wanted.reshape([-1]) > 0).reshape([-1])
    return rows if rows.shape[0] else paddle.zeros([1], dtype="int64")


def _box_losses(
    distributions: paddle.Tensor, cells: Cells, targets: paddle.Tensor, found: Assignment
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Returns the generalised IoU loss and the distribution focal loss, summed with the target scores as weights."""
    count = int(found.score.shape[1])
    rows = _answering(found.score)
    weight, image = found.score.reshape([-1])[rows], rows // count
    cell, box = rows - image * count, found.box.reshape([-1])[rows] + image * targets.shape[1]
    truth = targets.reshape([-1, 5])[box][:, 1:]
    point, stride = cells.points.t()[cell], cells.strides[cell].unsqueeze(1)
    sides = paddle.concat([point - truth[:, :2], truth[:, 2:] - point], axis=1) / stride
    bins = int(distributions.shape[2])
    logits = distributions.transpose([0, 3, 1, 2]).reshape([-1, 4 * bins])
    logits = paddle.gather(logits, rows).reshape([-1, 4, bins])
    overlap = giou(_around(expected_distances(logits, axis=2)), _around(sides)).squeeze(1)
    return ((1.0 - overlap) * weight).sum(), (distribution_focal(logits, sides).mean(axis=1) * weight).sum()


def distribution_focal(logits: paddle.Tensor, sides: paddle.Tensor) -> paddle.Tensor:
    """Returns the cross-entropy of distributions over 0..bins-1 with the two bins next to a distance.

    Args:
        logits: (P, 4, bins).
        sides: Distances in strides, (P, 4); those outside the bins count as the nearest one inside.
    """
    last = int(logits.shape[2]) - 1
    bins = paddle.arange(last + 1, dtype="float32")
    wanted = sides.clip(min=0.0, max=last - _BELOW_LAST).unsqueeze(2)
    share = (1.0 - (wanted - bins).abs()).clip(min=0.0)  # linear between neighbours, 0 elsewhere
    # Paddle's log_softmax ends at -64 on CPU.
    return (share * (paddle.logsumexp(logits, axis=2, keepdim=True) - logits)).sum(axis=2)


def iou(first: Corners, second: Corners) -> paddle.Tensor:
    """Returns the overlap over the union of boxes, broadcast; 0..1."""
    shared, union = _shared_and_union(first, second)
    return shared / union


def giou(first: Corners, second: Corners) -> paddle.Tensor:
    """Returns the generalised IoU of boxes, broadcast; -1..1."""
    shared, union = _shared_and_union(first, second)
    width = paddle.maximum(first[2], second[2]) - paddle.minimum(first[0], second[0])
    height = paddle.maximum(first[3], second[3]) - paddle.minimum(first[1], second[1])
    return shared / union + union / (width * height + _TINY) - 1.0


def _shared_and_union(first: Corners, second: Corners) -> tuple[paddle.Tensor, paddle.Tensor]:
    width = paddle.minimum(first[2], second[2]) - paddle.maximum(first[0], second[0])
    height = paddle.minimum(first[3], second[3]) - paddle.maximum(first[1], second[1])
    shared = width.clip(min=0.0) * height.clip(min=0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared, areas[0] + areas[1] - shared + _TINY


def _corners(boxes: paddle.Tensor, axis: int) -> Corners:
    """Returns the four coordinates that lie along ``axis``, each with that axis kept as 1."""
    corners: list[paddle.Tensor] = paddle.split(boxes, 4, axis=axis)
    return corners


def _around(sides: paddle.Tensor) -> Corners:
    """Returns boxes relative to their cell's centre, in strides, from distances left, top, right, bottom (P, 4)."""
    left, top, right, bottom = _corners(sides, 1)
    return -left, -top, right, bottom


def _inside(targets: paddle.Tensor, cells: Cells) -> paddle.Tensor:
    """Returns which cells' centres lie inside which boxes, bool (B, M, N); none in rows that fill up."""
    label, x1, y1, x2, y2 = paddle.split(targets, 5, axis=2)
    x, y = cells.points[0], cells.points[1]
    return (x > x1) & (x < x2) & (y > y1) & (y < y2) & (label >= 0)


def _nearest(distance: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
    """Marks the nearest cells of each level, float32 (B, M, N)."""
    near = []
    for level in paddle.split(distance, list(counts), axis=2):
        last = paddle.topk(level, min(_NEAREST, int(level.shape[2])), axis=2, largest=False)[0][:, :, -1:]
        near.append(level <= last)
    return paddle.concat(near, axis=2).astype("float32")


def _settle(candidates: paddle.Tensor, overlap: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Gives each cell to the box that it overlaps most, of those it is a candidate for.

    Returns:
        Row of the box, int64 (B, N), and which cells each box got, bool (B, M, N).
    """
    box = paddle.where(candidates, overlap, paddle.full_like(overlap, -1.0)).argmax(axis=1)
    rows = paddle.arange(candidates.shape[1], dtype=box.dtype).reshape([1, -1, 1])
    return box, candidates & (box.unsqueeze(1) == rows)
