"""After each epoch: sample predictions and the confusion matrix of the validation images, into the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

from paddle_tk.metrics.accuracy import confusion_matrix
from paddle_tk.training.pictures import confusion_matrix_picture, predictions_picture

_MOST_CLASSES = 100  # a larger matrix is unreadable as a picture


class Pictures(paddle.callbacks.Callback):
    """Draws what the last evaluation predicted.

    Args:
        sinks: Loggers.
        split: The validation images, in the order of the evaluation.
        classes: Class names.
        count: Sample predictions shown.
    """

    def __init__(self, sinks: Sequence[Any], split: Any, classes: Sequence[str], count: int = 16) -> None:
        super().__init__()
        self.sinks, self.split, self.classes, self.count = sinks, split, list(classes), count

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws and hands the pictures over."""
        if not self.sinks or not self.model.eval_labels:
            return
        predicted = np.concatenate(self.model.eval_predictions)
        labels = np.concatenate(self.model.eval_labels)
        pictures = {"samples": self._samples(predicted, labels)}
        if len(self.classes) <= _MOST_CLASSES:
            matrix = confusion_matrix(predicted, labels, len(self.classes))
            pictures["confusion_matrix"] = confusion_matrix_picture(matrix, self.classes)
        for sink in self.sinks:
            for tag, picture in pictures.items():
                sink.image(tag, picture, self.model.progress.updates)

    def _samples(self, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
        scores = np.concatenate(self.model.eval_scores)
        # Mistakes first: they are what one looks for.
        order = np.argsort(predicted == labels, kind="stable")[: self.count]
        images = [self.split.image(int(i)) for i in order]
        names = [self.classes[int(labels[i])] for i in order]
        guesses = [self.classes[int(predicted[i])] for i in order]
        return predictions_picture(images, names, guesses, [float(scores[i]) for i in order])
