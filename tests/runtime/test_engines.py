from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime import engines
from paddle_tk.runtime.engines import ENGINES, available_engines, check_engine, engines_for, load_with
from paddle_tk.runtime.load import load_predictor, open_model


@pytest.mark.parametrize("name", list(ENGINES))
def test_engine_names_a_predictor_that_exists(name: str) -> None:
    module, attribute = ENGINES[name].target.split(":")
    predictor = getattr(importlib.import_module(module), attribute)
    assert predictor.engine == name
    assert callable(predictor.predict)


def test_engines_are_listed_with_the_formats_own_first(models: Path) -> None:
    assert engines_for(open_model(models / "run").artifact) == ["paddle", "paddle-inference"]
    assert engines_for(open_model(models / "onnx").artifact) == ["onnxruntime", "openvino", "tensorrt"]
    assert available_engines(open_model(models / "run").artifact) == ["paddle", "paddle-inference"]


def test_available_engines_leaves_out_what_is_not_installed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(ENGINES["openvino"], module="no_such_module_anywhere")
    monkeypatch.setitem(engines.ENGINES, "openvino", missing)  # type: ignore[arg-type]
    source = open_model(models / "onnx")
    assert "openvino" not in available_engines(source.artifact)
    with pytest.raises(BadInput, match=r"the engine openvino is not installed\. Fix: pip install openvino"):
        load_predictor(source, engine="openvino")


def test_version_is_that_of_the_installed_package() -> None:
    assert ENGINES["onnxruntime"].version.count(".") >= 1
    assert replace(ENGINES["onnxruntime"], distributions=("no-such-package",)).version == ""


@pytest.mark.parametrize(
    ("name", "engine", "expected"),
    [
        ("run", "onnxruntime", r"onnxruntime does not run paddle-safetensors models .*--engine paddle or paddle-inf"),
        ("run", "openvino", "an export of the model to ONNX runs in others"),
        ("onnx", "paddle", r"paddle does not run onnx models .*--engine onnxruntime or openvino or tensorrt$"),
        ("onnx", "onnxruntim", "unknown engine 'onnxruntim'. Fix: did you mean 'onnxruntime'"),
        ("onnx", "caffe", "known: paddle, paddle-inference, onnxruntime, openvino, tensorrt, auto"),
    ],
)
def test_load_predictor_refuses_when_the_engine_is_unknown_or_for_another_format(
    name: str, engine: str, expected: str, models: Path
) -> None:
    with pytest.raises(BadInput, match=expected):
        load_predictor(open_model(models / name), engine=engine)


def test_check_engine_accepts_every_engine_and_auto() -> None:
    for name in (*ENGINES, "auto"):
        check_engine(name)


def test_load_with_refuses_when_nothing_runs_the_format(models: Path) -> None:
    artifact = replace(open_model(models / "onnx").artifact, format="caffe")
    with pytest.raises(ArtifactError, match="the format 'caffe', which cannot be run"):
        load_with("onnxruntime", artifact, Path("m.caffemodel"))


def test_load_predictor_takes_options_and_warms_up(models: Path) -> None:
    source = open_model(models / "onnx")
    predictor = load_predictor(source, engine="onnxruntime", options={"preallocate": True}, warmup=2)
    assert predictor._buffers  # type: ignore[attr-defined]
    batch = np.zeros((1, 3, 28, 28), np.float32)
    np.testing.assert_allclose(predictor.predict(batch)[0], load_predictor(source).predict(batch)[0], atol=1e-5)
    with pytest.raises(ValueError, match="options belong to one engine"):
        load_predictor(source, engine="auto", options={"preallocate": True})
