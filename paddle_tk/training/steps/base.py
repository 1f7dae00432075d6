"""What every task's step can do."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import paddle


class TaskStep(Protocol):
    """One task's way from a batch to a loss and to figures.

    Attributes:
        main_metric: The validation figure that tells the best epoch.
        higher_is_better: Its direction.
        target: What a batch's labels look like.
        loss: For ``paddle.Model.prepare``.
        metrics: For ``paddle.Model.prepare``; each has ``state`` and ``load``.
        parts: The last training batch's loss by part; empty where it has none.
    """

    main_metric: str
    higher_is_better: bool
    target: paddle.static.InputSpec
    loss: Any
    metrics: list[Any]
    parts: dict[str, float]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Prepares for an epoch, counted from 0."""

    def forward(
        self, network: Any, images: paddle.Tensor, target: paddle.Tensor, epoch: int, step: int
    ) -> tuple[paddle.Tensor, Any]:
        """Returns a training batch's loss and what ``measure`` takes."""

    def measure(self, outcome: Any, target: paddle.Tensor) -> None:
        """Counts a training batch in the metrics."""

    def begin_evaluation(self, data: Any) -> None:
        """Forgets the last evaluation; ``data`` is the ``EvalLoader`` that is going to be read."""

    def evaluate(self, network: Any, images: paddle.Tensor, target: paddle.Tensor) -> tuple[float, Any]:
        """Returns an evaluation batch's loss and what ``count`` takes."""

    def count(self, outcome: Any, target: paddle.Tensor) -> None:
        """Counts an evaluation batch."""

    def evaluation(self) -> dict[str, float]:
        """Returns figures that need all images of the evaluation, besides those of the metrics.

        Where several processes evaluate together, each of them must call this.
        """

    def agreed(self, added: list[np.ndarray]) -> None:
        """Learns what a training batch of all processes added to the numbers of each metric."""

    def pictures(self) -> dict[str, np.ndarray]:
        """Returns pictures of the last evaluation by tag: RGB, (height, width, 3), uint8."""
