"""Puts a float graph into the form that integer kernels know."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from paddle_tk.export.graph import simplify
from paddle_tk.export.graph.edit import GraphEditor, attribute, copied
from paddle_tk.export.qdq.plan import Target

_CLOSE = 1e-4


def forms(model: onnx.ModelProto) -> dict[Target, onnx.ModelProto]:
    """Returns the float graph that each target's plan is made for.

    Tensors that both forms have carry the same names, so one calibration serves all.

    Args:
        model: A float model.
    """
    plain = simplify(model)
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
