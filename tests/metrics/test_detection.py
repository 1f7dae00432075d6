from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask

import paddle_tk.metrics.coco_evaluation as coco_evaluation
import paddle_tk.metrics.detection as detection
import paddle_tk.metrics.detection_curves as detection_curves
from paddle_tk.metrics.detection import DetectionMetric
from tests.metrics.detection_sets import SQUARE, STATS, Image, measured, one_image, reference, synthetic


@pytest.mark.parametrize(
    ("seed", "n", "classes", "detections", "difficult"),
    [(0, 60, 5, 30, 0.0), (1, 60, 5, 30, 0.3), (2, 12, 2, 400, 0.1), (3, 40, 30, 12, 0.2), (4, 1, 3, 20, 0.0)],
    ids=["crowds and ties", "difficult ones", "over 100 detections", "rare classes", "one image"],
)
def test_figures_equal_pycocotools_when_sets_are_synthetic(
    seed: int, n: int, classes: int, detections: int, difficult: float
) -> None:
    images = synthetic(seed, n, classes, detections, difficult=difficult)
    stats, curves = reference(images, classes)
    precision = curves["precision"]
    figures = measured(images, classes).result()
    for name, expected in stats.items():
        assert getattr(figures, name) == (None if expected is None else pytest.approx(expected, abs=1e-9)), name
    assert figures.map50 is not None
    assert 0 < figures.map50 < 1
    for number in range(classes):
        of_class = precision[:, :, number, 0, 2]
        entry = figures.per_class[f"c{number}"]
        if (of_class == -1).all():
            assert entry["ap50_95"] is None
            assert entry["ap50"] is None
            continue
        assert entry["ap50_95"] == pytest.approx(of_class.mean(), abs=1e-9)
        assert entry["ap50"] == pytest.approx(of_class[0].mean(), abs=1e-9)


def test_every_point_of_every_curve_equals_pycocotools_when_scores_tie() -> None:
    images = synthetic(5, 50, 4, 40, difficult=0.2)
    precision = reference(images, 4)[1]["precision"]
    curves = measured(images, 4).precision_recall()
    expected = np.where(precision == -1, np.nan, precision)[0, :, :, 0, 2].T
    np.testing.assert_allclose(curves.precision, expected, atol=1e-12)


def test_more_than_100_detections_of_a_class_are_cut_as_in_pycocotools() -> None:
    rng = np.random.default_rng(0)
    true = [[10.0 * i, 0.0, 10.0 * i + 9, 9.0] for i in range(150)]
    order = rng.permutation(150)
    image = one_image(true, [true[i] for i in order], np.round(rng.random(150), 1).tolist())
    figures = measured([image], 1).result()
    assert figures.ar100 == pytest.approx(100 / 150)
    assert figures.ar10 == pytest.approx(10 / 150)
    assert figures.to_dict() | {"per_class": 0} == (
        measured([image], 1).result().to_dict() | {**reference([image], 1)[0], "per_class": 0}
    )


def test_earlier_images_and_detections_come_first_when_scores_tie() -> None:
    right, wrong = one_image([SQUARE], [SQUARE], [0.5]), one_image([], [SQUARE], [0.5])
    assert measured([right, wrong], 1).result().map50 == 1.0
    assert measured([wrong, right], 1).result().map50 == 0.5
    elsewhere = [200.0, 200.0, 300.0, 300.0]
    first = one_image([SQUARE], [SQUARE, elsewhere], [0.5, 0.5])
    second = one_image([SQUARE], [elsewhere, SQUARE], [0.5, 0.5])
    assert measured([first], 1).result().map50 == 1.0
    assert measured([second], 1).result().map50 == 0.5
    assert measured([first], 1).result().ar1 == 1.0
    assert measured([second], 1).result().ar1 == 0.0


def test_float32_detections_give_the_figures_of_the_same_numbers_in_float64() -> None:
    images = synthetic(6, 30, 3, 30)
    for image in images:  # no longer whole numbers, so float32 arithmetic would round
        image["boxes"] = (image["boxes"] * np.float32(1.0001)).astype(np.float32)
    wide = [{**i, "boxes": i["boxes"].astype(np.float64), "scores": i["scores"].astype(np.float64)} for i in images]
    assert measured(images, 3).result() == measured(wide, 3).result()


def test_the_given_area_decides_the_size_when_it_is_not_the_boxs() -> None:
    image = one_image([SQUARE], [SQUARE], [0.9], areas=[32.0**2])
    figures = measured([image], 1).result()
    assert (figures.map_small, figures.map_medium, figures.map_large) == (1.0, 1.0, None)  # on the border: in both
    assert (figures.ar_small, figures.ar_medium, figures.ar_large) == (1.0, 1.0, None)
    beyond = measured([one_image([SQUARE], [SQUARE], [0.9], areas=[32.0**2 + 1e-6])], 1).result()
    assert (beyond.map_small, beyond.map_medium) == (None, 1.0)


def test_an_overlap_of_just_the_threshold_matches() -> None:
    half = measured([one_image([SQUARE], [[0.0, 0.0, 100.0, 50.0]], [0.9])], 1).result()
    assert half.map50 == 1.0
    less = measured([one_image([SQUARE], [[0.0, 0.0, 100.0, 49.9]], [0.9])], 1).result()
    assert less.map50 == 0.0


