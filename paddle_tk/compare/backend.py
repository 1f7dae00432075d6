"""What a framework must be able to do to be timed; the timing itself is ``compare.phases``', the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paddle_tk.compare.inputs import Array, EvalImages, Plan, SharedInputs

RANDOM_LAYERS = ("Dropout", "DropPath")  # class names, in both frameworks
Predict = Callable[[Array], tuple[Array, ...]]
Step = Callable[[Array, Array], float]


@dataclass(frozen=True)
class Feed:
    """Training batches for the high-level API.

    Attributes:
        inputs: Where they lie.
        places: Per epoch the places of its batches.
    """

    inputs: SharedInputs
    places: tuple[tuple[int, ...], ...]

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.places)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of each epoch."""
        return len(self.places[0])

    def batches(self, epoch: int) -> Iterator[tuple[Array, Array]]:
        """Yields an epoch's (images, labels)."""
        for place in self.places[epoch]:
            yield self.inputs.train_batch(place)


class Listener(Protocol):
    """What is told of a training while it runs."""

    def began(self) -> None:
        """The first batch is about to be read."""

    def batch_ended(self, loss: float) -> None:
        """A batch is done and its loss known."""

    def epoch_ended(self, metric: float, loss: float) -> None:
        """An epoch is evaluated.

        Args:
            metric: On the validation images.
            loss: Mean training loss over the epoch's images.
        """


class HighLevel(Protocol):
    """A network and the framework's high-level training of it."""

    def fit(self, feed: Feed, val: EvalImages, listener: Listener) -> None:
        """Trains over all of ``feed``, with an evaluation after each epoch."""

    def evaluate(self, data: EvalImages) -> float:
        """Returns the plan's metric."""

    def arrays(self) -> dict[str, Array]:
        """Returns copies of all weights by Paddle's names, in Paddle's layout."""


class Backend(Protocol):
    """A framework with a plan.

    Attributes:
        plan: What is built and trained.
        framework: "paddle" or "torch".
        version: Of the framework.
        device: "cpu" or "gpu:N".
        trainer_import_seconds: What importing the high-level trainer took; None until it was imported.
    """

    plan: Plan
    framework: str
    version: str
    device: str
    trainer_import_seconds: float | None

    def predictor(self, weights: Path) -> Predict:
        """Returns a network in evaluation mode: images (B, 3, H, W) -> "logits", or "boxes" and "scores", as arrays."""

    def compiled(self, weights: Path, images: Array) -> tuple[str, Predict]:
        """Returns the framework's own graph form of the same and what it is called.

        Args:
            weights: Of the network.
            images: A batch of the shape that it will get.
        """

    def bare_step(self, weights: Path, *, random_layers: bool = True, double: bool = False) -> Step:
        """Returns one training step without any high-level API: (images, labels) -> loss.

        It is forward, loss, backward, clipping, optimizer and schedule, and waits for the loss.

        Args:
            weights: To start from.
            random_layers: Whether dropout and dropped paths are drawn; without, they pass everything.
            double: Compute in float64, by a framework's own kernels, with constants as both frameworks can hold them.
        """

    def high_level(self, weights: Path) -> HighLevel:
        """Returns the high-level training from these weights."""


def whole_feed(inputs: SharedInputs, steps: int) -> Feed:
    """Returns one epoch of ``steps`` full batches; where there are fewer they come again."""
    whole = inputs.plan.whole_batches
    return Feed(inputs, (tuple(whole[step % len(whole)] for step in range(steps)),))


def epoch_feed(inputs: SharedInputs, epochs: int) -> Feed:
    """Returns the first epochs as they were shuffled."""
    per_epoch = inputs.plan.batches_per_epoch
    places: Sequence[tuple[int, ...]] = [tuple(range(e * per_epoch, (e + 1) * per_epoch)) for e in range(epochs)]
    return Feed(inputs, tuple(places))
