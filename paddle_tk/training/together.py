"""A training whose every batch is shared by several processes: what ``FitModel`` does besides its own part."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import paddle

from paddle_tk.models.sync_batch_norm import running_statistics
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.sharding import Sharding

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Part:
    """One process's part of a batch.

    Attributes:
        own: Its images; 0: it goes along with a filler that does not count.
        first: Where they begin among those of all.
        of_all: Images of all processes.
    """

    own: int
    first: int
    of_all: int


class Together:
    """What the processes do to be as one, in the order in which all of them do it.

    Args:
        parallel: The processes.
        seed: The training's seed.
        synchronised: The batch norms see the images of all processes, so that their statistics are the same anyway.
        sharding: Divides the state over the processes; None: each of them holds everything.

    Attributes:
        parallel: The processes.
        sharding: As given.
        asked: The signal that asked this process to stop, which the others do not know of yet.
    """

    def __init__(
        self, parallel: Parallel, seed: int, *, synchronised: bool = False, sharding: Sharding | None = None
    ) -> None:
        self.parallel, self._seed, self._synchronised, self.sharding = parallel, seed, synchronised, sharding
        self.asked: int | None = None

    def part(self, loader: Any, step: int) -> Part:
        """Returns this process's part of a loader's batch."""
        first, last = loader.own_samples(step)
        return Part(last - first, first, loader.batch_samples(step))

    def training_batch(self, part: Part, epoch: int, step: int) -> AbstractContextManager[None]:
        """Returns the context of forward and backward pass."""
        return self.parallel.batch(part.own, part.of_all, part.first, key=(self._seed, epoch, step))

    def evaluation_batch(self, part: Part) -> AbstractContextManager[None]:
        """Returns the context of an evaluation batch."""
        return self.parallel.batch(part.own, part.of_all, part.first, training=False)

    def network(self, network: Any) -> Any:
        """Returns what is called for a training batch."""
        return network if self.sharding is None else self.sharding.model

    @property
    def loss_factor(self) -> float:
        """What each process's weighted loss is multiplied by before its gradients are taken."""
        return 1.0 if self.sharding is None else self.sharding.loss_factor

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Adds the gradients up, where Paddle has not done it in the backward pass."""
        if self.sharding is None:
            self.parallel.sum_gradients(parameters)

    def average_statistics(self, network: paddle.nn.Layer) -> None:
        """Gives every process the mean running statistics of the running batch's batch norms, weighted by images."""
        self.parallel.average(running_statistics(network, synchronised=self._synchronised))

    def agree(
        self, loss: float, part: Part, metrics: Sequence[Any], count: Callable[[], None]
    ) -> tuple[float, int | None, list[np.ndarray]]:
        """Counts a batch in the metrics of all processes alike.

        Args:
            loss: This process's mean loss.
            part: Its part of the batch.
            metrics: Each with ``numbers`` and ``take``.
            count: Counts its own images in the metrics; not called for a filler.

        Returns:
            The mean loss over the images of all, the signal that any of them was asked to stop by, and what the batch
            added to each metric's numbers.
        """
        before = [metric.numbers() for metric in metrics]
        if part.own:
            count()
        added = [metric.numbers() - old for metric, old in zip(metrics, before, strict=True)]
        own = loss * part.own if part.own else 0.0
        head = [own, *(float(self.asked == number) for number in _SIGNALS)]
        summed = self.parallel.sum(np.concatenate([head, *added]))
        ends = np.cumsum([len(head), *(len(numbers) for numbers in added)])
        totals = [summed[start:end] for start, end in pairwise(ends)]
        for metric, old, total in zip(metrics, before, totals, strict=True):
            metric.take(old + total)
        return float(summed[0]) / part.of_all, _signal(summed[1:3]), totals

    def agree_to_stop(self) -> int | None:
        """Returns the signal that any process was asked to stop by."""
        return _signal(self.parallel.sum([float(self.asked == number) for number in _SIGNALS]))


def _signal(asked: np.ndarray) -> int | None:
    return next((int(number) for number, count in zip(_SIGNALS, asked, strict=True) if count), None)
