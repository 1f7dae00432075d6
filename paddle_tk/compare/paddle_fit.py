"""The high-level training of Paddle's side: ``FitModel.fit`` over the shared batches, as ``Trainer`` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import paddle

from paddle_tk.compare.backend import Feed, Listener
from paddle_tk.compare.inputs import Array, EvalImages, Plan
from paddle_tk.models.weights import network_arrays
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.precision import Precision
from paddle_tk.training.steps.base import TaskStep


class PaddleFit:
    """See ``HighLevel``."""

    def __init__(self, plan: Plan, network: Any, optimizer: Any, device: str) -> None:
        self._network = network
        task = _task(plan, network)
        self._metric = f"val_{plan.metric}"
        self._model = FitModel(network, task=task, precision=Precision(plan.precision, "O1", device))
        self._model.prepare(optimizer, task.loss, task.metrics)

    def fit(self, feed: Feed, val: EvalImages, listener: Listener) -> None:
        """See ``HighLevel``."""
        told = _Told(listener, self._metric)
        self._model.fit(_TrainBatches(feed), _EvalBatches(val), epochs=feed.epochs, callbacks=[told])

    def evaluate(self, data: EvalImages) -> float:
        """See ``HighLevel``."""
        return float(self._model.run_evaluation(_EvalBatches(data))[self._metric])

    def arrays(self) -> dict[str, Array]:
        """See ``HighLevel``."""
        return network_arrays(self._network)


def step_class(kind: str) -> Any:
    """Returns the class of a task's step; what draws its pictures is loaded with it."""
    if kind == "detection":
        from paddle_tk.training.steps.detection import DetectionStep

        return DetectionStep
    from paddle_tk.training.steps.classification import ClassificationStep

    return ClassificationStep


def _task(plan: Plan, network: Any) -> TaskStep:
    make = step_class(plan.kind)
    if plan.kind == "detection":
        loss = network.make_loss()
        found: TaskStep = make(
            plan.classes, loss=loss, parts=loss.parts,
            preprocessing=plan.preprocessing, postprocessing=plan.postprocessing,
        )  # fmt: skip
    else:
        found = make(plan.classes, label_smoothing=plan.label_smoothing)
    return found


class _TrainBatches:
    """A feed as ``FitModel.fit`` takes it."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._epoch = feed, 0
        self.batches_per_epoch = feed.batches_per_epoch
        self.stop_when: Callable[[], bool] | None = None

    def start(self, epoch: int, step: int = 0) -> None:
        if step:
            raise ValueError(f"the shared batches of an epoch are read from the first on, not from {step}")
        self._epoch = epoch

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[list[paddle.Tensor]]:
        for images, labels in self._feed.batches(self._epoch):
            yield [paddle.to_tensor(images), paddle.to_tensor(labels)]


class _EvalBatches:
    """Evaluation images as ``FitModel`` takes them."""

    def __init__(self, data: EvalImages) -> None:
        self._data, self.split = data, data.split
        self.stop_when: Callable[[], bool] | None = None

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[list[paddle.Tensor]]:
        for images, labels in self._data.batches():
            yield [paddle.to_tensor(images), paddle.to_tensor(labels)]


class _Told(paddle.callbacks.Callback):
    """Passes on what happens."""

    def __init__(self, listener: Listener, metric: str) -> None:
        super().__init__()
        self._listener, self._metric = listener, metric

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._listener.began()

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        self._listener.batch_ended(float((logs or {})["loss"][0]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        found = logs or {}
        self._listener.epoch_ended(float(found[self._metric]), float(found["train_loss"]))
