"""What does not depend on the input is computed once, before the model is used."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from paddle_tk.export.graph.edit import GraphEditor, attribute, copied, subgraphs
from paddle_tk.export.graph.shapes import Shape, tensor_shapes
from paddle_tk.export.graph.values import is_known, shape_values
from paddle_tk.runtime.base import Array

# Folding Q/DQ would turn int8 weights into floats again; random nodes give something else each time.
_NEVER = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Dropout", "Bernoulli", "Multinomial"}
    | {f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}
)
_GROWTH = 2**16  # bytes that a folded constant may have beyond its inputs: an Expand is small, its result is not
_ROUNDS = 50  # a folded shape lets the next be inferred; far more than any chain of them


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in which everything that is known without an input is an initializer.

    Constant nodes become initializers; nodes with constant inputs are evaluated (not Q/DQ, not random ones); shapes
    of fixed dimensions become constants, and a Reshape or Resize to "the batch, then these numbers" becomes one to
    constants; Identity and Dropout go; nodes and initializers that nothing reads go. Names of tensors that stay are
    kept, as are the graph's inputs and outputs.
    """
    result = copied(model)
    fold_constants_inplace(result)
    return result


def fold_constants_inplace(model: onnx.ModelProto) -> None:
    """As ``fold_constants``, on the model itself."""
    for _ in range(_ROUNDS):
        graph = GraphEditor(model)
        _hold_constants(graph)
        _drop_identities(graph)
        _evaluate(graph)
        graph.finish()
        if not _settle_shapes(model):
            return


def _hold_constants(graph: GraphEditor) -> None:
    for node in graph.alive():
        values = _constant_values(node) if node.op_type == "Constant" else None
        if values is None:
            continue
        name = node.output[0]
        if name in graph.outputs:
            continue  # a graph output must be made by a node for some runtimes
        graph.drop(node)
        graph.hold(name, values)


def _constant_values(node: Any) -> Array | None:
    for key, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                       ("value_ints", np.int64)):  # fmt: skip
        given = attribute(node, key)
        if given is not None:
            return np.asarray(given, dtype)
    tensor = attribute(node, "value")
    return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))


def _drop_identities(graph: GraphEditor) -> None:
    for node in graph.alive():
        if node.op_type == "Identity" or (node.op_type == "Dropout" and _is_inactive(graph, node)):
            graph.bypass(node)


def _is_inactive(graph: GraphEditor, node: Any) -> bool:
    if any(name in graph.fixed or graph.readers(name) for name in node.output[1:]):
        return False
    mode = node.input[2] if len(node.input) > 2 else ""
    training = graph.constant(mode) if mode else np.asarray(False)
    return training is not None and not bool(training)


def _evaluate(graph: GraphEditor) -> None:
    for node in graph.alive():
        if node.op_type in _NEVER or node.op_type == "Constant" or any(subgraphs(node)):
            continue
        names = [name for name in node.input if name]
        inputs = {name: graph.constant(name) for name in names if graph.is_constant(name)}
        if len(inputs) != len(set(names)) or any(name in graph.outputs for name in node.output):
            continue
        results = _run(graph, node, inputs)
        if results is None:
            continue
        graph.drop(node)
        for name, values in zip(node.output, results, strict=True):
            if name:
                graph.hold(name, values)


def _run(graph: GraphEditor, node: Any, inputs: dict[str, Array | None]) -> list[Array] | None:
    """Evaluates one node; None where it cannot be, or where the result would swell the file."""
    outputs = [name for name in node.output if name]
    body = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.helper.make_tensor_value_info(name, graph.held[name].data_type, None) for name in inputs],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    model = onnx.helper.make_model(body, opset_imports=list(graph.model.opset_import))
    try:
        results = ReferenceEvaluator(model).run(outputs, inputs)
    except Exception:  # whatever the reference raises for what it does not know: the node simply stays
        return None
    if not all(isinstance(value, np.ndarray | np.generic) for value in results):
        return None  # a sequence is no initializer
    found = [np.asarray(value) for value in results]
    size = sum(value.nbytes for value in found)
    if size > _GROWTH + sum(given.nbytes for given in inputs.values() if given is not None):
        return None
    by_name = dict(zip(outputs, found, strict=True))
    return [by_name.get(name, np.empty(0)) for name in node.output]


