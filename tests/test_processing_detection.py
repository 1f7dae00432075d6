from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk import processing
from paddle_tk.processing import MAX_CANDIDATES, decode_detections, nms, resize_geometry, resize_image

# Small whole numbers: many equal scores, equal boxes, boxes without area, overlaps of just the threshold.
COORDINATES = st.integers(0, 12)
BOXES = st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES), max_size=25)
THRESHOLDS = st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0])
SIDES = st.integers(1, 700)


def arrays(corners: list[tuple[int, int, int, int]], seed: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = np.array(corners, kind).reshape(-1, 4)
    boxes = np.concatenate([np.minimum(found[:, :2], found[:, 2:]), np.maximum(found[:, :2], found[:, 2:])], axis=1)
    return boxes, (rng.integers(0, 5, len(boxes)) / 4).astype(kind), rng.integers(0, 3, len(boxes))


def plain_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, class_ids: np.ndarray) -> list[int]:
    """Every box against every better one that stayed."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(class_ids[i] != class_ids[j] or iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    union = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - width * height
    return width * height / union if union > 0 else 0.0


@settings(deadline=None, max_examples=150)
@given(corners=BOXES, seed=st.integers(0, 1000), threshold=THRESHOLDS, kind=st.sampled_from(["float32", "float64"]))
def test_nms_keeps_what_a_plain_loop_keeps(
    corners: list[tuple[int, int, int, int]], seed: int, threshold: float, kind: str
) -> None:
    boxes, scores, class_ids = arrays(corners, seed, kind)
    by_class, together = nms(boxes, scores, threshold, class_ids), nms(boxes, scores, threshold)
    assert by_class.tolist() == plain_nms(boxes, scores, threshold, class_ids)
    assert together.tolist() == plain_nms(boxes, scores, threshold, np.zeros(len(boxes)))
    assert by_class.dtype == together.dtype == np.int64
    assert nms(boxes, scores, threshold, class_ids, limit=3).tolist() == by_class[:3].tolist()


def test_nms_returns_no_indices_when_there_are_no_boxes() -> None:
    kept = nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


def test_nms_raises_when_lengths_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected boxes \(N, 4\) with N scores"):
        nms(np.zeros((2, 4)), np.zeros(3), 0.5)
    with pytest.raises(ValueError, match="expected 2 class ids, got 1"):
        nms(np.zeros((2, 4)), np.zeros(2), 0.5, np.zeros(1))


def how(size: tuple[int, int] = (64, 64), resize: str = "letterbox") -> dict[str, Any]:
    return {"size": size, "resize": resize, "crop_ratio": 0.875}


def after(score_threshold: float = 0.5, nms_iou: float | None = 0.5, max_detections: int = 100) -> dict[str, Any]:
    return {"score_threshold": score_threshold, "nms_iou": nms_iou, "max_detections": max_detections}


@settings(deadline=None, max_examples=150)
@given(
    source=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    mode=st.sampled_from(["letterbox", "stretch"]),
    seed=st.integers(0, 1000),
)
def test_decoding_finds_a_box_of_the_image_again_when_the_image_was_resized(
    source: tuple[int, int], size: tuple[int, int], mode: str, seed: int
) -> None:
    height, width = source
    corners = np.random.default_rng(seed).random((2, 2)) * (width, height)
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    if (box[2:] - box[:2]).min() < 0.01:
        box = np.array([0, 0, width, height], float)
    scale_x, scale_y, left, top = resize_geometry(source, size, mode)
    moved = box * (scale_x, scale_y, scale_x, scale_y) + (left, top, left, top)
    found, _, _ = decode_detections(moved[None], np.ones((1, 1), np.float32), source, how(size, mode), after())
    np.testing.assert_allclose(found, box[None], atol=1e-3)


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
def test_decoding_points_at_the_pixels_that_were_lit_when_the_image_is_shrunk(mode: str) -> None:
    image = np.zeros((300, 200, 3), np.uint8)
    image[90:210, 40:120] = 255
    resized = resize_image(image, (100, 160), mode, pad_value=0)
    rows, columns = np.nonzero(resized[..., 0] > 127)
    lit = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    found, _, _ = decode_detections(lit, np.ones((1, 1), np.float32), (300, 200), how((100, 160), mode), after())
    np.testing.assert_allclose(found, [[40, 90, 120, 210]], atol=1.5)


def test_decoding_yields_every_class_of_a_box_that_reaches_the_threshold() -> None:
    boxes = np.array([[0, 0, 30, 30], [30, 30, 60, 60]], np.float32)
    scores = np.array([[0.5, 0.9, 0.1], [0.2, 0.4, 0.7]], np.float32)
    found, values, class_ids = decode_detections(boxes, scores, (64, 64), how(), after())
    assert found.tolist() == [boxes[0].tolist(), boxes[1].tolist(), boxes[0].tolist()]
    np.testing.assert_array_equal(values, np.array([0.9, 0.7, 0.5], np.float32))
    assert class_ids.tolist() == [1, 2, 0]
    assert (found.dtype, values.dtype, class_ids.dtype) == (np.float32, np.float32, np.int64)


def test_decoding_suppresses_within_a_class_only_and_not_at_all_when_nms_iou_is_none() -> None:
    boxes = np.array([[0, 0, 30, 30], [0, 0, 30, 29], [0, 0, 30, 30]], np.float32)
    scores = np.array([[0.9, 0], [0.8, 0], [0, 0.7]], np.float32)
    for nms_iou, expected in ((0.5, [0.9, 0.7]), (0.99, [0.9, 0.8, 0.7]), (None, [0.9, 0.8, 0.7])):
        _, values, _ = decode_detections(boxes, scores, (64, 64), how(), after(nms_iou=nms_iou))
        np.testing.assert_allclose(values, expected)


def test_decoding_clips_to_the_image_and_drops_what_lies_outside_or_is_no_number() -> None:
    boxes = np.array(
        [[-50, 20, 30, 500], [0, 0, 64, 16], [70, 20, 90, 40], [20, 30, 20, 40], [40, 30, 30, 40], [0, np.nan, 9, 9],
         [0, 0, np.inf, 50], [10, 20, 20, 30], [10, 20, 20, 30]], np.float32
    )  # fmt: skip
    scores = np.full((9, 1), 0.9, np.float32)
    scores[7:, 0] = np.nan, np.inf
    # A 64x32 image lies at rows 16 to 48 of the square: the second box is in the grey above it.
    found, _, _ = decode_detections(boxes, scores, (32, 64), how(), after(nms_iou=None))
    assert found.tolist() == [[0, 4, 30, 32]]


@pytest.mark.parametrize("nms_iou", [0.5, None])
def test_decoding_returns_the_best_in_order_of_index_when_scores_tie(nms_iou: float | None) -> None:
    n = MAX_CANDIDATES + 500
    starts = np.arange(n, dtype=np.float32)
    boxes = np.stack([starts, starts * 0, starts + 1, starts * 0 + 1], axis=1)
    scores = np.full((n, 2), 0.5, np.float32)
    scores[[700, 1200], 1] = 0.75
    pre = how((4, n), "stretch")
    found, values, class_ids = decode_detections(boxes, scores, (4, n), pre, after(nms_iou=nms_iou, max_detections=5))
    assert found[:, 0].tolist() == [700, 1200, 0, 0, 1]
    assert class_ids.tolist() == [1, 1, 0, 1, 0]
    assert values.tolist() == [0.75, 0.75, 0.5, 0.5, 0.5]
    many = decode_detections(boxes, scores, (4, n), pre, after(nms_iou=nms_iou, max_detections=2000))
    assert len(many[0]) == 2000
    again = decode_detections(boxes, scores, (4, n), pre, after(nms_iou=nms_iou, max_detections=2000))
    assert all((a == b).all() for a, b in zip(many, again, strict=True))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 5), limit=st.integers(1, 30))
def test_detections_of_a_class_never_overlap_more_than_nms_iou(seed: int, classes: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.random((40, 2, 2)) * 90 - 10
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    scores = rng.random((40, classes)).astype(np.float32)
    found, values, class_ids = decode_detections(boxes, scores, (50, 70), how(), after(0.3, 0.4, limit))
    assert len(found) == len(values) == len(class_ids) <= limit
    assert (np.diff(values) <= 0).all()
    assert (values >= 0.3).all()
    assert (found >= 0).all()
    assert (found <= (70, 50, 70, 50)).all()
    assert (found[:, :2] < found[:, 2:]).all()
    for i in range(len(found)):
        for j in range(i):
            assert class_ids[i] != class_ids[j] or iou(found[i], found[j]) <= 0.4 + 1e-9


@pytest.mark.parametrize("shape", [(0, 3), (5, 3)])
def test_decoding_has_the_right_types_and_shapes_when_nothing_is_found(shape: tuple[int, int]) -> None:
    outputs = np.zeros((shape[0], 4), np.float32), np.zeros(shape, np.float32)
    for nms_iou in (0.5, None):
        found, values, class_ids = decode_detections(*outputs, (50, 70), how(), after(nms_iou=nms_iou))
        assert (found.shape, values.shape, class_ids.shape) == ((0, 4), (0,), (0,))
        assert (found.dtype, values.dtype, class_ids.dtype) == (np.float32, np.float32, np.int64)


def test_decoding_raises_when_shapes_do_not_fit_or_nothing_may_be_returned() -> None:
    boxes, scores = np.zeros((2, 4)), np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"expected scores \(N, C\)"):
        decode_detections(boxes, np.zeros(2), (9, 9), how(), after())
    with pytest.raises(ValueError, match="with N scores"):
        decode_detections(boxes, np.zeros((3, 3)), (9, 9), how(), after())
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        decode_detections(boxes, scores, (9, 9), how(), after(max_detections=0))


def test_processing_keeps_to_the_syntax_of_python_3_6() -> None:
    text = Path(processing.__file__).read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 6))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            hints = [a.annotation for a in node.args.args + node.args.kwonlyargs] + [node.returns]
            # "X | Y" and "list[int]" cannot be evaluated there, so nothing but a plain name may stand unquoted.
            assert all(isinstance(hint, ast.Constant | ast.Name) for hint in hints), node.name
    roots = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    roots |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert roots - set(sys.stdlib_module_names) == {"cv2", "numpy"}
