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
from paddle_tk.training.distributed import Parallel
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
        parallel: The processes that share every batch; None: this one alone.
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
        parallel: Parallel | None = None,
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
        self._parallel = parallel
        self._positions = np.zeros(0, np.int64)

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
        self._positions = data.positions if self._parallel is not None else np.arange(len(data.split))
        self._metric.reset()
        self._count = DetectionCount(
            self._metric, data.split, self._preprocessing, self._postprocessing, self._positions
        )

    def evaluate(
        self, network: Any, images: paddle.Tensor, target: paddle.Tensor
    ) -> tuple[float, tuple[dict[str, float], list[np.ndarray]]]:
        """Returns an evaluation batch's loss, and its parts with boxes and scores."""
        raw = network.raw(images)
        total, parts = self.loss(*raw, target)
        values = {name: float(value) for name, value in parts.items()}
        return float(total), (values, [to_array(value) for value in network.decode(raw)])

    def count(self, outcome: tuple[dict[str, float], list[np.ndarray]], target: paddle.Tensor) -> None:
        """Counts an evaluation batch's loss parts and detections."""
        parts, (boxes, scores) = outcome
        self.metrics[0].update(parts, int(target.shape[0]))
        found = [self._count.add(*outputs) for outputs in zip(boxes, scores, strict=True)]
        self._samples += found[: _SHOWN - len(self._samples)]

    def evaluation(self) -> dict[str, float]:
        """Returns the mean average precisions, 0 where nothing was found."""
        if self._parallel is not None:
            self._collect(self._parallel)
        return self._metric.result().main

    def _collect(self, parallel: Parallel) -> None:
        places = self._positions[: self._metric.n]
        found = parallel.gather_arrays({"places": places, **self._metric.arrays()})
        self._metric.reset()
        for one in found:
            self._metric.add_arrays(one)
        self._metric.sort(np.concatenate([one["places"] for one in found]))

    def agreed(self, added: list[np.ndarray]) -> None:
        """Takes the loss parts over the images of all processes."""
        images, *sums = added[0].tolist()
        self.parts = {name: value / images for name, value in zip(self.metrics[0].name(), sums, strict=True)}

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
        shown = [int(position) for position in self._positions[: len(likely)]]
        truths = [self._split.boxes(index) for index in shown]
        return detections_picture(
            [self._split.image(index) for index in shown],
            [(truth.xyxy, truth.class_ids) for truth in truths],
            [(boxes, scores, ids) for boxes, scores, ids in likely],
            self.classes,
        )
