"""A float model and its INT8 form on the same images: accuracy of both, and how often they say the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.evaluate.task import evaluate
from paddle_tk.metrics.coco_evaluation import overlaps, xywh
from paddle_tk.processing import decode_detections
from paddle_tk.runtime.base import Array, Predictor
from paddle_tk.types import ModelArtifact

SEEN_SCORE = 0.3  # a float model's detection that counts for the agreement
_FOUND_SCORE = 0.15  # the INT8 model's score may be lower, but it must still be told from noise
_FOUND_IOU = 0.5
_BATCH = 32


@dataclass(frozen=True)
class PairFigures:
    """What two models do on the same images.

    Attributes:
        fp32: Figures of the float model, by name; empty where the images have no labels.
        int8: Those of the INT8 model.
        n: Images.
        agreement: Classifier: share of images with the same top-1. Detector: share of the float model's detections
            with a score of at least 0.3 for which the INT8 model has one of the same class, with an IoU of at least
            0.5 and a score of at least 0.15.
        agreement_n: Images, or detections, that the share is of.
        cosine: Of the outputs, the smallest of any image: logits, or a detector's scores.
    """

    fp32: dict[str, float]
    int8: dict[str, float]
    n: int
    agreement: float
    agreement_n: int
    cosine: float

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "fp32": self.fp32, "int8": self.int8, "n": self.n, "agreement": self.agreement,
            "agreement_n": self.agreement_n, "min_cosine": self.cosine, "origin": "measured",
        }  # fmt: skip


class Recorder:
    """A predictor that keeps what the agreement needs of another one's outputs.

    Args:
        predictor: Does the work.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.seen: list[Any] = []
        self.outputs: list[Array] = []  # logits, or the largest score of each place of a detector

    @property
    def artifact(self) -> ModelArtifact:
        """The predictor's."""
        return self._predictor.artifact

    @property
    def device(self) -> str:
        """The predictor's."""
        return self._predictor.device

    @property
    def engine(self) -> str:
        """The predictor's."""
        return self._predictor.engine

    @property
    def arithmetic(self) -> str:
        """The predictor's."""
        return self._predictor.arithmetic

    @property
    def reentrant(self) -> bool:
        """Its outputs are kept in their order, so one thread calls it."""
        return False

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Predicts and keeps; see ``Predictor``."""
        found = self._predictor.predict(batch)
        for row in range(len(batch)):
            if self.artifact.task.kind == "classification":
                self.seen.append(int(found[0][row].argmax()))
                self.outputs.append(found[0][row].astype(np.float32))
            else:
                self.seen.append(_detections(self.artifact, found[0][row], found[1][row]))
                self.outputs.append(found[1][row].max(axis=1))
        return found


def compare_on(
    fp32: Predictor,
    int8: Predictor,
    split: ImageSplit,
    *,
    labelled: bool,
    advance: Callable[[int], None] = lambda n: None,
) -> PairFigures:
    """Runs both models on a split.

    Args:
        fp32: The float model.
        int8: Its INT8 form.
        split: Images; with labels in the models' classes where ``labelled``.
        labelled: Whether accuracy can be measured.
        advance: Called with the number of images done since the last call, twice for each image.
    """
    figures: list[dict[str, float]] = []
    recorders = [Recorder(fp32), Recorder(int8)]
    for recorder in recorders:
        if labelled:
            figures.append(dict(evaluate(recorder, split, batch_size=_BATCH, advance=advance).figures))
        else:
            figures.append({})
            _run(recorder, split, advance)
    shared, total = _agreement(*recorders)
    return PairFigures(figures[0], figures[1], len(split), shared, total, _cosine(*recorders))


def _run(recorder: Recorder, split: ImageSplit, advance: Callable[[int], None]) -> None:
    from paddle_tk.data.transforms import EvalTransform

    transform = EvalTransform(recorder.artifact.preprocessing)
    for start in range(0, len(split), _BATCH):
        rows = range(start, min(start + _BATCH, len(split)))
        recorder.predict(np.stack([transform(split.image(row)) for row in rows]))
        advance(len(rows))


_Detections = tuple[Array, Array, Array]


def _detections(artifact: ModelArtifact, boxes: Array, scores: Array) -> _Detections:
    size = artifact.preprocessing.size
    plain = {"size": size, "resize": "stretch", "crop_ratio": 1.0, "pad_value": 0}
    found: _Detections = decode_detections(boxes, scores, size, plain, dict(artifact.postprocessing))
    return found


def _agreement(fp32: Recorder, int8: Recorder) -> tuple[float, int]:
    if fp32.artifact.task.kind == "classification":
        same = [ours == theirs for ours, theirs in zip(fp32.seen, int8.seen, strict=True)]
        return float(np.mean(same)), len(same)
    shared, total = 0, 0
    for ours, theirs in zip(fp32.seen, int8.seen, strict=True):
        sure = ours[1] >= SEEN_SCORE
        found = theirs[1] >= _FOUND_SCORE
        total += int(sure.sum())
        if sure.any() and found.any():
            plain = np.zeros(int(found.sum()), np.bool_)
            near = overlaps(xywh(ours[0][sure]), xywh(theirs[0][found]), plain) >= _FOUND_IOU
            shared += int((near & (ours[2][sure][:, None] == theirs[2][found][None, :])).any(axis=1).sum())
    return (shared / total if total else 1.0), total


def _cosine(fp32: Recorder, int8: Recorder) -> float:
    worst = 1.0
    for ours, theirs in zip(fp32.outputs, int8.outputs, strict=True):
        length = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
        worst = min(worst, float(ours @ theirs) / length if length else 1.0)
    return worst
