"""Do two detectors return the same for the same images?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddle_tk.errors import CheckFailed
from paddle_tk.metrics.coco_evaluation import overlaps, xywh
from paddle_tk.processing import decode_detections
from paddle_tk.runtime.base import Array

_LARGEST = float(np.finfo(np.float32).max)
_SAME_IOU = 0.99  # two boxes of one class that overlap at least so far are one detection


@dataclass(frozen=True)
class BoxParity:
    """How far a candidate's boxes and scores are from the reference's, on the same inputs.

    Attributes:
        max_box_difference_px: Largest |candidate - reference| of any coordinate, in pixels of the input.
        input_side_px: The input's longer side.
        max_score_difference: Largest |candidate - reference| of any score that reaches the score threshold in one of
            them.
        detections: Detections of the reference, by its own post-processing.
        detection_agreement: Share of them of which the candidate has one of the same class with an IoU of at least
            0.99; 1 where there is none.
        min_iou: The smallest IoU of a detection of the reference with the candidate's nearest; 1 where there is none.
        n: Images compared.
        samples: Where the images come from.
        tolerance: The largest difference that passes: of a score, and of a coordinate as a share of the side.
    """

    max_box_difference_px: float
    input_side_px: int
    max_score_difference: float
    detections: int
    detection_agreement: float
    min_iou: float
    n: int
    samples: str
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether boxes and scores are within the tolerance and every detection is found again."""
        return (
            self.max_box_difference_px <= self.tolerance * self.input_side_px
            and self.max_score_difference <= self.tolerance
            and self.detection_agreement == 1.0
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {"passed": self.passed, **asdict(self), "origin": "measured"}

    def line(self) -> str:
        """Returns the figures in one line."""
        return (
            f"|difference| of boxes up to {self.max_box_difference_px:.2e} px, scores {self.max_score_difference:.2e}; "
            f"{self.detection_agreement:.4f} of {self.detections} detections the same, IoU >= {self.min_iou:.4f} "
            f"(n={self.n}, {self.samples})"
        )

    def require(self) -> None:
        """Refuses a candidate that differs.

        Raises:
            CheckFailed: It does not pass.
        """
        if not self.passed:
            raise CheckFailed(
                f"the exported model does not compute what the Paddle model computes: {self.line()}; allowed: "
                f"{self.tolerance:g} for scores, {self.tolerance * self.input_side_px:g} px for boxes, "
                f"IoU >= {_SAME_IOU} for every detection",
                "try another --opset; nothing was written",
            )


def measure(
    reference: tuple[Array, ...],
    candidate: tuple[Array, ...],
    *,
    side: int,
    postprocessing: Mapping[str, Any],
    samples: str,
    tolerance: float,
) -> BoxParity:
    """Compares (boxes (n, N, 4), scores (n, N, C)) of two models; a candidate that is not finite agrees in nothing."""
    if [r.shape for r in reference] != [c.shape for c in candidate]:
        shapes = [(r.shape, c.shape) for r, c in zip(reference, candidate, strict=False)]
        raise ValueError(f"outputs of one shape expected, got {shapes}")
    n = len(reference[0])
    if not all(np.isfinite(output).all() for output in candidate):
        return BoxParity(_LARGEST, side, _LARGEST, 0, 0.0, 0.0, n, samples, tolerance)
    boxes = float(np.abs(reference[0].astype(np.float64) - candidate[0]).max())
    # PicoDet's scores are square roots, which make much of rounding next to zero, where no detection is kept.
    kept = np.maximum(reference[1], candidate[1]) >= float(postprocessing["score_threshold"])
    scores = float(np.abs(reference[1].astype(np.float64) - candidate[1]).max(initial=0.0, where=kept))
    near = [
        _nearest(
            _detections(reference[0][row], reference[1][row], side, postprocessing),
            np.clip(candidate[0][row], 0, side),
            candidate[1][row] >= float(postprocessing["score_threshold"]) - tolerance,
        )
        for row in range(n)
    ]
    ious = np.concatenate(near) if near else np.zeros(0)
    return BoxParity(
        max_box_difference_px=boxes,
        input_side_px=side,
        max_score_difference=scores,
        detections=len(ious),
        detection_agreement=float((ious >= _SAME_IOU).mean()) if len(ious) else 1.0,
        min_iou=float(ious.min(initial=1.0)),
        n=n,
        samples=samples,
        tolerance=tolerance,
    )


_Detections = tuple[Array, Array, Array]


def _detections(boxes: Array, scores: Array, side: int, postprocessing: Mapping[str, Any]) -> _Detections:
    plain = {"size": (side, side), "resize": "stretch", "crop_ratio": 1.0, "pad_value": 0}
    found: _Detections = decode_detections(boxes, scores, (side, side), plain, dict(postprocessing))
    return found


def _nearest(kept: _Detections, boxes: Array, reaching: Array) -> Array:
    """Returns the IoU of each detection with the candidate's nearest box of its class, suppressed or not.

    Suppression is left out on the candidate's side: of two boxes with scores equal but for rounding it may keep the
    other one.
    """
    rows = np.flatnonzero(reaching.any(axis=1))
    if not len(rows) or not len(kept[0]):
        return np.zeros(len(kept[0]))
    found = overlaps(xywh(kept[0]), xywh(boxes[rows]), np.zeros(len(rows), np.bool_))
    return np.asarray(np.where(reaching[rows][:, kept[2]].T, found, 0.0).max(axis=1))
