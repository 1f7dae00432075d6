from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import paddle
import pytest

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.compare import compare
from paddle_tk.export.convert import layer_to_onnx
from paddle_tk.export.graph import node_counts
from paddle_tk.export.onnx import resized, write_onnx
from paddle_tk.export.target import OnnxTarget
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


def test_written_file_holds_only_what_computes_when_exported(models: Path) -> None:
    model = onnx.load(str(models / "onnx" / "model.onnx"))
    assert node_counts(model) == {"Gemm": 3, "Conv": 2, "Relu": 2, "MaxPool": 2, "Reshape": 1}
    weights = {name for node in model.graph.node for name in node.input[1:]}
    assert weights == {tensor.name for tensor in model.graph.initializer}
    assert {value.name for value in model.graph.value_info} >= {node.output[0] for node in model.graph.node[:-1]}


@pytest.mark.parametrize(("opset", "ir_version", "written"), [(11, None, 6), (13, None, 7), (17, None, 8), (13, 8, 8)])
def test_written_file_has_the_ir_version_of_its_opset_or_the_one_asked_for(
    opset: int, ir_version: int | None, written: int, models: Path, tmp_path: Path
) -> None:
    source = open_model(models / "run")
    predictor = PaddlePredictor(source.artifact, source.file)
    model = write_onnx(predictor, tmp_path, dynamic_batch=True, target=OnnxTarget(opset, ir_version))
    assert onnx.load(str(model.file)).ir_version == model.form["ir_version"] == written
    images = np.random.default_rng(0).standard_normal((3, 3, 28, 28), dtype=np.float32)
    assert compare(predictor, OnnxPredictor(model.artifact, model.file, threads=1), images, samples="noise").passed


class _HardSwish(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4)
        self.linear = paddle.nn.Linear(4, 10)
        self.eval()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = paddle.nn.functional.hardswish(self.norm(self.conv(x)))
        return self.linear(paddle.flatten(paddle.nn.functional.adaptive_avg_pool2d(x, 1), 1))


@pytest.mark.parametrize(
    ("tensorrt", "kinds"),
    [
        (None, ["Conv", "HardSwish", "GlobalAveragePool", "Reshape", "Gemm"]),
        ("8.6.1", ["Conv", "HardSwish", "GlobalAveragePool", "Reshape", "Gemm"]),
        ("8.5.2", ["Conv", "HardSigmoid", "Mul", "GlobalAveragePool", "Reshape", "Gemm"]),
    ],
)
def test_written_file_has_no_hardswish_when_the_target_does_not_know_it(
    tensorrt: str | None, kinds: list[str], models: Path, tmp_path: Path
) -> None:
    network = _HardSwish()
    predictor: Any = SimpleNamespace(artifact=open_model(models / "run").artifact, network=network)
    model = write_onnx(predictor, tmp_path, dynamic_batch=False, target=OnnxTarget(tensorrt=tensorrt))
    written = onnx.load(str(model.file))
    assert [node.op_type for node in written.graph.node] == kinds
    assert model.form["nodes"] == len(kinds) < model.form["nodes_converted"]
    image = np.random.default_rng(0).standard_normal((1, 3, 28, 28), dtype=np.float32)
    found = OnnxPredictor(model.artifact, model.file, threads=1).predict(image)[0]
    np.testing.assert_allclose(found, network(paddle.to_tensor(image)).numpy(), atol=1e-5)


def test_write_onnx_refuses_when_the_target_takes_no_such_file(models: Path, tmp_path: Path) -> None:
    source = open_model(models / "run")
    predictor = PaddlePredictor(source.artifact, source.file)
    for target, expected in (
        (OnnxTarget(13, name="old-device", newest_opset=11), "the network needs opset 13, old-device takes at most 11"),
        (OnnxTarget(13, name="old-device", newest_ir=6), "opset 13 needs IR version 7, old-device takes at most 6"),
    ):
        with pytest.raises(CheckFailed, match=expected):
            write_onnx(predictor, tmp_path, dynamic_batch=False, target=target)
    assert list(tmp_path.iterdir()) == []


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