def _settle_shapes(model: onnx.ModelProto) -> bool:
    """Turns what is known of shapes into constants; returns whether anything changed."""
    shapes, graph = tensor_shapes(model), GraphEditor(model)
    values, changed = shape_values(graph, shapes), False
    for node in graph.alive():
        known = values.get(node.output[0])
        if known is not None and is_known(known) and node.output[0] not in graph.fixed:
            graph.drop(node)
            graph.hold(node.output[0], np.asarray(known, _integer(shapes.types.get(node.output[0]))))
            changed = True
        elif node.op_type == "Reshape" and node.input[1] in values:
            changed |= _settle_reshape(graph, node, shapes.shapes.get(node.input[0]), values[node.input[1]])
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            sizes = graph.constant(node.input[3])
            wanted = values.get(node.input[3]) if sizes is None else sizes
            changed |= wanted is not None and _settle_resize(graph, node, shapes.shapes.get(node.input[0]), wanted)
    graph.finish()
    return changed


def _integer(elem_type: int | None) -> type[np.integer[Any]]:
    return np.int32 if elem_type == onnx.TensorProto.INT32 else np.int64


def _settle_reshape(graph: GraphEditor, node: Any, before: Shape | None, wanted: Array) -> bool:
    """Writes a shape with named dimensions as constants: 0 copies a dimension, -1 is what is left."""
    target = list(wanted)
    if before is None or 0 in target or attribute(node, "allowzero", 0):
        return False
    for place, side in enumerate(target):
        if isinstance(side, str):
            target[place] = 0 if place < len(before) and before[place] == side else -1
    target = _without_rest(target, before)
    if target.count(-1) > 1:
        return False
    graph.set_input(node, 1, graph.hold(graph.free_name(f"{node.output[0]}.shape"), np.asarray(target, np.int64)))
    return True


def _without_rest(target: list[int], before: Shape) -> list[int]:
    """Replaces -1 by its number, where the dimensions that are not copied are known."""
    copied_places = {place for place, side in enumerate(target) if side == 0}
    rest = [side for place, side in enumerate(before) if place not in copied_places]
    if target.count(-1) != 1 or not all(isinstance(side, int) for side in rest):
        return target
    total = int(np.prod([side for side in rest if isinstance(side, int)], dtype=np.int64))
    known = int(np.prod([side for side in target if side > 0], dtype=np.int64))
    return [total // known if side == -1 else side for side in target]


def _settle_resize(graph: GraphEditor, node: Any, before: Shape | None, wanted: Array) -> bool:
    """Writes a Resize to sizes as one by whole factors, which every runtime takes and which leaves the batch free."""
    if before is None or len(before) != len(wanted) or attribute(node, "axes") is not None:
        return False
    if attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return False  # the sizes are limits there, not sizes
    if attribute(node, "coordinate_transformation_mode") == b"tf_crop_and_resize":
        return False  # it enlarges a region
    factors = []
    for old, new in zip(before, wanted.tolist(), strict=True):
        if old == new:
            factors.append(1.0)
        elif isinstance(old, int) and isinstance(new, int) and new % old == 0:
            factors.append(new / old)
        else:
            return False
    graph.cut_inputs(node, 3)
    scales = graph.hold(graph.free_name(f"{node.output[0]}.scales"), np.asarray(factors, np.float32))
    graph.set_input(node, 2, scales)
    if graph.opset >= 13:  # before, the region is not optional
        graph.set_input(node, 1, "")
    return True
