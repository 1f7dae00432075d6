"""Mixup (arXiv 1710.09412): convex mixtures of a batch with its own permutation."""

from __future__ import annotations

import numpy as np
import paddle

_STREAM = 0x6D69  # apart from the streams of shuffling and augmentation


class Mixup:
    """Mixes a batch; what it draws depends on seed, epoch and step alone, so a resumed run repeats it.

    Args:
        alpha: Both parameters of the Beta distribution of the mixing weight, above 0.
        num_classes: Width of the soft labels.
        seed: The training's seed.
    """

    def __init__(self, alpha: float, num_classes: int, seed: int) -> None:
        self.alpha, self.num_classes, self.seed = alpha, num_classes, seed

    def __call__(
        self, images: paddle.Tensor, labels: paddle.Tensor, epoch: int, step: int
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Returns mixed images (B, 3, H, W) and soft labels (B, C)."""
        rng = np.random.default_rng((self.seed, _STREAM, epoch, step))
        share = float(rng.beta(self.alpha, self.alpha))
        order = paddle.to_tensor(rng.permutation(int(labels.shape[0])))
        onehot = paddle.nn.functional.one_hot(labels, self.num_classes)
        mixed = images * share + images.index_select(order) * (1 - share)
        return mixed, onehot * share + onehot.index_select(order) * (1 - share)
