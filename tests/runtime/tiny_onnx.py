"""Tiny ONNX files without this package's metadata, as another tool would write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paddle_tk.files import sha256_file
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

Side = int | str | None


def write_classifier(
    file: Path, *, classes: int = 3, batch: Side = 1, height: Side = 8, width: Side = 8, scale: float = 1.0
) -> Path:
    """Writes a classifier that averages each colour and multiplies the averages with a fixed matrix."""
    weights = np.random.default_rng(0).standard_normal((3, classes)).astype(np.float32) * scale
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, height, width])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])
    return _save(file, nodes, [image], [scores], [numpy_helper.from_array(weights, "weights")])


def write_detector(file: Path, *, side: int = 32) -> Path:
    """Writes a detector of two classes that always finds class 1 in the middle of the image."""
    boxes = np.array([[[8, 8, 24, 24], [0, 0, 4, 4]]], np.float32)
    scores = np.array([[[0.1, 0.9], [0.0, 0.0]]], np.float32)
    constants = [numpy_helper.from_array(boxes, "b0"), numpy_helper.from_array(scores, "s0")]
    constants.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["b0", "nothing"], ["boxes"]),
        helper.make_node("Add", ["s0", "nothing"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, side, side])
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2, 2]),
    ]
    return _save(file, nodes, [image], outputs, constants)


def _save(file: Path, nodes: list, inputs: list, outputs: list, constants: list) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return file


def classifier_artifact(file: Path, *, classes: int = 3, batch: int | None = 1, side: int = 8) -> ModelArtifact:
    """Returns the manifest of ``write_classifier``'s file."""
    return ModelArtifact(
        path=file.name,
        format="onnx",
        precision="fp32",
        task=Task("classification", tuple(f"c{i}" for i in range(classes))),
        inputs=(InputSpec("pixels", (batch, 3, side, side)),),
        outputs=(InputSpec("scores", (batch, classes)),),
        preprocessing=Preprocessing((side, side)),
        sha256={file.name: sha256_file(file)},
    )
