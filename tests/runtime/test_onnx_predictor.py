from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.runtime.onnx_predictor import GRAPH_OPTIMIZATION, OnnxPredictor, TensorReader
from paddle_tk.types import InputSpec, Task
from tests.runtime.tiny_onnx import classifier_artifact, write_classifier


def _batch(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, 3, 28, 28), dtype=np.float32)


@pytest.mark.parametrize("name", ["onnx", "onnx-dynamic"])
def test_predict_agrees_with_paddle_when_batch_is_fixed_or_free(name: str, models: Path) -> None:
    (paddle_logits,) = load_predictor(open_model(models / "run")).predict(_batch(5))
    predictor = load_predictor(open_model(models / name))
    (logits,) = predictor.predict(_batch(5))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, paddle_logits, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="expected a float32 batch"):
        predictor.predict(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("n", [1, 4, 6])
def test_predict_returns_as_many_rows_as_images_when_the_fixed_batch_is_four(
    n: int, models: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(models / "onnx-dynamic" / "model.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, str(tmp_path / "four.onnx"))
    (logits,) = load_predictor(open_model(tmp_path / "four.onnx")).predict(_batch(n))
    (expected,) = load_predictor(open_model(models / "onnx-dynamic")).predict(_batch(n))
    assert logits.shape == (n, 10)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_loading_refuses_when_the_file_is_truncated(models: Path, tmp_path: Path) -> None:
    payload = (models / "onnx" / "model.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(payload[: len(payload) // 2])
    with pytest.raises(ArtifactError, match=r"half\.onnx cannot be loaded"):
        open_model(tmp_path / "half.onnx")


def test_loading_refuses_when_classes_do_not_fit_the_output(models: Path) -> None:
    source = open_model(models / "onnx")
    artifact = replace(source.artifact, task=Task("classification", ("cat", "dog")))
    with pytest.raises(ArtifactError, match="returns 10 classes, its manifest names 2"):
        OnnxPredictor(artifact, source.file, threads=1)


def test_loading_refuses_when_the_graph_takes_no_image(models: Path, tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 10])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(tmp_path / "m.onnx"))
    with pytest.raises(ArtifactError, match="is not for the classification of images"):
        OnnxPredictor(open_model(models / "onnx").artifact, tmp_path / "m.onnx", threads=1)


@pytest.mark.parametrize(
    ("name", "payload"),
    [("text", b"hello\n" * 20), ("empty", b""), ("picture", b"\x89PNG\r\n" + b"\0" * 99), ("json", b'{"a": 1}')],
)
def test_loading_says_so_in_one_line_when_the_file_is_no_onnx(
    name: str, payload: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{name}.onnx").write_bytes(payload)
    with pytest.raises(ArtifactError, match="cannot be loaded: it is no ONNX file, or it was cut off or damaged"):
        open_model(tmp_path / f"{name}.onnx")
    assert capfd.readouterr().err == ""


def test_loading_says_what_is_too_new_when_the_ir_version_is(models: Path, tmp_path: Path) -> None:
    model = onnx.load(str(models / "onnx" / "model.onnx"))
    model.ir_version = 99
    onnx.save(model, str(tmp_path / "new.onnx"))
    with pytest.raises(ArtifactError, match=r"cannot be loaded: Unsupported model IR version: 99, max"):
        open_model(tmp_path / "new.onnx")


OPTIONS: list[dict[str, Any]] = [
    *({"graph_optimization": level} for level in GRAPH_OPTIMIZATION),
    {"sequential": False, "threads": 2},
    {"spinning": False},
    {"affinity": [0], "threads": 2},
    {"preallocate": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["onnx", "onnx-dynamic"])
def test_predict_gives_the_same_when_session_options_differ(name: str, options: dict[str, Any], models: Path) -> None:
    source = open_model(models / name)
    (expected,) = OnnxPredictor(source.artifact, source.file).predict(_batch(3))
    predictor = OnnxPredictor(source.artifact, source.file, **options)
    for n in (3, 1, 3):
        (found,) = predictor.predict(_batch(3)[:n])
        np.testing.assert_allclose(found, expected[:n], rtol=0, atol=1e-4)


def test_predict_keeps_earlier_results_when_buffers_are_used_again(models: Path) -> None:
    source = open_model(models / "onnx-dynamic")
    predictor = OnnxPredictor(source.artifact, source.file, preallocate=True)
    (first,) = predictor.predict(_batch(2))
    kept = first.copy()
    predictor.predict(_batch(2) + 1)
    np.testing.assert_array_equal(first, kept)
    assert not predictor.reentrant


@pytest.mark.parametrize("options", [{"graph_optimization": "most"}, {"affinity": [0, 1]}, {"affinity": [-1]}])
def test_loading_refuses_when_an_option_does_not_exist_or_fit(options: dict[str, Any], models: Path) -> None:
    source = open_model(models / "onnx")
    with pytest.raises(ValueError, match=r"graph_optimization|affinity"):
        OnnxPredictor(source.artifact, source.file, threads=2, **options)


def test_predict_explains_when_the_graph_cannot_be_computed_at_this_size(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx", height=8, width=8)
    artifact = classifier_artifact(file)
    artifact = replace(artifact, inputs=(InputSpec("pixels", (1, 3, None, None)),))
    with pytest.raises(ArtifactError, match=r"cannot be run on a batch of shape \(1, 3, 9, 9\).*invalid dimensions"):
        OnnxPredictor(artifact, file).predict(np.zeros((1, 3, 9, 9), np.float32))


def _opened(file: Path, *names: str) -> bytes:
    model = onnx.load(str(file))
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("batch", [1, 2, 4, "n"])
def test_reader_returns_inner_tensors_of_every_image_when_batches_differ(batch: int | str, tmp_path: Path) -> None:
    payload = _opened(write_classifier(tmp_path / "m.onnx", batch=batch), "pooled")
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    found = TensorReader(payload, ["pooled", "scores"], threads=1).read(images)
    assert list(found) == ["pooled", "scores"]
    np.testing.assert_allclose(found["pooled"][:, :, 0, 0], images.mean(axis=(2, 3)), rtol=0, atol=1e-6)
    assert found["scores"].shape == (3, 3)


def test_reader_keeps_all_values_when_a_tensor_has_no_batch_dimension(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx", batch=2)
    model = onnx.load(str(file))
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["flat"], ["largest"], keepdims=0))
    model.graph.output.append(onnx.helper.make_tensor_value_info("largest", onnx.TensorProto.FLOAT, []))
    onnx.save(model, str(file))
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    found = TensorReader(file, ["largest"]).read(images)["largest"]
    means = images.mean(axis=(2, 3))
    np.testing.assert_allclose(found, [means[:2].max(), means[2].max()], rtol=0, atol=1e-6)


def test_reader_refuses_when_a_tensor_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="but no output pooled"):
        TensorReader(write_classifier(tmp_path / "m.onnx"), ["scores", "pooled"])
