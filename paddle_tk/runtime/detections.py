"""A detector's outputs held against what is annotated, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paddle_tk.data.boxes import AnnotatedSplit
from paddle_tk.metrics.detection import DetectionMetric
from paddle_tk.processing import decode_detections
from paddle_tk.runtime.base import Array


class Found(NamedTuple):
    """Detections in one image, best first: boxes float32 (K, 4) in its pixels, scores (K,), class ids (K,)."""

    boxes: Array
    scores: Array
    class_ids: Array


class DetectionCount:
    """Post-processes the outputs for a split's images, in the split's order, and counts them in a metric.

    Args:
        metric: Gets the detections; it is not reset.
        split: The images.
        preprocessing: As the manifest holds it.
        postprocessing: As the manifest holds it.
        positions: Numbers in the split of the images that come, in their order; None: all of them.
    """

    def __init__(
        self,
        metric: DetectionMetric,
        split: AnnotatedSplit,
        preprocessing: Mapping[str, Any],
        postprocessing: Mapping[str, Any],
        positions: Sequence[int] | Array | None = None,
    ) -> None:
        self._metric, self._split = metric, split
        self._before, self._after = dict(preprocessing), dict(postprocessing)
        self._positions = positions
        self.n = 0

    def add(self, boxes: Array, scores: Array) -> Found:
        """Counts the next image.

        Args:
            boxes: (N, 4), x1 y1 x2 y2 in pixels of the input.
            scores: (N, C), 0..1.

        Returns:
            Its detections.
        """
        index = self.n if self._positions is None else int(self._positions[self.n])
        truth, size = self._split.boxes(index), self._split.sizes[index]
        self.n += 1
        found = Found(*decode_detections(boxes, scores, size, self._before, self._after))
        self._metric.add(
            true_boxes=truth.xyxy, true_classes=truth.class_ids, crowd=truth.crowd, difficult=truth.difficult,
            areas=truth.areas, boxes=found.boxes, scores=found.scores, class_ids=found.class_ids,
        )  # fmt: skip
        return found
