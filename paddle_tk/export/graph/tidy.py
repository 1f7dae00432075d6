"""Nodes that change nothing, that undo each other, or that compute what another one computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from paddle_tk.export.graph.edit import GraphEditor, attribute, copied, set_attribute, subgraphs
from paddle_tk.export.graph.shapes import Shapes, tensor_shapes

_SHARED = 16  # elements: limits of a Clip, shapes, axes; two layers' weights or biases are never made one

_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")  # two of them with the same inputs return different numbers


def drop_no_ops(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy without nodes that change nothing.

    Those are a Cast to the type a tensor has, a Reshape, Flatten, Squeeze or Unsqueeze to the shape it has, a Transpose
    that moves nothing, an Add or Sub of zeros, a Mul or Div by ones (where the result is no wider), a Concat of one
    tensor, a Clip without limits. A Transpose of a Transpose and a Reshape of a Reshape become one node.
    """
    result = copied(model)
    drop_no_ops_inplace(result)
    return result


def drop_no_ops_inplace(model: onnx.ModelProto) -> None:
    """As ``drop_no_ops``, on the model itself."""
    shapes, graph = tensor_shapes(model), GraphEditor(model)
    for node in graph.alive():
        _merge_moves(graph, node, shapes)
        if node.input and node.output and _changes_nothing(graph, node, shapes):
            graph.bypass(node)
    graph.finish()


def share_equal(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in which nodes that compute the same, and small constants with the same values, are one."""
    result = copied(model)
    share_equal_inplace(result)
    return result


def share_equal_inplace(model: onnx.ModelProto) -> None:
    """As ``share_equal``, on the model itself."""
    graph = GraphEditor(model)
    _share_constants(graph)
    first: dict[Any, Any] = {}
    for node in graph.alive():
        if any(subgraphs(node)) or node.op_type.startswith(_RANDOM) or any(n in graph.fixed for n in node.output):
            continue
        attributes = sorted(entry.SerializeToString(deterministic=True) for entry in node.attribute)
        key = (node.domain, node.op_type, tuple(node.input), tuple(attributes), tuple(bool(n) for n in node.output))
        if key not in first:
            first[key] = node
            continue
        for name, kept in zip(node.output, first[key].output, strict=True):
            graph.redirect(name, kept)
        graph.drop(node)
    graph.finish()


def _share_constants(graph: GraphEditor) -> None:
    first: dict[Any, str] = {}
    for name in list(graph.held):
        if name in graph.fixed or int(np.prod(list(graph.held[name].dims), dtype=np.int64)) > _SHARED:
            continue
        values = graph.constant(name)
        if values is None or values.dtype.kind not in "fiub" or (values.dtype.kind == "f" and values.size != 1):
            continue
        kept = first.setdefault((values.dtype.str, values.shape, values.tobytes()), name)
        if kept != name:
            graph.redirect(name, kept)


def _merge_moves(graph: GraphEditor, node: Any, shapes: Shapes) -> None:
    """Lets a Transpose of a Transpose, or a Reshape of a Reshape, read what the first one reads."""
    if node.op_type not in ("Transpose", "Reshape"):
        return
    before = graph.maker(node.input[0])
    if before is None or before.op_type != node.op_type or graph.sole_reader(node.input[0]) is None:
        return
    if node.op_type == "Transpose":
        inner, outer = attribute(before, "perm"), attribute(node, "perm")
        if inner is None or outer is None:
            return
        set_attribute(node, "perm", [inner[place] for place in outer])
    else:
        target = graph.constant(node.input[1])
        if target is None or attribute(node, "allowzero", 0):
            return
        outside, inside = shapes.shapes.get(before.input[0]), shapes.shapes.get(node.input[0])
        if any(
            side == 0 and (inside is None or outside is None or place >= len(outside) or outside[place] is None
                           or inside[place] != outside[place])
            for place, side in enumerate(target.tolist())
        ):  # fmt: skip
            return  # it copies a dimension that the first Reshape made
    graph.set_input(node, 0, before.input[0])


def _changes_nothing(graph: GraphEditor, node: Any, shapes: Shapes) -> bool:
    kind = node.op_type
    if kind == "Cast":
        return bool(attribute(node, "to") == shapes.types.get(node.input[0]))
    if kind in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _same_shape(shapes, node)
    if kind == "Transpose":
        perm = attribute(node, "perm")
        return perm is not None and list(perm) == sorted(perm)
    if kind == "Concat":
        return len(node.input) == 1
    if kind == "Clip":
        return len([name for name in node.input if name]) == 1 and not node.attribute
    neutral = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}.get(kind)
    return neutral is not None and _is_neutral(graph, node, shapes, neutral)


def _same_shape(shapes: Shapes, node: Any) -> bool:
    before, after = (shapes.shapes.get(name) for name in (node.input[0], node.output[0]))
    # Every known number the same, free dimensions by name: nothing unknown may be taken for equal.
    return before is not None and before == after and None not in before


def _is_neutral(graph: GraphEditor, node: Any, shapes: Shapes, neutral: float) -> bool:
    for place in (1, 0) if node.op_type in ("Add", "Mul") else (1,):
        values = graph.constant(node.input[place])
        if values is None or not bool((values == np.asarray(neutral)).all()):
            continue
        other = node.input[1 - place]
        before, after = shapes.shapes.get(other), shapes.shapes.get(node.output[0])
        if before is None or before != after or None in before:
            return False
        if place == 0:  # what bypass keeps is the first input; where both names must stay, the node stays whole
            constant = node.input[0]
            graph.set_input(node, 0, other)
            graph.set_input(node, 1, constant)
        return True
    return False
