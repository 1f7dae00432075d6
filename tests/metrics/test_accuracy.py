import ast
import json
from pathlib import Path

import numpy as np
import pytest

import paddle_tk.metrics.accuracy as module
from paddle_tk.metrics.accuracy import TopK, confusion_matrix, macro_recall


def sorted_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((order == labels[:, None]).any(axis=1).mean())


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "no ties"])
def test_topk_equals_a_stable_sort(levels: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.integers(0, levels, size=(500, 12)).astype("float32")
    labels = rng.integers(0, 12, size=500)
    metric = TopK((1, 3, 5))
    for start in range(0, 500, 64):
        metric.update(logits[start : start + 64], labels[start : start + 64, None])
    assert metric.n == 500
    assert metric.result() == {f"top{k}": sorted_accuracy(logits, labels, k) for k in (1, 3, 5)}


@pytest.mark.parametrize(("classes", "keys"), [(2, {"top1"}), (5, {"top1"}), (6, {"top1", "top5"})])
def test_top5_is_left_out_when_there_are_at_most_5_classes(classes: int, keys: set[str]) -> None:
    metric = TopK()
    metric.update(np.eye(classes, dtype="float32"), np.arange(classes))
    assert set(metric.result()) == keys
    assert metric.result()["top1"] == 1.0


def test_constant_logits_score_only_the_lowest_ids() -> None:
    metric = TopK()
    metric.update(np.zeros((10, 10), "float32"), np.arange(10))
    assert metric.result() == {"top1": 0.1, "top5": 0.5}


def test_nan_rows_count_as_wrong() -> None:
    logits = np.eye(6, dtype="float32")
    logits[0, 3] = np.nan  # a NaN beside the true class
    logits[1, 1] = np.nan  # a NaN in the true class
    metric = TopK()
    metric.update(logits, np.arange(6))
    assert metric.result() == {"top1": 4 / 6, "top5": 4 / 6}


def test_infinite_logits_are_ranked() -> None:
    metric = TopK((1,))
    metric.update(np.array([[np.inf, 0.0], [-np.inf, 0.0]]), np.array([0, 1]))
    assert metric.result() == {"top1": 1.0}


def test_state_survives_json_and_continues() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(40, 8)), rng.integers(0, 8, 40)
    whole, first, second = TopK(), TopK(), TopK()
    whole.update(logits, labels)
    first.update(logits[:15], labels[:15])
    second.load(json.loads(json.dumps(first.state())))
    second.update(logits[15:], labels[15:])
    assert second.result() == whole.result()
    assert second.n == 40
    second.reset()
    assert second.n == 0
    with pytest.raises(ValueError, match="no samples"):
        second.result()
    with pytest.raises(ValueError, match="expected"):
        TopK((1,)).load(first.state())


def test_update_refuses_what_does_not_fit() -> None:
    metric = TopK()
    with pytest.raises(ValueError, match="expected, got"):
        metric.update(np.zeros((3, 4)), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"0\.\.3"):
        metric.update(np.zeros((1, 4)), np.array([4]))
    metric.update(np.zeros((1, 4)), np.array([0]))
    with pytest.raises(ValueError, match="after batches of 4"):
        metric.update(np.zeros((1, 5)), np.array([0]))
    with pytest.raises(ValueError, match="ks"):
        TopK(())


def test_confusion_matrix_counts_true_rows_and_predicted_columns() -> None:
    counts = confusion_matrix(np.array([1, 1, 2, 0]), np.array([0, 1, 2, 2]), 4)
    expected = np.zeros((4, 4), np.int64)
    expected[0, 1] = expected[1, 1] = expected[2, 2] = expected[2, 0] = 1
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64
    assert confusion_matrix(np.array([]), np.array([]), 2).sum() == 0


def test_confusion_matrix_refuses_ids_out_of_range() -> None:
    # Unchecked, a prediction of 3 for class 0 would be filed as (1, 0).
    with pytest.raises(ValueError, match=r"predictions must be in 0\.\.2, got 3\.\.3"):
        confusion_matrix(np.array([3]), np.array([0]), 3)
    with pytest.raises(ValueError, match="2 predictions for 1 labels"):
        confusion_matrix(np.array([0, 1]), np.array([0]), 3)


def test_metrics_import_no_framework() -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"__future__", "collections.abc", "typing", "numpy"}


def test_macro_recall_counts_every_class_the_same() -> None:
    assert macro_recall(np.array([[90, 10], [1, 1]])) == pytest.approx((0.9 + 0.5) / 2)
    assert macro_recall(np.array([[3, 1, 0], [0, 0, 0], [0, 2, 0]])) == pytest.approx((0.75 + 0.0) / 2)
    with pytest.raises(ValueError, match="no samples"):
        macro_recall(np.zeros((2, 2), np.int64))
