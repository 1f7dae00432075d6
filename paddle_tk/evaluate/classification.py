"""A loaded model and a split of labelled images -> accuracy, loss and speed, each with its sample count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from paddle_tk.data.loader import EvalLoader
from paddle_tk.metrics.accuracy import TopK, confusion_matrix, macro_recall
from paddle_tk.models.losses import ClassificationLoss
from paddle_tk.runtime.base import Array, Predictor, require_finite
from paddle_tk.types import Measurement


@dataclass(frozen=True)
class ClassificationEvaluation:
    """What a model does on a split.

    Attributes:
        accuracy: "top1" and, with more than 5 classes, "top5": shares in 0..1.
        loss: Mean cross-entropy per image, in nats.
        label_smoothing: The share the loss was smoothed with.
        confusion: int64 (C, C), rows true, columns predicted.
        classes: Class names.
        seconds: Wall time of loading and predicting all images.
        device: Where it was computed.
    """

    accuracy: dict[str, float]
    loss: float
    label_smoothing: float
    confusion: Array
    classes: tuple[str, ...]
    seconds: float
    device: str

    @property
    def n(self) -> int:
        """How many images."""
        return int(self.confusion.sum())

    @property
    def figures(self) -> dict[str, float]:
        """The shares, by name."""
        return self.accuracy

    @property
    def images_per_second(self) -> float:
        """Images loaded and predicted per second."""
        return self.n / max(self.seconds, 1e-9)

    @property
    def macro_recall(self) -> float:
        """The mean over the classes of the share of their images that are recognised, 0..1."""
        return macro_recall(self.confusion)

    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """Returns, by class name, "top1" (the share of its images that are recognised, None without images) and "n"."""
        right, n = np.diag(self.confusion), self.confusion.sum(axis=1)
        return {
            name: {"top1": float(right[i] / n[i]) if n[i] else None, "n": int(n[i])}
            for i, name in enumerate(self.classes)
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            **self.accuracy,
            "macro_recall": self.macro_recall,
            "n": self.n,
            "loss": self.loss,
            "label_smoothing": self.label_smoothing,
            "per_class": self.per_class(),
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "device": self.device,
            "origin": "measured",
        }

    def measurements(self) -> tuple[Measurement, ...]:
        """Returns the figures as measurements."""
        shares = {**self.accuracy, "macro_recall": self.macro_recall}
        units = {**dict.fromkeys(shares, "share"), "loss": "nats", "images_per_second": "images/s"}
        values = {**shares, "loss": self.loss, "images_per_second": self.images_per_second}
        return tuple(Measurement(k, v, units[k], self.n, "measured", device=self.device) for k, v in values.items())


def evaluate_classifier(
    predictor: Predictor, loader: EvalLoader, *, label_smoothing: float, advance: Callable[[int], None]
) -> ClassificationEvaluation:
    """Evaluates a classifier; see ``paddle_tk.evaluate.task.evaluate``.

    Args:
        predictor: The model.
        loader: Prepared images with labels; the loss is summed batch by batch, so only equal batch sizes give equal
            last digits.
        label_smoothing: As in the training whose loss this one is compared with.
        advance: Called with the number of images done since the last call.
    """
    artifact = predictor.artifact
    top_k, loss_of = TopK((1, 5)), ClassificationLoss(label_smoothing)
    count = len(artifact.task.classes)
    confusion, loss = np.zeros((count, count), np.int64), 0.0
    began = time.perf_counter()
    for images, labels in loader:
        (logits,), truth = predictor.predict(images.numpy()), labels.numpy()
        require_finite((logits,), artifact)
        top_k.update(logits, truth)
        confusion += confusion_matrix(logits.argmax(axis=1), truth, count)
        loss += float(loss_of(paddle.to_tensor(logits), labels)) * len(truth)
        advance(len(truth))
    seconds = time.perf_counter() - began
    n = max(1, top_k.n)
    return ClassificationEvaluation(
        top_k.result(), loss / n, label_smoothing, confusion, artifact.task.classes, seconds, predictor.device
    )
