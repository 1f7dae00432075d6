from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime.engines import ENGINES, load_with
from paddle_tk.runtime.tensorrt_engine import Cuda
from paddle_tk.runtime.tensorrt_predictor import TensorRTPredictor
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task
from tests.runtime import fake_tensorrt
from tests.runtime.fake_tensorrt import FakeCudart


def _artifact(batch: int | None) -> ModelArtifact:
    return ModelArtifact(
        path="m.onnx",
        format="onnx",
        precision="fp32",
        task=Task("classification", ("low", "high")),
        inputs=(InputSpec("image", (batch, 3, 4, 4)),),
        outputs=(InputSpec("logits", (batch, 2)),),
        preprocessing=Preprocessing((4, 4)),
        sha256={"m.onnx": "ab" * 32},
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _install(monkeypatch: pytest.MonkeyPatch, **behaviour: Any) -> tuple[Any, Cuda]:
    cudart = FakeCudart()
    trt = fake_tensorrt.make(cudart, "8.2.1", **behaviour)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt, Cuda(cudart)


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (None, 4)])
def test_predict_returns_one_row_per_image_and_the_engine_is_built_once_when_used_again(
    batch: int | None, size: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt, cuda = _install(monkeypatch, batch=batch or -1)
    images = np.random.default_rng(0).standard_normal((6, 3, 4, 4), dtype=np.float32)
    flat = images.reshape(6, -1)
    for _ in range(2):
        predictor = TensorRTPredictor(_artifact(batch), Path("m.onnx"), batch_size=size, cuda=cuda)
        (found,) = predictor.predict(images)
        np.testing.assert_allclose(found, np.stack([flat.mean(axis=1), flat.max(axis=1)], axis=1), rtol=1e-6)
    assert trt.built.flags == ["FP16"]
    assert predictor.arithmetic == "fp16"
    (kept,) = (home / "engines").iterdir()
    assert kept.name == f"{'ab' * 32}-fp16-batch{size}-tensorrt8.2.1-Fake_GPU.engine"


def test_loading_names_the_tensorrt_variant_when_an_x86_int8_file_cannot_be_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cuda = _install(monkeypatch, readable=False)
    artifact = replace(_artifact(1), precision="int8", variant="x86")
    with pytest.raises(ArtifactError, match=r"HardSwish unsupported.*--target tensorrt"):
        TensorRTPredictor(artifact, Path("m.onnx"), cuda=cuda)
    assert not list((home / "engines").iterdir())


def test_loading_refuses_when_the_engine_has_another_number_of_classes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cuda = _install(monkeypatch)
    artifact = replace(_artifact(1), task=Task("classification", ("a", "b", "c")))
    with pytest.raises(ArtifactError, match="returns 2 classes, its manifest names 3"):
        TensorRTPredictor(artifact, Path("m.onnx"), cuda=cuda)


def test_engine_is_refused_with_its_source_when_tensorrt_is_not_installed() -> None:
    if ENGINES["tensorrt"].installed:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(BadInput, match=r"the engine tensorrt is not installed.*JetPack.*pip install tensorrt"):
        load_with("tensorrt", _artifact(1), Path("m.onnx"))
