from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.export.box_parity import BoxParity, measure

AFTER = {"score_threshold": 0.1, "nms_iou": None, "max_detections": 10}


def _outputs() -> tuple[np.ndarray, np.ndarray]:
    boxes = np.array([[[10, 10, 30, 30], [40, 40, 60, 50]]], np.float32)
    scores = np.array([[[0.9, 0.0], [0.0, 0.5]]], np.float32)
    return boxes, scores


def _measured(boxes: np.ndarray, scores: np.ndarray, tolerance: float = 1e-4) -> BoxParity:
    return measure(_outputs(), (boxes, scores), side=100, postprocessing=AFTER, samples="made up", tolerance=tolerance)


def test_measure_passes_when_both_are_equal() -> None:
    found = _measured(*_outputs())
    found.require()
    assert (found.detections, found.detection_agreement, found.max_box_difference_px) == (2, 1.0, 0.0)


def test_measure_judges_boxes_by_the_inputs_side_and_scores_as_they_are() -> None:
    boxes, scores = _outputs()
    assert _measured(boxes + 0.005, scores).passed
    assert not _measured(boxes + 0.05, scores).passed
    assert not _measured(boxes, scores + 2e-4).passed
    with pytest.raises(CheckFailed, match=r"allowed: 0\.0001 for scores, 0\.01 px for boxes"):
        _measured(boxes + 0.05, scores).require()


def test_measure_counts_detections_that_moved_away() -> None:
    boxes, scores = _outputs()
    boxes[0, 1] += 5
    assert _measured(boxes, scores).detection_agreement == 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_measure_fails_when_the_candidate_is_not_finite(value: float) -> None:
    boxes, scores = _outputs()
    scores[0, 0, 0] = value
    assert not _measured(boxes, scores, tolerance=1.0).passed


def test_measure_refuses_when_shapes_differ() -> None:
    boxes, scores = _outputs()
    with pytest.raises(ValueError, match="one shape"):
        _measured(boxes[:, :1], scores[:, :1])
