"""Tiny ONNX graphs, with and without what a device cannot take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def held(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def model(
    nodes: Sequence[Any],
    constants: Sequence[Any] = (),
    *,
    opset: int = 13,
    ir_version: int = 7,
    shape: Sequence[int | str] = (1, 4, 8, 8),
    out: Sequence[int | str] | None = None,
    kinds: tuple[int, int] = (TensorProto.FLOAT, TensorProto.FLOAT),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Returns a model from ``x`` to ``y``, which the nodes must make."""
    graph = helper.make_graph(
        list(nodes), "tiny",
        [helper.make_tensor_value_info("x", kinds[0], list(shape))],
        [helper.make_tensor_value_info("y", kinds[1], None if out is None else list(out))],
        list(constants),
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph, opset_imports=imports)
    made.ir_version = ir_version
    return made


def conv_relu(**settings: Any) -> onnx.ModelProto:
    """Returns Conv (4 -> 8 channels, 3x3, padded) and ReLU on (1, 4, 8, 8)."""
    weight = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    return model(nodes, [held("w", weight)], **settings)


def one(operator: str, inputs: Sequence[str] = ("x",), constants: Sequence[Any] = (), **attributes: Any) -> Any:
    """Returns a model of one node."""
    return model([helper.make_node(operator, list(inputs), ["y"], name="node", **attributes)], constants)


def quantized(*, kind: Any = np.int8, zero: int = 0, int32_bias: bool = False) -> onnx.ModelProto:
    """Returns Conv between Q/DQ, as a quantizer writes it."""
    rng = np.random.default_rng(1)
    constants = [
        held("s", np.float32(0.1)), held("z", np.array(zero, kind)),
        held("ws", np.full(8, 0.02, np.float32)), held("wz", np.zeros(8, np.int8)),
        held("wq", rng.integers(-127, 128, (8, 4, 3, 3), dtype=np.int8)),
        held("b", rng.integers(-9, 9, 8, dtype=np.int32)), held("bs", np.full(8, 0.002, np.float32)),
        held("bz", np.zeros(8, np.int32)),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dq"),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], name="wdq", axis=0),
    ]
    inputs = ["xd", "wd"]
    if int32_bias:
        nodes.append(helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], name="bdq", axis=0))
        inputs.append("bd")
    nodes.append(helper.make_node("Conv", inputs, ["y"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
    used = {name for node in nodes for name in node.input}
    return model(nodes, [constant for constant in constants if constant.name in used])
