"""Puts a float graph into the form that integer kernels know."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from paddle_tk.export.graph import simplify, tensor_shapes
from paddle_tk.export.graph.edit import GraphEditor, attribute, copied
from paddle_tk.export.qdq.plan import Target

_MATRIX = 2  # dimensions of a linear layer's weight
_CLOSE = 1e-4


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a folded copy for ``make_plan`` and ``build`` that computes the same: every linear layer is one Gemm.

    Its weight has the output channels on axis 0, where TensorRT wants a weight's scales.

    Args:
        model: A float model.
    """
    result = simplify(model)
    shapes = tensor_shapes(result).shapes
    editor = GraphEditor(result)
    for node in editor.alive():
        if node.op_type != "MatMul" or len(shapes.get(node.input[0]) or ()) != _MATRIX:
            continue
        weight = editor.constant(node.input[1])
        if weight is not None and weight.ndim == _MATRIX:
            _as_gemm(editor, node, weight)
    editor.finish()
    return result


def forms(model: onnx.ModelProto) -> dict[Target, onnx.ModelProto]:
    """Returns the float graph that each target's plan is made for.

    Tensors that both forms have carry the same names, so one calibration serves all.

    Args:
        model: A float model.
    """
    plain = prepare(model)
    steps = integer_activations(plain)
    return {"x86": steps, "arm": steps, "tensorrt": plain}


def integer_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in which hard sigmoids are what integer kernels have: an addition, a Clip and a change of scale.

    HardSwish(x) = x * HardSigmoid(x), HardSigmoid(x) = Clip(x + 3, 0, 6) / 6, as long as its slope is 1/6 and its
    offset 1/2. Without this they would be computed in float between two conversions.

    Args:
        model: A float model.
    """
    result = copied(model)
    editor = GraphEditor(result)
    for node in editor.alive():
        if node.op_type == "HardSwish" or (node.op_type == "HardSigmoid" and _is_the_usual(node)):
            editor.replace(node, _in_steps(editor, node))
    editor.finish()
    return result


def _is_the_usual(node: Any) -> bool:
    slope, offset = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return bool(abs(slope - 1 / 6) < _CLOSE and abs(offset - 0.5) < _CLOSE)


def _in_steps(editor: GraphEditor, node: Any) -> list[Any]:
    x, name = node.input[0], node.name
    numbers = {
        key: editor.hold(editor.free_name(f"{name}/{key}"), np.asarray(value, np.float32))
        for key, value in (("three", 3.0), ("zero", 0.0), ("six", 6.0), ("sixth", 1 / 6))
    }
    shifted, clipped, product = (editor.free_name(f"{name}/{key}") for key in ("shifted", "clipped", "product"))
    steps = [
        helper.make_node("Add", [x, numbers["three"]], [shifted], name=f"{name}/Add"),
        helper.make_node("Clip", [shifted, numbers["zero"], numbers["six"]], [clipped], name=f"{name}/Clip"),
    ]
    if node.op_type == "HardSwish":
        steps.append(helper.make_node("Mul", [x, clipped], [product], name=f"{name}/Mul"))
    last = product if node.op_type == "HardSwish" else clipped
    steps.append(helper.make_node("Mul", [last, numbers["sixth"]], list(node.output), name=f"{name}/Scale"))
    return steps


def _as_gemm(editor: GraphEditor, node: Any, weight: np.ndarray[Any, Any]) -> None:
    operands = [node.input[0], editor.hold(editor.free_name(f"{node.name}/weight"), np.ascontiguousarray(weight.T))]
    output = node.output[0]
    add = editor.sole_reader(output)
    bias = _bias(editor, add, weight.shape[1]) if add is not None and add.op_type == "Add" else None
    if add is not None and bias is not None:
        operands.append(editor.hold(editor.free_name(f"{node.name}/bias"), bias))
        output = add.output[0]
        editor.drop(add)
    editor.replace(node, [helper.make_node("Gemm", operands, [output], name=node.name, transB=1)])


def _bias(editor: GraphEditor, add: Any, channels: int) -> np.ndarray[Any, Any] | None:
    """Returns the vector that an Add adds to every row, None where it adds something else."""
    for name in add.input:
        values = editor.constant(name)
        if values is not None and values.size == channels and values.shape[-1] == channels:
            return values.reshape(-1)
    return None
