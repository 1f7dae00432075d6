"""Tiny ONNX graphs, and what ONNX Runtime computes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RNG_SEED = 5


def noise(*shape: int, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), list(outputs), name=f"{kind}/{outputs[0]}", **attributes)


def make(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str | None] | None],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    output_type: int = TensorProto.FLOAT,
    input_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Returns a checked model; IR version 8, which says something else than the onnx package's newest."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, input_type, list(shape)) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, output_type, None if shape is None else list(shape))
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if None in outputs.values():
        model = onnx.shape_inference.infer_shapes(model)
        del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs, computed by ONNX Runtime exactly as the graph stands there."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


def kinds(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def check_same(before: onnx.ModelProto, after: onnx.ModelProto, *, tolerance: float = 0.0, **feeds: np.ndarray) -> None:
    """Asserts that a new model is valid and returns what the old one returns."""
    onnx.checker.check_model(after, full_check=True)
    ours, theirs = run(before, **feeds), run(after, **feeds)
    assert [o.shape for o in ours] == [t.shape for t in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
