"""The step of a classifier: cross-entropy on perhaps mixed images, top-k accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paddle

from paddle_tk.metrics.accuracy import confusion_matrix, macro_recall
from paddle_tk.models.losses import ClassificationLoss
from paddle_tk.models.weights import to_array
from paddle_tk.processing import softmax
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.hapi_metric import TopKMetric
from paddle_tk.training.pictures import confusion_matrix_picture, predictions_picture

Mix = Callable[[paddle.Tensor, paddle.Tensor, int, int], tuple[paddle.Tensor, paddle.Tensor]]
_MOST_CLASSES = 100  # a larger matrix is unreadable as a picture
_SAMPLES = 16


class ClassificationStep:
    """See ``TaskStep``.

    Args:
        classes: Class names.
        label_smoothing: Share of the target that is spread over all classes.
        mix: Mixes a batch: (images, labels, epoch, step) -> (images, soft labels); None: nothing is mixed.
        parallel: The processes that share every batch; None: this one alone.
        class_weights: Factors of the training loss by class; empty: none.
        focal_gamma: Exponent of the focal training loss; 0: none.
        balanced: Rank epochs by the mean recall of the classes instead of the share of images.
    """

    higher_is_better = True

    def __init__(
        self,
        classes: Sequence[str],
        *,
        label_smoothing: float = 0.0,
        mix: Mix | None = None,
        parallel: Parallel | None = None,
        class_weights: Sequence[float] = (),
        focal_gamma: float = 0.0,
        balanced: bool = False,
    ) -> None:
        self.main_metric = "val_macro_recall" if balanced else "val_top1"
        self.target = paddle.static.InputSpec([None], "int64", "label")
        self.loss = ClassificationLoss(label_smoothing, class_weights=class_weights, focal_gamma=focal_gamma)
        self._plain_loss = ClassificationLoss(label_smoothing)  # evaluations stay comparable
        self.metrics = [TopKMetric(len(classes))]
        self.parts: dict[str, float] = {}
        self.classes, self.mix, self._parallel = list(classes), mix, parallel
        self._split: Any = None
        self._positions = np.zeros(0, np.int64)
        self._predicted: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Does nothing: every epoch is like another."""

    def forward(
        self, network: Any, images: paddle.Tensor, target: paddle.Tensor, epoch: int, step: int
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Returns the loss and the logits."""
        mixed = (images, target) if self.mix is None else self.mix(images, target, epoch, step)
        outputs = _as_list(network(mixed[0]))
        return self.loss(*outputs, mixed[1]), outputs[0]

    def measure(self, outcome: Any, target: paddle.Tensor) -> None:
        """Counts a training batch's logits."""
        self.metrics[0].update(to_array(outcome), to_array(target))

    def begin_evaluation(self, data: Any) -> None:
        """Forgets the last evaluation."""
        self._split = data.split
        if self._parallel is not None:
            self._positions = data.positions
        self._predicted, self._scores, self._labels = [], [], []

    def evaluate(self, network: Any, images: paddle.Tensor, target: paddle.Tensor) -> tuple[float, np.ndarray]:
        """Returns an evaluation batch's loss and the logits."""
        outputs = _as_list(network(images))
        return float(self._plain_loss(*outputs, target)), to_array(outputs[0])

    def count(self, outcome: np.ndarray, target: paddle.Tensor) -> None:
        """Counts an evaluation batch's logits."""
        truth = to_array(target)
        self.metrics[0].update(outcome, truth)
        probabilities = softmax(outcome)
        self._predicted.append(probabilities.argmax(axis=1))
        self._scores.append(probabilities.max(axis=1))
        self._labels.append(truth)

    def evaluation(self) -> dict[str, float]:
        """Returns the mean recall of the classes. Collects what the other processes found, for it and the pictures."""
        if self._parallel is not None:
            self._collect(self._parallel)
        return {"macro_recall": macro_recall(self._confusion())}

    def _confusion(self) -> np.ndarray:
        predicted, labels = np.concatenate(self._predicted), np.concatenate(self._labels)
        return confusion_matrix(predicted, labels, len(self.classes))

    def _collect(self, parallel: Parallel) -> None:
        own = {"predicted": self._predicted, "scores": self._scores, "labels": self._labels}
        joined = {name: np.concatenate(parts) for name, parts in own.items() if parts}
        places = self._positions[: sum(map(len, self._labels))]
        found = [one for one in parallel.gather_arrays({"places": places, **joined}) if len(one["places"])]
        order = np.argsort(np.concatenate([one["places"] for one in found]))
        self._predicted, self._scores, self._labels = (
            [np.concatenate([one[name] for one in found])[order]] for name in own
        )

    def agreed(self, added: list[np.ndarray]) -> None:
        """Does nothing: the loss has no parts."""

    def pictures(self) -> dict[str, np.ndarray]:
        """Returns sample predictions and, of at most 100 classes, the confusion matrix."""
        if not self._labels:
            return {}
        predicted, labels = np.concatenate(self._predicted), np.concatenate(self._labels)
        pictures = {"samples": self._samples(predicted, labels)}
        if len(self.classes) <= _MOST_CLASSES:
            pictures["confusion_matrix"] = confusion_matrix_picture(self._confusion(), self.classes)
        return pictures

    def _samples(self, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
        scores = np.concatenate(self._scores)
        # Mistakes first: they are what one looks for.
        order = np.argsort(predicted == labels, kind="stable")[:_SAMPLES]
        images = [self._split.image(int(i)) for i in order]
        names = [self.classes[int(labels[i])] for i in order]
        guesses = [self.classes[int(predicted[i])] for i in order]
        return predictions_picture(images, names, guesses, [float(scores[i]) for i in order])


def _as_list(outputs: Any) -> list[paddle.Tensor]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
