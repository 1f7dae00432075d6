"""The classification loss: cross-entropy with smoothing, soft labels, auxiliary heads, class weights and focus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import paddle
from paddle import nn
from paddle.nn import functional

Divisor = Callable[[paddle.Tensor, float, float, int], paddle.Tensor]
_LEAST_FOCUS = 1e-6
AUXILIARY_WEIGHT = 0.3  # Szegedy et al., arXiv 1409.4842, section 5


def own_divisor(total: paddle.Tensor, floor: float, floor_per_image: float, images: int) -> paddle.Tensor:
    """Returns what a loss over a batch is divided by: a total over its images, but no less than a floor.

    Several processes that share a batch put something else in its place, which knows the others' totals.

    Args:
        total: A scalar.
        floor: Least divisor of a batch.
        floor_per_image: Its part that grows with the images.
        images: Of the batch.
    """
    return paddle.clip(total, min=floor + floor_per_image * images)


class ClassificationLoss(nn.Layer):
    """Mean cross-entropy over a batch, computed in float32, of a float64 network in float64.

    With smoothing e and C classes the target t becomes (1 - e) t + e / C (arXiv 1512.00567, section 7); soft
    labels are smoothed in the same way. The mean is over the images whatever their weights, so that parts of a batch
    add up to it.

    Args:
        label_smoothing: e, 0 <= e < 1.
        class_weights: A factor for the images of each class, for soft labels their mean by the label; empty: none.
        focal_gamma: g of the focal loss (Lin et al. 2017, arXiv 1708.02002): an image's loss is multiplied by
            (1 - p)^g with p = exp(-cross-entropy), the probability of its class; 0: none.

    Raises:
        ValueError: ``label_smoothing`` is out of range, or a weight or ``focal_gamma`` is negative.
    """

    def __init__(
        self, label_smoothing: float = 0.0, *, class_weights: Sequence[float] = (), focal_gamma: float = 0.0
    ) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        if min(class_weights, default=0.0) < 0 or focal_gamma < 0:
            raise ValueError(f"weights and focal_gamma must be at least 0, got {class_weights} and {focal_gamma}")
        self.label_smoothing, self.class_weights, self.focal_gamma = label_smoothing, tuple(class_weights), focal_gamma

    def forward(self, *outputs_and_label: paddle.Tensor) -> paddle.Tensor:
        """Called as ``loss(*outputs, label)``.

        Args:
            outputs_and_label: Logits (B, C); then those of any auxiliary heads, weighted 0.3 each; last the
                label, int64 (B,) or (B, 1), or float (B, C) whose rows sum to 1.

        Returns:
            A scalar.
        """
        *outputs, label = outputs_and_label
        with paddle.amp.auto_cast(enable=False):
            main, *auxiliary = [self._cross_entropy(logits, label) for logits in outputs]
        for loss in auxiliary:
            main = main + AUXILIARY_WEIGHT * loss
        return main

    def _cross_entropy(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        if logits.dtype != paddle.float64:
            logits = logits.astype("float32")
        # Paddle's log_softmax ends at -64 on CPU, which would hide how far a run has diverged.
        log_probabilities = logits - paddle.logsumexp(logits, axis=-1, keepdim=True)
        if label.is_floating_point():
            fitted = -(label.astype(logits.dtype) * log_probabilities).sum(axis=-1)
        else:
            fitted = functional.nll_loss(log_probabilities, label.reshape([-1]), reduction="none")
        factor = self._factor(fitted, label)
        loss = fitted
        if self.label_smoothing != 0.0:
            uniform = -log_probabilities.mean(axis=-1)
            loss = (1.0 - self.label_smoothing) * fitted + self.label_smoothing * uniform
        return loss.mean() if factor is None else (loss * factor).mean()

    def _factor(self, fitted: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor | None:
        """Returns what each image's loss is multiplied by, (B,); None: 1."""
        factor = None
        if self.class_weights:
            weights = paddle.to_tensor(self.class_weights, dtype=fitted.dtype)
            if label.is_floating_point():
                factor = label.astype(fitted.dtype).matmul(weights)
            else:
                factor = weights.index_select(label.reshape([-1]))
        if self.focal_gamma:
            # 1 - exp(-x), kept off 0, where a power below 1 has no gradient.
            focus = paddle.clip(-paddle.expm1(-fitted), min=_LEAST_FOCUS) ** self.focal_gamma
            factor = focus if factor is None else factor * focus
        return factor
