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
    assert found.min_iou == 1.0


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
    found = _measured(boxes, scores, tolerance=1.0)
    assert found.detection_agreement == 0.5
    assert found.min_iou == pytest.approx(15 * 5 / (2 * 20 * 10 - 15 * 5))
    with pytest.raises(CheckFailed, match=r"IoU >= 0\.99 for every detection"):
        found.require()


def test_measure_misses_a_detection_when_its_class_is_another() -> None:
    boxes, scores = _outputs()
    assert _measured(boxes, scores[..., ::-1].copy()).detection_agreement == 0.0


def test_measure_finds_a_detection_when_scores_are_equal_but_for_rounding() -> None:
    boxes = np.array([[[10, 10, 30, 30], [10, 10, 30, 28]]], np.float32)
    scores = np.array([[[0.9], [0.9]]], np.float32)
    other = scores + np.array([[[0], [1e-6]]], np.float32)
    found = measure(
        (boxes, scores), (boxes, other), side=100, postprocessing={**AFTER, "nms_iou": 0.5}, samples="", tolerance=1e-4
    )
    assert (found.detections, found.detection_agreement, found.passed) == (1, 1.0, True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_measure_fails_when_the_candidate_is_not_finite(value: float) -> None:
    boxes, scores = _outputs()
    scores[0, 0, 0] = value
    assert not _measured(boxes, scores, tolerance=1.0).passed


def test_measure_refuses_when_shapes_differ() -> None:
    boxes, scores = _outputs()
    with pytest.raises(ValueError, match="one shape"):
        _measured(boxes[:, :1], scores[:, :1])
