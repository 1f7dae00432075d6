"""Rewrites for runtimes that do not take everything ONNX has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from paddle_tk.export.graph.edit import GraphEditor, attribute, copied, opset_of, set_attribute, subgraphs
from paddle_tk.export.graph.shapes import tensor_shapes

_INT64, _INT32 = onnx.TensorProto.INT64, onnx.TensorProto.INT32
_LOW, _HIGH = -(2**31), 2**31 - 1


def decompose_hardswish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy with x * HardSigmoid(x) in place of HardSwish, which TensorRT knows from 8.6 on only."""
    result = copied(model)
    graph = GraphEditor(result)
    for node in graph.alive():
        if node.op_type == "HardSwish":
            x, y = node.input[0], node.output[0]
            gate = graph.free_name(f"{y}.gate")
            graph.replace(node, (
                onnx.helper.make_node("HardSigmoid", [x], [gate], name=f"{node.name or y}.gate", alpha=1 / 6, beta=0.5),
                onnx.helper.make_node("Mul", [x, gate], [y], name=node.name),
            ))  # fmt: skip
    graph.finish()
    return result


def int64_to_int32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that computes with INT32 in place of INT64 wherever ONNX allows it.

    TensorRT before 10 has no INT64. Numbers that ONNX wants as INT64 (the shape of a Reshape, the limits of a Slice,
    what Shape and TopK return) stay: TensorRT reads those constants itself. Everything that must have the same type
    changes together or not at all, as do values beyond INT32; inputs and outputs of the graph keep their type.
    """
    result = copied(model)
    graph, types = GraphEditor(result), tensor_shapes(model).types
    groups = _Groups(name for name, kind in types.items() if kind == _INT64)
    groups.fix(*graph.inputs, *graph.fixed)
    opset = opset_of(model)
    for node in graph.alive():
        _bind(node, opset, groups)
    for name in list(graph.held):
        if name in groups and graph.is_constant(name) and not _fits(graph, name):
            groups.fix(name)
    changed = {name for name in groups if not groups.is_fixed(name)}
    for name in changed & set(graph.held):
        values = graph.constant(name)
        assert values is not None
        graph.hold(name, values.astype(np.int32))
    for node in graph.alive():
        if node.op_type == "Cast" and node.output[0] in changed:
            set_attribute(node, "to", _INT32)
    graph.finish()
    _retype(result, changed)
    return result


class _Groups:
    """Tensors that must have one type, by union and find."""

    def __init__(self, names: Iterator[str]) -> None:
        self._parent = {name: name for name in names}
        self._fixed: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._parent

    def __iter__(self) -> Iterator[str]:
        return iter(self._parent)

    def root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def fix(self, *names: str) -> None:
        self._fixed |= {self.root(name) for name in names if name in self}

    def join(self, names: list[str]) -> None:
        roots = {self.root(name) for name in names}
        if roots:
            kept = min(roots)
            for other in roots:
                self._parent[other] = kept
            if roots & self._fixed:
                self._fixed.add(kept)

    def is_fixed(self, name: str) -> bool:
        return self.root(name) in self._fixed


def _bind(node: Any, opset: int, groups: _Groups) -> None:
    """Joins the INT64 tensors of a node that share a type variable; fixes those that can be INT64 only."""
    tensors = [name for name in (*node.input, *node.output) if name in groups]
    if not tensors:
        return
    if any(subgraphs(node)):  # what its bodies make keeps its type
        groups.fix(*tensors)
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        groups.fix(*tensors)
        return
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    by_variable: dict[str, list[str]] = {}
    for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for place, name in enumerate(names):
            if name in groups:
                variable = formals[min(place, len(formals) - 1)].type_str
                by_variable.setdefault(variable, []).append(name)
    holds_type = node.op_type in ("Constant", "ConstantOfShape", "Range", "EyeLike") or attribute(node, "dtype")
    for variable, names in by_variable.items():
        groups.join(names)
        if "tensor(int32)" not in allowed.get(variable, set()) or holds_type:
            groups.fix(*names)


def _fits(graph: GraphEditor, name: str) -> bool:
    values = graph.constant(name)
    if values is None or values.size == 0:
        return values is not None
    return bool((values >= _LOW).all() and (values <= _HIGH).all())


def _retype(model: onnx.ModelProto, changed: set[str]) -> None:
    for value in model.graph.value_info:
        if value.name in changed:
            value.type.tensor_type.elem_type = _INT32
