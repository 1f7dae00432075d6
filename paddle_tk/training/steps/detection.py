"""The step of a detector: its own loss with its parts, COCO's average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from paddle_tk.metrics.detection import DetectionMetric
from paddle_tk.models.weights import to_array
from paddle_tk.runtime.detections import DetectionCount, Found
from paddle_tk.training.detection_pictures import (
    detection_confusion_picture,
    detections_picture,
    precision_recall_picture,
)
from paddle_tk.training.loss_parts import LossParts

_SHOWN = 9  # images in the sheet of samples
_SHOWN_SCORE = 0.25
_MOST_CLASSES = 100  # a larger confusion matrix is unreadable as a picture


class DetectionStep:
    """See ``TaskStep``.

    Args:
        classes: Class names.
        loss: The network's ``make_loss()``.
        parts: The names of the parts it returns.
        preprocessing: As the manifest holds it.
        postprocessing: As the manifest holds it.
    """

    main_metric, higher_is_better = "val_map50_95", True

    def __init__(
        self,
        classes: Sequence[str],
        *,
        loss: Any,
        parts: Sequence[str],
        preprocessing: Mapping[str, Any],
        postprocessing: Mapping[str, Any],
    ) -> None:
        self.target = paddle.static.InputSpec([None, None, 5], "float32", "targets")
        self.loss = loss
        self.metrics = [LossParts(parts)]
        self.parts: dict[str, float] = {}
        self.classes = list(classes)
        self._preprocessing, self._postprocessing = dict(preprocessing), dict(postprocessing)
        self._metric = DetectionMetric(self.classes)
        self._split: Any = None
        self._count: Any = None
        self._samples: list[Found] = []

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Tells the loss which epoch it is, counted from 0: some assign boxes otherwise at first."""
        self.loss.start_epoch(epoch, epochs)

    def forward(
        self, network: Any, images: paddle.Tensor, target: paddle.Tensor, epoch: int, step: int
    ) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Returns the loss and its parts."""
        total, parts = self.loss(*network(images), target)
        return total, parts

    def measure(self, outcome: Any, target: paddle.Tensor) -> None:
        """Counts a training batch's loss parts."""
        self.parts = {name: float(value) for name, value in outcome.items()}
        self.metrics[0].update(self.parts, int(target.shape[0]))

    def begin_evaluation(self, data: Any) -> None:
        """Forgets the last evaluation."""
        self._split, self._samples = data.split, []
        self._metric.reset()
        self._count = DetectionCount(self._metric, data.split, self._preprocessing, self._postprocessing)

    def evaluate(self, network: Any, images: paddle.Tensor, target: paddle.Tensor) -> float:
        """Counts an evaluation batch and returns its loss."""
        raw = network.raw(images)
        total, parts = self.loss(*raw, target)
        self.metrics[0].update({name: float(value) for name, value in parts.items()}, int(target.shape[0]))
        boxes, scores = (to_array(value) for value in network.decode(raw))
        found = [self._count.add(*outputs) for outputs in zip(boxes, scores, strict=True)]
        self._samples += found[: _SHOWN - len(self._samples)]
        return float(total)

    def evaluation(self) -> dict[str, float]:
        """Returns the mean average precisions, 0 where nothing was found."""
        return self._metric.result().main

    def pictures(self) -> dict[str, np.ndarray]:
        """Returns samples with true and predicted boxes, precision-recall curves and the confusion matrix."""
        if not self._samples:
            return {}
        pictures = {
            "samples": self._sheet(),
            "precision_recall": precision_recall_picture(self._metric.precision_recall(), self.classes),
        }
        if len(self.classes) <= _MOST_CLASSES:
            pictures["confusion_matrix"] = detection_confusion_picture(self._metric.confusion(), self.classes)
        return pictures

    def _sheet(self) -> np.ndarray:
        likely = [[part[found.scores >= _SHOWN_SCORE] for part in found] for found in self._samples]
        truths = [self._split.boxes(index) for index in range(len(likely))]
        return detections_picture(
            [self._split.image(index) for index in range(len(likely))],
            [(truth.xyxy, truth.class_ids) for truth in truths],
            [(boxes, scores, ids) for boxes, scores, ids in likely],
            self.classes,
        )
