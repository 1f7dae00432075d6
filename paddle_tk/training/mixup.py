"""Mixup (arXiv 1710.09412): convex mixtures of a batch with its own permutation."""

from __future__ import annotations

import numpy as np
import paddle

from paddle_tk.training.distributed import Parallel

_STREAM = 0x6D69  # apart from the streams of shuffling and augmentation


class Mixup:
    """Mixes a batch; what it draws depends on seed, epoch and step alone, so a resumed run repeats it.

    Args:
        alpha: Both parameters of the Beta distribution of the mixing weight, above 0.
        num_classes: Width of the soft labels.
        seed: The training's seed.
        parallel: The processes that share every batch: an image's partner may be another one's.
    """

    def __init__(self, alpha: float, num_classes: int, seed: int, parallel: Parallel | None = None) -> None:
        self.alpha, self.num_classes, self.seed, self._parallel = alpha, num_classes, seed, parallel

    def __call__(
        self, images: paddle.Tensor, labels: paddle.Tensor, epoch: int, step: int
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Returns mixed images (B, 3, H, W) and soft labels (B, C)."""
        rng = np.random.default_rng((self.seed, _STREAM, epoch, step))
        share = float(rng.beta(self.alpha, self.alpha))
        onehot = paddle.nn.functional.one_hot(labels, self.num_classes)
        all_images, all_onehot = images, onehot
        if self._parallel is not None:
            all_images, all_onehot = (self._parallel.whole_batch(rows) for rows in (images, onehot))
        order = rng.permutation(int(all_onehot.shape[0]))
        if self._parallel is not None:
            # A filler, which counts for nothing, is mixed with any row.
            order = order[self._parallel.own_places] if self._parallel.own_images else order[:1]
        rows = paddle.to_tensor(order)
        mixed = images * share + all_images.index_select(rows) * (1 - share)
        return mixed, onehot * share + all_onehot.index_select(rows) * (1 - share)
