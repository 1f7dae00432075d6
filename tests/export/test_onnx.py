from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import paddle
import pytest

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.compare import compare
from paddle_tk.export.convert import layer_to_onnx
from paddle_tk.export.onnx import resized, write_onnx
from paddle_tk.runtime.load import open_model
from paddle_tk.runtime.onnx_predictor import OnnxPredictor
from paddle_tk.runtime.paddle_predictor import PaddlePredictor


def _shape(value: Any) -> list[int | str]:
    return [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(("name", "batch"), [("onnx", 1), ("onnx-dynamic", "batch")])
def test_written_file_has_named_tensors_and_its_batch_when_exported(name: str, batch: int | str, models: Path) -> None:
    model = onnx.load(str(models / name / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(v.name, _shape(v)) for v in model.graph.input] == [("image", [batch, 3, 28, 28])]
    assert [(v.name, _shape(v)) for v in model.graph.output] == [("logits", [batch, 10])]
    assert {e.version for e in model.opset_import if e.domain == ""} == {17}
    assert model.producer_name == "paddle_tk"


def test_written_file_carries_all_it_needs_when_exported(models: Path) -> None:
    metadata = {p.key: p.value for p in onnx.load(str(models / "onnx" / "model.onnx")).metadata_props}
    parent = open_model(models / "run")
    assert json.loads(metadata["classes"]) == list(parent.artifact.task.classes)
    assert json.loads(metadata["preprocessing"]) == parent.artifact.preprocessing.to_dict()
    assert metadata["parent_sha256"] == parent.sha256
    assert set(json.loads(metadata["versions"])) == {"paddlepaddle", "paddle2onnx", "onnx"}


def test_write_onnx_agrees_with_paddle_when_size_and_opset_are_others(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    predictor = PaddlePredictor(resized(source.artifact, (36, 40)), source.file)
    model = write_onnx(predictor, tmp_path, opset=13, dynamic_batch=False)
    assert (model.opset, model.artifact.preprocessing.size) == (13, (36, 40))
    images = np.random.default_rng(0).standard_normal((3, 3, 36, 40), dtype=np.float32)
    assert compare(predictor, OnnxPredictor(model.artifact, model.file, threads=1), images, samples="noise").passed


@pytest.mark.parametrize("opset", [8, 22])
def test_layer_to_onnx_refuses_when_the_opset_cannot_be_written(opset: int) -> None:
    with pytest.raises(BadInput, match="from 9 to 21"):
        layer_to_onnx(paddle.nn.ReLU(), input_shape=(1, 3, 8, 8), opset=opset, debug=False)


class _Unsupported(paddle.nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.fft.fft(x).real()


def test_layer_to_onnx_says_why_and_prints_nothing_when_a_layer_is_not_supported(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(CheckFailed, match=r"cannot convert this network: Due to the unsupported operators"):
        layer_to_onnx(_Unsupported(), input_shape=(1, 3, 8, 8), opset=17, debug=False)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_layer_to_onnx_names_the_size_when_the_network_cannot_take_it() -> None:
    network = paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(12, 2))
    with pytest.raises(BadInput, match="images of 8x8 px"):
        layer_to_onnx(network, input_shape=(1, 3, 8, 8), opset=17, debug=False)
