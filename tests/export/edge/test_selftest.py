from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.errors import ArtifactError, CheckFailed
from paddle_tk.export.edge.selftest import EXPECTED, IMAGE, INPUT, drawn_picture, write_selftest
from paddle_tk.files import sha256_bytes
from paddle_tk.manifest import load_manifest
from paddle_tk.processing import normalize
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.types import ModelArtifact


class _Constant:
    """A predictor that returns the same logits for everything."""

    device = "cpu"

    def __init__(self, artifact: ModelArtifact, value: float) -> None:
        self.artifact, self._value = artifact, value

    def predict(self, batch: Array) -> tuple[Array, ...]:
        return (np.full((len(batch), len(self.artifact.task.classes)), self._value, np.float32),)


def test_drawn_picture_is_the_same_every_time() -> None:
    first, second = drawn_picture(), drawn_picture()
    assert sha256_bytes(first.tobytes()) == sha256_bytes(second.tobytes())
    assert (first.shape, first.dtype) == ((240, 320, 3), np.uint8)
    assert len(np.unique(first)) > 200


def test_write_selftest_stores_the_scaled_picture_without_loss(models: Path, tmp_path: Path) -> None:
    predictor = load_predictor(open_model(models / "onnx"))
    written = write_selftest(tmp_path, {"fp32": predictor}, drawn_picture(), origin="drawn")
    assert {path for path in written.files if not (tmp_path / path).is_file()} == set()
    before = predictor.artifact.preprocessing
    stored = cv2.imread(str(tmp_path / INPUT))
    assert stored is not None
    batch = normalize(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), before.mean, before.std)[None]
    expected = np.load(tmp_path / EXPECTED)
    assert np.array_equal(predictor.predict(batch)[0], expected["fp32_0"])


def test_write_selftest_reduces_a_large_picture(models: Path, tmp_path: Path) -> None:
    predictor = load_predictor(open_model(models / "onnx"))
    write_selftest(tmp_path, {"fp32": predictor}, drawn_picture(1500, 3000), origin="drawn")
    stored = cv2.imread(str(tmp_path / IMAGE))
    assert stored is not None
    assert stored.shape == (640, 1280, 3)


def test_write_selftest_refuses_when_there_would_be_nothing_to_compare(models: Path, tmp_path: Path) -> None:
    artifact = replace(load_manifest(models / "onnx"), precision="fp32")
    with pytest.raises(CheckFailed, match="returns only zeros"):
        write_selftest(tmp_path, {"fp32": _Constant(artifact, 0.0)}, drawn_picture(), origin="drawn")
    with pytest.raises(ArtifactError, match="not finite"):
        write_selftest(tmp_path, {"fp32": _Constant(artifact, np.nan)}, drawn_picture(), origin="drawn")
