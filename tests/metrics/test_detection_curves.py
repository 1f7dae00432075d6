from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.detection_sets import SQUARE, measured, one_image, reference, synthetic


def test_confusion_counts_hits_mixed_up_classes_misses_and_false_detections() -> None:
    boxes = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [40.0, 0.0, 50.0, 10.0]]
    found = [boxes[0], boxes[1], [80.0, 0.0, 90.0, 10.0], boxes[2]]
    image = one_image(boxes, found, [0.9, 0.8, 0.7, 0.1], classes=[0, 1, 1, 0], true_classes=[0, 0, 1])
    counts = measured([image], 2).confusion()
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert measured([image], 2).confusion(score=0.1).tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert measured([one_image([], [], [])], 2).confusion().sum() == 0
    with pytest.raises(ValueError, match="iou must be above 0"):
        measured([image], 2).confusion(iou=0.0)


def test_confusion_prefers_the_right_class_when_another_lies_closer() -> None:
    image = one_image([SQUARE], [SQUARE, [0, 0, 100, 90]], [0.9, 0.8], classes=[1, 0])
    assert measured([image], 2).confusion().tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("score", [0.0, 0.5])
def test_confusion_has_cocos_true_positives_on_the_diagonal(score: float) -> None:
    images = synthetic(7, 40, 4, 60, difficult=0.2)
    kept = [{k: v[i["scores"] >= score] if k in ("boxes", "scores", "class_ids") else v for k, v in i.items()}
            for i in images]  # fmt: skip
    metric = measured(images, 4)
    recall = reference(kept, 4)[1]["recall"][0, :, 0, 2]
    counts = metric.confusion(score=score)
    required = counts[:3].sum(axis=1)
    assert required.tolist() == [metric.result().per_class[f"c{i}"]["n"] for i in range(3)]
    np.testing.assert_allclose(np.diag(counts)[:3], recall[:3] * required, atol=1e-9)


def test_best_threshold_leaves_out_the_wrong_detections_when_they_score_lower() -> None:
    boxes = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(10)]
    elsewhere = [[20.0 * i, 50.0, 20.0 * i + 10, 60.0] for i in range(40)]
    scores = [*np.linspace(0.9, 0.6, 10).tolist(), *np.linspace(0.5, 0.1, 40).tolist()]
    found = measured([one_image(boxes, boxes + elsewhere, scores)], 1).best_threshold()
    assert found == (pytest.approx(0.6), pytest.approx(1.0))


def test_best_threshold_is_the_best_of_all_scores_when_tried_one_by_one() -> None:
    metric = measured(synthetic(9, 30, 4, 40, difficult=0.2), 4)
    tried = {}
    for threshold in np.arange(12, dtype=np.float32) / np.float32(11):
        counts = metric.confusion(score=float(threshold))[:, :3]  # the fourth class has no truth
        required = metric.confusion(score=float(threshold)).sum(axis=1)[:3]
        tried[float(threshold)] = float((2 * np.diag(counts) / (counts.sum(axis=0) + required)).mean())
    found = metric.best_threshold()
    assert found is not None
    assert found[1] == pytest.approx(max(tried.values()))
    assert tried[found[0]] == pytest.approx(found[1])
    assert 0 < found[0] < 1


def test_best_threshold_is_none_when_nothing_right_was_found() -> None:
    assert measured([one_image([], [SQUARE], [0.9])], 1).best_threshold() is None
    assert measured([one_image([SQUARE], [], [])], 1).best_threshold() is None
    with pytest.raises(ValueError, match="iou must be above 0"):
        measured([one_image([SQUARE], [], [])], 1).best_threshold(iou=1.5)
    with pytest.raises(ValueError, match="no images"):
        measured([], 1).best_threshold()


def test_curves_fall_and_have_the_mean_of_the_known_classes() -> None:
    curves = measured(synthetic(8, 40, 4, 40), 4).precision_recall()
    assert curves.recall.shape == (101,)
    assert np.isnan(curves.precision[3]).all()  # the class without truth
    assert np.isnan(curves.scores[3]).all()
    assert (np.diff(curves.precision[:3], axis=1) <= 0).all()
    assert (np.diff(curves.scores[:3], axis=1) <= 0).all()
    np.testing.assert_allclose(curves.mean, curves.precision[:3].mean(axis=0))
