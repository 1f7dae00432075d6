"""A detector and a split of images with boxes -> COCO's average precision, recall and speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paddle_tk.data.boxes import AnnotatedSplit
from paddle_tk.data.loader import EvalLoader
from paddle_tk.metrics.detection import DetectionFigures, DetectionMetric
from paddle_tk.runtime.base import Predictor, require_finite
from paddle_tk.runtime.detections import DetectionCount
from paddle_tk.types import Measurement


@dataclass(frozen=True)
class DetectionEvaluation:
    """What a detector does on a split.

    Attributes:
        coco: COCO's figures, shares in 0..1.
        metric: All detections, for curves and the confusion matrix.
        classes: Class names.
        seconds: Wall time of loading, predicting and post-processing all images.
        device: Where it was computed.
    """

    coco: DetectionFigures
    metric: DetectionMetric
    classes: tuple[str, ...]
    seconds: float
    device: str

    @property
    def n(self) -> int:
        """How many images."""
        return self.coco.n

    @property
    def figures(self) -> dict[str, float]:
        """The main shares, by name; 0 where nothing was found."""
        return self.coco.main

    @property
    def images_per_second(self) -> float:
        """Images loaded, predicted and post-processed per second."""
        return self.n / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            **self.coco.to_dict(),
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "device": self.device,
            "origin": "measured",
        }

    def measurements(self) -> tuple[Measurement, ...]:
        """Returns the figures as measurements."""
        values = {**self.figures, "images_per_second": self.images_per_second}
        units = {"images_per_second": "images/s"}
        return tuple(
            Measurement(name, value, units.get(name, "share"), self.n, "measured", device=self.device)
            for name, value in values.items()
        )


def evaluate_detector(
    predictor: Predictor, loader: EvalLoader, split: AnnotatedSplit, *, advance: Callable[[int], None]
) -> DetectionEvaluation:
    """Evaluates a detector; see ``paddle_tk.evaluate.task.evaluate``.

    Args:
        predictor: The model.
        loader: Prepared images of the split, in its order.
        split: What is annotated in them, and their sizes.
        advance: Called with the number of images done since the last call.
    """
    artifact = predictor.artifact
    metric = DetectionMetric(artifact.task.classes)
    count = DetectionCount(metric, split, artifact.preprocessing.to_dict(), artifact.postprocessing)
    began = time.perf_counter()
    for images, _ in loader:
        outputs = predictor.predict(images.numpy())
        require_finite(outputs, artifact)
        for boxes, scores in zip(*outputs, strict=True):
            count.add(boxes, scores)
        advance(len(outputs[0]))
    seconds = time.perf_counter() - began
    return DetectionEvaluation(metric.result(), metric, artifact.task.classes, seconds, predictor.device)
