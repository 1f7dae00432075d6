"""Where a training stands: everything that ``fit`` needs to go on from the middle of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Progress:
    """Counters of a running training; saved with every checkpoint.

    Attributes:
        epoch: Finished epochs, validation included.
        step: Batches done in the running epoch.
        updates: Optimizer updates so far.
        loss_sum: Sum over the running epoch's images of the training loss.
        samples: Images seen in the running epoch.
        train_seconds: Seconds spent in training steps and loading, evaluation excluded, all attempts.
        train_images: Images trained on, all epochs.
        epoch_seconds: Seconds of training in the running epoch.
        total_seconds: Wall seconds of all attempts.
        best_rank: Rank of the best epoch so far: lower is better, compared item by item.
        best_epoch: The epoch that reached it, counted from 1.
        train_metrics: Training metrics over the running epoch so far.
        finished: A callback ended the training before the last epoch.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    train_seconds: float = 0.0
    train_images: int = 0
    epoch_seconds: float = 0.0
    total_seconds: float = 0.0
    best_rank: list[float] = field(default_factory=list)
    best_epoch: int = 0
    train_metrics: dict[str, float] = field(default_factory=dict)
    finished: bool = False

    def add_batch(self, loss: float, samples: int) -> None:
        """Counts one training batch with its mean loss."""
        self.loss_sum += loss * samples
        self.samples += samples
        self.train_images += samples
        self.step += 1

    def add_seconds(self, seconds: float) -> None:
        """Counts time spent on training, loading included."""
        self.epoch_seconds += seconds
        self.train_seconds += seconds

    def next_epoch(self, rank: list[float]) -> None:
        """Closes the running epoch, whose validation figures rank it by ``rank`` (lower is better)."""
        self.epoch += 1
        if not self.best_rank or rank < self.best_rank:
            self.best_rank, self.best_epoch = rank, self.epoch
        self.step = 0
        self.loss_sum, self.samples, self.epoch_seconds = 0.0, 0, 0.0
        self.train_metrics = {}

    @property
    def mean_loss(self) -> float:
        """Mean training loss over the running epoch's images; NaN before the first."""
        return self.loss_sum / self.samples if self.samples else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over saved counters."""
        for item in fields(self):
            setattr(self, item.name, state[item.name])
