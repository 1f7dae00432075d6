"""YOLOv10's training loss with dual assignments (arXiv 2405.14458, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import paddle
from paddle import nn

from paddle_tk.models.losses import Divisor, own_divisor
from paddle_tk.models.yolov10.assigner import Cells, Positives, assign, candidates
from paddle_tk.models.yolov10.head import BINS, LEVELS, decode_boxes, join_levels

BOX_GAIN, CLASS_GAIN, DISTRIBUTION_GAIN = 7.5, 0.5, 1.5  # as published
MANY, ONE = 10, 1  # cells per object
# Sums are divided by the sum of all target scores, but by no less than this per image of the batch: without it a batch
# with hardly any object would weigh as many times more as it has images.
_LEAST_PER_IMAGE = 0.25
_EPSILON = 1e-7


class YOLOv10Loss(nn.Layer):
    """Class, box and distance-distribution losses of the one-to-one and of the one-to-many head, added up.

    Every part is a sum over a head's cells divided by the sum of its target scores, so that it does not depend on the
    batch's size; the published loss is this one times the number of images. Float32 throughout, deterministic.

    Attributes:
        parts: What the loss's parts are called.
        divisor: See ``own_divisor``.
    """

    parts = ("box", "cls", "dfl", "one_to_one", "one_to_many")
    divisor: Divisor

    def __init__(self) -> None:
        super().__init__()
        self.divisor = own_divisor

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Does nothing: every epoch is like another."""

    def forward(self, *raw_and_targets: paddle.Tensor) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Called as ``loss(*network.raw(images), targets)``.

        Args:
            raw_and_targets: The twelve maps; last the targets, float32 (B, M, 5): class, x1, y1, x2, y2 in input
                pixels, class -1 is padding.

        Returns:
            The total, and its parts with their gains: "box" + "cls" + "dfl", which is also "one_to_one" +
            "one_to_many".

        Raises:
            ValueError: The maps are not those of two heads.
        """
        *raw, targets = raw_and_targets
        if len(raw) != 4 * LEVELS:
            raise ValueError(f"the loss needs the {4 * LEVELS} maps of both heads, got {len(raw)}")
        with paddle.amp.auto_cast(enable=False):
            targets = targets.astype("float32")
            cells = Cells.of(raw[:LEVELS])
            with paddle.no_grad():
                allowed = candidates(targets, cells)
            one = _head_loss(raw[: 2 * LEVELS], targets, cells, allowed, ONE, self.divisor)
            many = _head_loss(raw[2 * LEVELS :], targets, cells, allowed, MANY, self.divisor)
            box, classes, distribution = (a + b for a, b in zip(one, many, strict=True))
            total = box + classes + distribution
        values = (box, classes, distribution, sum(one), sum(many))
        return total, {name: value.detach() for name, value in zip(self.parts, values, strict=True)}


def _head_loss(
    maps: Sequence[paddle.Tensor],
    targets: paddle.Tensor,
    cells: Cells,
    allowed: paddle.Tensor,
    most: int,
    divisor_of: Divisor,
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Returns the box, class and distribution loss of one head."""
    distances = join_levels(maps[:LEVELS]).astype("float32").transpose([0, 2, 1])
    classes = join_levels(maps[LEVELS:]).astype("float32")
    with paddle.no_grad():
        boxes = decode_boxes(distances, cells.centres, cells.strides)
        found = assign(classes, boxes, targets, allowed, most)
        divisor = divisor_of(found.score.sum(), 0.0, _LEAST_PER_IMAGE, int(targets.shape[0]))
    negative = nn.functional.softplus(classes).sum()
    if found.cell.shape[0] == 0:
        nothing = distances.sum() * 0.0  # part of the graph all the same: every rank must give every gradient
        return nothing, CLASS_GAIN * negative / divisor, nothing
    truth = paddle.gather_nd(targets, paddle.stack([found.image, found.object], axis=1))
    # Binary cross-entropy with logit x and target t is softplus(x) - x t, and t is 0 but at the positives.
    index = paddle.stack([found.image, truth[:, 0].astype("int64"), found.cell], axis=1)
    positive = (paddle.gather_nd(classes, index) * found.score).sum()
    box, distribution = _box_losses(distances, truth[:, 1:], cells, found)
    return (
        BOX_GAIN * box / divisor,
        CLASS_GAIN * (negative - positive) / divisor,
        DISTRIBUTION_GAIN * distribution / divisor,
    )


def _box_losses(
    distances: paddle.Tensor, truth: paddle.Tensor, cells: Cells, found: Positives
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Returns the sums of 1 - CIoU and of the distributions' losses over the positives, weighted by their scores."""
    logits = paddle.gather_nd(distances, paddle.stack([found.image, found.cell], axis=1))
    centres, strides = paddle.gather(cells.centres, found.cell), paddle.gather(cells.strides, found.cell)
    box = ((1.0 - ciou(decode_boxes(logits, centres, strides), truth)) * found.score).sum()
    aims = paddle.concat([centres - truth[:, :2], truth[:, 2:] - centres], axis=1) / strides
    return box, (distribution_loss(logits.reshape([-1, 4, BINS]), aims).mean(axis=1) * found.score).sum()


def ciou(first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
    """Returns the complete IoU of boxes (P, 4), x1 y1 x2 y2, pair by pair: (P,), above -1.5 and at most 1.

    IoU - d^2 / c^2 - a v with the centres' distance d, the diagonal c of the box around both, and the difference v of
    the sides' ratios, weighted by a, which gives no gradient (arXiv 1911.08287, equations 6 to 11).
    """
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = first.unbind(1), second.unbind(1)
    aw, ah, bw, bh = ax2 - ax1, ay2 - ay1, bx2 - bx1, by2 - by1
    common = nn.functional.relu(paddle.minimum(ax2, bx2) - paddle.maximum(ax1, bx1)) * nn.functional.relu(
        paddle.minimum(ay2, by2) - paddle.maximum(ay1, by1)
    )
    iou = common / (aw * ah + bw * bh - common + _EPSILON)
    around_w = paddle.maximum(ax2, bx2) - paddle.minimum(ax1, bx1)
    around_h = paddle.maximum(ay2, by2) - paddle.minimum(ay1, by1)
    apart = ((bx1 + bx2 - ax1 - ax2) ** 2 + (by1 + by2 - ay1 - ay2) ** 2) / 4
    ratios = 4 / math.pi**2 * (paddle.atan(bw / (bh + _EPSILON)) - paddle.atan(aw / (ah + _EPSILON))) ** 2
    weight = (ratios / (1.0 + _EPSILON - iou + ratios)).detach()
    return iou - apart / (around_w**2 + around_h**2 + _EPSILON) - weight * ratios


def distribution_loss(logits: paddle.Tensor, aims: paddle.Tensor) -> paddle.Tensor:
    """Returns the cross-entropy of bins with a distance split between the two bins around it (arXiv 2006.04388).

    Args:
        logits: (P, 4, 16).
        aims: Distances in cells, (P, 4); brought into 0..14.99.

    Returns:
        (P, 4).
    """
    aims = paddle.clip(aims, 0.0, BINS - 1 - 0.01)
    lower = paddle.floor(aims)
    share = (aims - lower).unsqueeze(-1)
    bins = lower.astype("int64").unsqueeze(-1)
    at_lower = paddle.take_along_axis(logits, bins, axis=2)
    at_upper = paddle.take_along_axis(logits, bins + 1, axis=2)
    fitted = (at_lower * (1.0 - share) + at_upper * share).squeeze(-1)
    return paddle.logsumexp(logits, axis=-1) - fitted