SMALL = [0.0, 0.0, 100.0, 45.0]  # inside the square, overlap .45


@pytest.mark.parametrize(
    ("flags", "found", "excused"),
    [
        ({"crowd": [True, False]}, [SQUARE, SQUARE, SMALL], True),
        ({"difficult": [True, False]}, [SQUARE, SQUARE], True),
        ({"difficult": [True, False]}, [SMALL], False),
    ],
    ids=["crowd", "difficult", "part of a difficult one"],
)
def test_detections_on_ignored_objects_are_not_wrong_and_the_objects_not_missed(
    flags: dict[str, Any], found: list[list[float]], excused: bool
) -> None:
    other = [200.0, 200.0, 300.0, 300.0]
    # The detections in question score higher: if they were wrong, they would halve the precision.
    image = one_image([SQUARE, other], [*found, other], [*[0.9] * len(found), 0.5], **flags)
    metric = measured([image], 1)
    figures = metric.result()
    assert figures.map50 == (1.0 if excused else pytest.approx(0.5))
    assert figures.n_boxes == 1
    assert figures.per_class["c0"]["n"] == 1
    assert metric.confusion().tolist() == [[1, 0], [0 if excused else 1, 0]]


def test_absent_figures_are_none_and_json_has_plain_numbers_when_there_is_no_truth() -> None:
    metric = DetectionMetric(["a", "b"])
    metric.add(**one_image([], [SQUARE], [0.9]))
    figures = metric.result()
    assert figures.map50_95 is None
    assert json.loads(json.dumps(figures.to_dict())) == {
        **dict.fromkeys(STATS),
        "per_class": {name: {"ap50_95": None, "ap50": None, "n": 0} for name in "ab"},
        "n": 1,
        "n_boxes": 0,
    }
    assert np.isnan(metric.precision_recall().mean).all()


def test_figures_are_zero_when_nothing_was_found() -> None:
    metric = measured([one_image([SQUARE], [], [])], 2)
    figures = metric.result()
    assert (figures.map50_95, figures.ar100, figures.map_large) == (0.0, 0.0, 0.0)
    assert figures.map_small is None
    assert figures.per_class["c0"] == {"ap50_95": 0.0, "ap50": 0.0, "n": 1}


def test_result_follows_when_more_images_are_added_or_all_forgotten() -> None:
    metric = measured([one_image([SQUARE], [SQUARE], [0.9])], 1)
    assert metric.result().map50 == 1.0
    metric.add(**one_image([SQUARE], [], []))
    assert metric.result().map50 == pytest.approx(51 / 101)
    assert metric.result().n == 2
    metric.reset()
    assert metric.n == 0
    with pytest.raises(ValueError, match="no images were added"):
        metric.result()


def test_what_was_added_stays_when_the_callers_arrays_change() -> None:
    image = one_image([SQUARE], [SQUARE], [0.9])
    metric = measured([image], 1)
    image["boxes"][:] = 0
    image["true_boxes"][:] = 7
    assert metric.result().map50 == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros(2)}, "detections: 1 class ids"),
        ({"boxes": np.zeros((1, 5))}, "detections: 1 class ids"),
        ({"areas": np.zeros(0)}, "truth: 1 class ids"),
        ({"class_ids": np.array([2])}, r"detected classes must be in 0\.\.1, got \[2\]"),
        ({"true_classes": np.array([-1])}, r"true classes must be in 0\.\.1"),
        ({"scores": np.array([np.nan])}, "a score of image 0 is not finite"),
        ({"boxes": np.array([[0, 0, np.inf, 1]])}, "a box of image 0 is not finite"),
    ],
)
def test_add_refuses_what_does_not_fit(change: Image, message: str) -> None:
    metric = DetectionMetric(["a", "b"])
    with pytest.raises(ValueError, match=message):
        metric.add(**{**one_image([SQUARE], [SQUARE], [0.9]), **change})
    assert metric.n == 0


@pytest.mark.parametrize("classes", [[], ["a", "a"]])
def test_metric_refuses_class_names_that_say_nothing(classes: list[str]) -> None:
    with pytest.raises(ValueError, match="different class names"):
        DetectionMetric(classes)


def test_overlaps_are_those_of_pycocotools_when_boxes_have_odd_numbers() -> None:
    rng = np.random.default_rng(0)
    found, true = (coco_evaluation.xywh(np.cumsum(rng.random((40, 4)) * 50, axis=1)) for _ in range(2))
    found[0], true[0] = (3, 3, 0, 5), (1, 1, 0, 0)  # without area
    crowd = rng.random(40) < 0.3
    expected = mask.iou(found, true, crowd.astype(np.uint8).tolist())
    np.testing.assert_allclose(coco_evaluation.overlaps(found, true, crowd), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("module", [detection, detection_curves, coco_evaluation])
def test_metrics_import_no_framework_and_no_data(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    own = {"paddle_tk.metrics.coco_evaluation", "paddle_tk.metrics.detection_curves"}
    assert imported <= own | {"__future__", "collections.abc", "dataclasses", "typing", "numpy", "faster_coco_eval"}
