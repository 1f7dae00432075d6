"""Values of the integer tensors that describe shapes, as far as they are known before the model runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from paddle_tk.export.graph.edit import GraphEditor, attribute
from paddle_tk.export.graph.shapes import Shapes
from paddle_tk.runtime.base import Array

# Arrays of Python objects: an int where the number is known, a str that names a free dimension.
_MOST = 64  # elements: a shape, an axis list or an index is far smaller
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)


def shape_values(graph: GraphEditor, shapes: Shapes) -> dict[str, Array]:
    """Follows shapes through the nodes that compute with them.

    Args:
        graph: Constant nodes are initializers already.
        shapes: What is known of its tensors.

    Returns:
        For each integer tensor whose elements are all known numbers or named free dimensions: an object array of int
        and str, in the tensor's shape.
    """
    found: dict[str, Array] = {}

    def value(name: str) -> Array | None:
        if name not in found and graph.is_constant(name):
            held = graph.held[name]
            if held.data_type in _INTEGERS and int(np.prod(list(held.dims), dtype=np.int64)) <= _MOST:
                known = graph.constant(name)
                assert known is not None
                found[name] = _objects(known)
        return found.get(name)

    for node in graph.alive():
        rule = _RULES.get(node.op_type)
        if rule is None:
            continue
        try:
            result = _shape(node, shapes) if node.op_type == "Shape" else rule(node, [value(n) for n in node.input])
        except (TypeError, ValueError, IndexError):
            result = None  # a free dimension in a place where only numbers can be followed
        if result is not None:
            found[node.output[0]] = result
    return {name: known for name, known in found.items() if not graph.is_constant(name)}


def is_known(values: Array) -> bool:
    """Whether every element is a number."""
    return all(isinstance(element, int) for element in values.ravel())


def _objects(values: Array) -> Array:
    as_python: Array = values.astype(np.int64).astype(object)
    return as_python


def _shape(node: Any, shapes: Shapes) -> Array | None:
    dims = shapes.shapes.get(node.input[0])
    if dims is None or None in dims:
        return None
    return np.array(dims, object)[attribute(node, "start", 0) : attribute(node, "end", len(dims))]


_Rule = Callable[[Any, "list[Array | None]"], "Array | None"]


def _numbers(values: Array | None) -> list[int]:
    if values is None:
        raise ValueError("not known")
    return [int(v) for v in values.ravel()]


def _needed(values: list[Array | None]) -> list[Array]:
    known = [v for v in values if v is not None]
    if len(known) != len(values):
        raise ValueError("not known")
    return known


def _slice(node: Any, given: list[Array | None]) -> Array | None:
    data = _needed(given[:1])[0]
    starts, ends = _numbers(given[1]), _numbers(given[2])
    axes = _numbers(given[3]) if len(given) > 3 and node.input[3] else [0]
    steps = _numbers(given[4]) if len(given) > 4 and node.input[4] else [1]
    if data.ndim != 1 or axes not in ([0], [-1]):
        return None
    return data[starts[0] : ends[0] : steps[0]]


def _gather(node: Any, given: list[Array | None]) -> Array:
    data, indices = _needed(given)
    chosen: Array = np.take(data, np.array(indices, np.int64), axis=attribute(node, "axis", 0))
    return np.array(chosen, object)


def _concat(node: Any, given: list[Array | None]) -> Array:
    return np.concatenate(_needed(given), axis=attribute(node, "axis", 0))


def _squeeze(node: Any, given: list[Array | None]) -> Array:
    data = _needed(given[:1])[0]
    axes = _numbers(given[1]) if len(given) > 1 else attribute(node, "axes")
    return np.squeeze(data, tuple(axes) if axes is not None else None)


def _unsqueeze(node: Any, given: list[Array | None]) -> Array:
    data = _needed(given[:1])[0]
    axes = _numbers(given[1]) if len(given) > 1 else attribute(node, "axes")
    return np.expand_dims(data, tuple(axes))


def _reshape(node: Any, given: list[Array | None]) -> Array:
    target = _numbers(given[1])
    if 0 in target:
        raise ValueError("copied dimensions are not followed")
    return _needed(given[:1])[0].reshape(target)


def _cast(node: Any, given: list[Array | None]) -> Array | None:
    return _needed(given)[0] if attribute(node, "to") in _INTEGERS else None


def _same(node: Any, given: list[Array | None]) -> Array:
    return _needed(given)[0]


_RULES: dict[str, _Rule] = {
    "Shape": _same,
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Cast": _cast,
    "Identity": _same,
}
