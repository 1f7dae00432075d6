from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from paddle_tk.data.bundle import ArraySplit
from paddle_tk.pipelines.int8_figures import compare_on
from paddle_tk.runtime.base import Array
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

_SIDE = 16


@dataclass(frozen=True)
class _Answers:
    """A predictor with given outputs, one row for each image."""

    artifact: ModelArtifact
    rows: tuple[Array, ...]
    device: str = "cpu"
    engine: str = "onnxruntime"
    arithmetic: str = "fp32"

    def predict(self, batch: Array) -> tuple[Array, ...]:
        # The images are told apart by their first grey level.
        levels = np.rint(batch[:, 0, 0, 0] * 255).astype(int)
        return tuple(output[levels] for output in self.rows)


def _artifact(kind: str) -> ModelArtifact:
    after = {"score_threshold": 0.001, "nms_iou": None, "max_detections": 10} if kind == "detection" else {}
    task = Task(kind, ("a", "b"), "map50_95" if kind == "detection" else "top1")  # type: ignore[arg-type]
    plain = Preprocessing((_SIDE, _SIDE), mean=(0, 0, 0), std=(1, 1, 1))
    return ModelArtifact("m", "onnx", "fp32", task, (InputSpec("image", (1, 3, _SIDE, _SIDE)),), (), plain, {},
                         postprocessing=after)  # fmt: skip


def _split(n: int) -> ArraySplit:
    pictures = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, _SIDE, _SIDE, 3)).copy()
    return ArraySplit(pictures, np.asarray([i % 2 for i in range(n)]), [str(i) for i in range(n)])


def _classifier(*rows: tuple[float, float]) -> _Answers:
    return _Answers(_artifact("classification"), (np.asarray(rows, np.float32),))


def test_classifiers_are_compared_by_accuracy_and_by_equal_answers() -> None:
    right = _classifier((2, 1), (1, 2), (2, 1), (1, 2))
    int8 = _classifier((2, 1), (2, 1), (1, 2), (1, 2))

    found = compare_on(right, int8, _split(4), labelled=True)

    assert (found.fp32["top1"], found.int8["top1"]) == (1.0, 0.5)
    assert (found.agreement, found.agreement_n, found.n) == (0.5, 4, 4)
    assert found.cosine == pytest.approx(4 / 5)


def test_accuracy_is_left_out_when_there_are_no_labels() -> None:
    same = _classifier((2, 1), (1, 2))
    done: list[int] = []

    found = compare_on(same, same, _split(2), labelled=False, advance=done.append)

    assert (found.fp32, found.int8, found.agreement) == ({}, {}, 1.0)
    assert sum(done) == 4


def _detector(box: tuple[float, float, float, float], scores: tuple[float, float]) -> _Answers:
    boxes = np.asarray([[box]], np.float32)
    return _Answers(_artifact("detection"), (boxes, np.asarray([[scores]], np.float32)))


@pytest.mark.parametrize(
    ("box", "scores", "agreement"),
    [
        ((2, 2, 10, 10), (0.9, 0.0), 1.0),
        ((3, 2, 10, 10), (0.2, 0.0), 1.0),  # a little off and less sure
        ((2, 2, 10, 10), (0.1, 0.0), 0.0),  # not told from noise
        ((2, 2, 10, 10), (0.0, 0.9), 0.0),  # another class
        ((8, 8, 15, 15), (0.9, 0.0), 0.0),  # elsewhere
    ],
)
def test_detection_is_shared_when_class_and_place_are_the_same(
    box: tuple[float, float, float, float], scores: tuple[float, float], agreement: float
) -> None:
    found = compare_on(_detector((2, 2, 10, 10), (0.9, 0.0)), _detector(box, scores), _split(1), labelled=False)

    assert (found.agreement, found.agreement_n) == (agreement, 1)
