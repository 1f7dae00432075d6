from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from paddle_tk.errors import ArtifactError
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.runtime.onnx_predictor import OnnxPredictor, artifact_in_file
from paddle_tk.types import Task


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


@pytest.mark.parametrize("removed", ["classes", "preprocessing", "task"])
def test_artifact_in_file_names_what_is_missing_when_the_file_is_foreign(
    removed: str, models: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(models / "onnx" / "model.onnx"))
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != removed]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ArtifactError, match=f": {removed} missing"):
        artifact_in_file(tmp_path / "foreign.onnx")


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
