"""A picture with what the toolkit computes for it, so that a device can show that it computes the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddle_tk.errors import CheckFailed
from paddle_tk.files import write_bytes_atomic, write_json
from paddle_tk.processing import decode_detections, normalize, resize_image, softmax, top_k
from paddle_tk.runtime.base import Array, Predictor, require_finite
from paddle_tk.types import ModelArtifact

FOLDER = "selftest"
IMAGE, INPUT, EXPECTED, PREDICTIONS = (
    f"{FOLDER}/{name}" for name in ("image.png", "input.png", "expected.npz", "predictions.json")
)
# Largest difference of an output that passes, as a share of the largest one. FP32 engines differ in the order of sums;
# FP16 has 11 bits; two INT8 engines may round a value to neighbouring steps; OpenVINO computes what is not INT8 in
# bfloat16, with 8 bits, where the processor has it.
TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.1, "openvino": 5e-2}
_LARGEST_SIDE = 1280
_TOP = 5


@dataclass(frozen=True)
class SelfTest:
    """What the manifest says of a bundle's self-test.

    Attributes:
        origin: Where the picture comes from.
        score: Lowest score of a detection in predictions.json.
        files: Relative paths of its files.
    """

    origin: str
    score: float
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest's entry."""
        return {
            "image": IMAGE,
            "input": INPUT,
            "expected": EXPECTED,
            "predictions": PREDICTIONS,
            "origin": self.origin,
            "score": self.score,
            "tolerance": dict(TOLERANCE),
        }


def drawn_picture(height: int = 240, width: int = 320) -> Array:
    """Draws a picture with edges, colours, gradients and noise: uint8 RGB, the same on every machine."""
    rng = np.random.default_rng(20)
    ramp = np.linspace(0, 255, width)[None, :, None] * np.array([1.0, 0.5, 0.25])
    picture = np.broadcast_to(ramp, (height, width, 3)) + rng.integers(0, 24, (height, width, 3))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    # Without anti-aliasing, whose arithmetic differs between builds of OpenCV.
    cv2.circle(picture, (width // 4, height // 2), height // 4, (230, 40, 30), -1)
    cv2.rectangle(picture, (width // 2, height // 4), (width * 3 // 4, height * 3 // 4), (40, 60, 220), -1)
    cv2.line(picture, (0, height - 1), (width - 1, 0), (250, 250, 60), 5)
    return picture


def write_selftest(folder: Path, predictors: Mapping[str, Predictor], image: Array, *, origin: str) -> SelfTest:
    """Computes and writes a bundle's self-test.

    Args:
        folder: The bundle.
        predictors: The toolkit's own, by the precision of their file ("fp32", "int8"), for one task and one input size.
        image: uint8 RGB, (H, W, 3); reduced where a side is above 1,280 px.
        origin: Where it comes from, for the manifest.

    Raises:
        ArtifactError: A model returns values that are not finite.
        CheckFailed: The outputs hold nothing to compare: all zero.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    picture = _reduced(image)
    artifact = next(iter(predictors.values())).artifact
    before = artifact.preprocessing
    scaled = resize_image(picture, before.size, before.resize, before.crop_ratio, before.pad_value)
    batch = np.ascontiguousarray(normalize(scaled, before.mean, before.std)[None])
    expected: dict[str, Array] = {}
    predictions: dict[str, Any] = {}
    score = float(artifact.postprocessing.get("score_threshold", 0.0))
    for precision, predictor in predictors.items():
        outputs = predictor.predict(batch)
        require_finite(outputs, predictor.artifact)
        if not np.any(outputs[-1]):
            raise CheckFailed(f"the {precision} model returns only zeros for the self-test picture", "check the model")
        expected.update({f"{precision}_{i}": output for i, output in enumerate(outputs)})
        predictions[precision] = _predictions(predictor.artifact, outputs, picture, score)
    write_bytes_atomic(folder / IMAGE, _png(picture))
    write_bytes_atomic(folder / INPUT, _png(scaled))
    np.savez_compressed(folder / EXPECTED, **expected)  # type: ignore[arg-type, unused-ignore]
    write_json(folder / PREDICTIONS, json.loads(json.dumps(predictions)))
    return SelfTest(origin, score, (IMAGE, INPUT, EXPECTED, PREDICTIONS))


def _reduced(image: Array) -> Array:
    share = _LARGEST_SIDE / max(image.shape[:2])
    if share >= 1:
        return image
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _png(image: Array) -> bytes:
    done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return bytes(encoded)


def _predictions(
    artifact: ModelArtifact, outputs: tuple[Array, ...], image: Array, score: float
) -> list[dict[str, Any]]:
    if artifact.task.kind == "classification":
        ids, scores = top_k(softmax(outputs[0][0]), _TOP)
        boxes: list[list[float]] = []
    else:
        size = (int(image.shape[0]), int(image.shape[1]))
        after = {**artifact.postprocessing, "score_threshold": score}
        found, scores, ids = decode_detections(
            outputs[0][0], outputs[1][0], size, artifact.preprocessing.to_dict(), after
        )
        boxes, scores, ids = found[:_TOP].round(2).tolist(), scores[:_TOP], ids[:_TOP]
    entries = [
        {"class": artifact.task.classes[i], "class_id": i, "score": s}
        for i, s in zip(ids.tolist(), scores.tolist(), strict=True)
    ]
    return [{**entry, "box": box} for entry, box in zip(entries, boxes, strict=True)] if boxes else entries
