"""Scales and shifts of channels, batch norms first of all, become part of the weights before or behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from paddle_tk.export.graph.edit import DEFAULT_DOMAINS, GraphEditor, attribute, copied
from paddle_tk.export.graph.shapes import Shapes, tensor_shapes
from paddle_tk.runtime.base import Array

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_OPTIONAL_BIAS = 11  # the opset from which a Gemm needs none
_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")  # a scalar factor passes through them


@dataclass(frozen=True)
class _Affine:
    """``scale * x + shift`` by channel, float64 (C,); ``shift_name`` is the tensor that held the shift."""

    scale: Array
    shift: Array
    shift_name: str


def fold_batch_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose convolutions and products have what scales and shifts their channels in their weights.

    Folded into a Conv, ConvTranspose, Gemm or MatMul with constant weights, where nothing else reads what lies
    between: a BatchNormalization behind it; an Add, Sub, Mul or Div by constants, one for each channel or one for all
    (biases that a converter wrote apart); a Mul or Div by one number before it (a Dropout's factor). A MatMul of two
    dimensions becomes a Gemm whose weight is (outputs, inputs), so that it takes a bias and its channels lie on axis 0.

    The node keeps its own name, its input's and its weight's; its output takes the name of what was folded. A weight
    that other nodes read too is copied. Computed in float64 and rounded once; weights need to be initializers
    (``fold_constants``).
    """
    result = copied(model)
    fold_batch_norm_inplace(result)
    return result


def fold_batch_norm_inplace(model: onnx.ModelProto) -> None:
    """As ``fold_batch_norm``, on the model itself."""
    shapes, graph = tensor_shapes(model), GraphEditor(model)
    for node in graph.alive():
        ours = node.op_type in _LINEAR and node.domain in DEFAULT_DOMAINS
        if ours and len(node.input) > 1 and graph.is_constant(node.input[1]):
            if node.op_type == "MatMul" and graph.opset >= _OPTIONAL_BIAS:
                _become_gemm(graph, node, shapes)
            _fold_factor_before(graph, node)
            _fold_all_behind(graph, node, shapes)
    graph.finish()


def _fold_all_behind(graph: GraphEditor, node: Any, shapes: Shapes) -> None:
    while True:
        behind = graph.sole_reader(node.output[0])
        found = None if behind is None else _affine(graph, behind, node, len(shapes.shapes.get(node.output[0], ())))
        if behind is None or found is None or not (np.isfinite(found.scale).all() and np.isfinite(found.shift).all()):
            return
        if node.op_type == "MatMul" and found.shift.any():
            return
        _scale_weight(graph, node, found.scale)
        if node.op_type != "MatMul":
            _set_bias(graph, node, found)
        result = behind.output[0]
        graph.drop(behind)
        graph.rename_output(node, node.output[0], result)


def _affine(graph: GraphEditor, behind: Any, node: Any, rank: int) -> _Affine | None:
    """Returns what a node does to each channel of the one before it, None where it is something else."""
    channels = _channels(graph, node)
    if channels is None or behind.domain not in DEFAULT_DOMAINS:
        return None
    if behind.op_type == "BatchNormalization":
        return _batch_norm(graph, behind) if node.op_type != "MatMul" else None
    if behind.op_type not in ("Add", "Sub", "Mul", "Div") or len(set(behind.input)) != 2:
        return None
    first = behind.input[0] == node.output[0]
    operand = behind.input[1 if first else 0]
    values = _by_channel(graph, operand, node, channels, rank)
    if values is None or (behind.op_type == "Div" and (not first or not values.all())):
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    return {
        "Add": lambda: _Affine(ones, values, operand),
        "Sub": lambda: _Affine(ones, -values, operand) if first else _Affine(-ones, values, operand),
        "Mul": lambda: _Affine(values, zeros, ""),
        "Div": lambda: _Affine(1.0 / values, zeros, ""),
    }[behind.op_type]()


def _batch_norm(graph: GraphEditor, node: Any) -> _Affine | None:
    held = [graph.constant(name) for name in node.input[1:5]]
    if any(values is None for values in held) or len([name for name in node.output if name]) != 1:
        return None
    if attribute(node, "training_mode", 0) or attribute(node, "spatial", 1) != 1:
        return None
    gamma, beta, mean, variance = (np.asarray(values, np.float64) for values in held)
    with np.errstate(invalid="ignore", divide="ignore"):  # such a norm is left as it is
        scale = gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))
    return _Affine(scale, beta - mean * scale, node.input[2])


def _by_channel(graph: GraphEditor, name: str, node: Any, channels: int, rank: int) -> Array | None:
    """Returns a constant operand as one number for each channel; None where it is anything else."""
    values = graph.constant(name)
    if values is None or values.dtype.kind != "f":
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = graph.held[node.input[1]]
        rank, axis = len(weight.dims), 1
    else:
        axis = (2 if node.op_type == "Gemm" else rank) - 1
        rank = axis + 1
    if values.ndim > max(rank, 0) and values.size > 1:
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    if len(shape) != rank or any(side != 1 for place, side in enumerate(shape) if place != axis):
        return None  # more dimensions than the result would widen it
    flat = values.astype(np.float64).ravel()
    return np.broadcast_to(flat, (channels,)).copy() if flat.size in (1, channels) else None


def _channels(graph: GraphEditor, node: Any) -> int | None:
    """Returns how many output channels a node has; None where something but constants by channel is added to them."""
    dims = list(graph.held[node.input[1]].dims)
    if node.op_type == "Conv":
        count = int(dims[0])
    elif node.op_type == "ConvTranspose":
        count = int(dims[1] * attribute(node, "group", 1))
    elif len(dims) == 2 and all(attribute(node, key, 1.0) == 1.0 for key in ("alpha", "beta")):
        count = int(dims[0] if attribute(node, "transB", 0) else dims[1])
    else:
        return None
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    return count if bias is not None and bias.size in (1, count) and bias.shape[-1:] == (bias.size,) else None


def _scale_weight(graph: GraphEditor, node: Any, scale: Array) -> None:
    """Multiplies each output channel of a node's weight."""
    if (scale == 1.0).all():
        return
    weight = graph.constant(node.input[1])
    assert weight is not None
    if node.op_type == "ConvTranspose":
        groups = attribute(node, "group", 1)
        inputs, outputs = weight.shape[:2]
        parts = weight.astype(np.float64).reshape(groups, inputs // groups, outputs, -1)
        scaled = (parts * scale.reshape(groups, 1, outputs, 1)).reshape(weight.shape)
    else:
        shape = [1] * weight.ndim
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
        shape[axis] = -1
        scaled = weight.astype(np.float64) * scale.reshape(shape)
    _write(graph, node, 1, scaled.astype(weight.dtype))


def _set_bias(graph: GraphEditor, node: Any, change: _Affine) -> None:
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    old = np.zeros(1) if bias is None else bias.astype(np.float64).ravel()
    weight = graph.constant(node.input[1])
    assert weight is not None
    new = np.broadcast_to(old, change.scale.shape) * change.scale + change.shift
    if bias is None and not new.any():
        return
    if bias is None:
        own = graph.is_exclusive(change.shift_name) if change.shift_name else False
        name = change.shift_name if own else graph.free_name(f"{node.input[1]}.bias")
        graph.set_input(node, 2, graph.hold(name, new.astype(weight.dtype)))
    else:
        _write(graph, node, 2, new.astype(bias.dtype))


def _write(graph: GraphEditor, node: Any, place: int, values: Array) -> None:
    """Gives a node another constant, under the same name where only this node reads it."""
    name = node.input[place]
    if not graph.is_exclusive(name):
        name = graph.free_name(f"{name}.folded")
    graph.hold(name, values)
    graph.set_input(node, place, name)


def _become_gemm(graph: GraphEditor, node: Any, shapes: Shapes) -> None:
    weight = graph.constant(node.input[1])
    if weight is None or weight.ndim != 2 or len(shapes.shapes.get(node.input[0], ())) != 2:
        return
    if weight.dtype.kind != "f":
        return  # ONNX Runtime multiplies integers in a MatMul only
    node.op_type = "Gemm"
    del node.attribute[:]
    node.attribute.extend([onnx.helper.make_attribute("transB", 1)])
    _write(graph, node, 1, np.ascontiguousarray(weight.T))


def _fold_factor_before(graph: GraphEditor, node: Any) -> None:
    """Takes one number that multiplies the whole input into the weight; padding with zeros does not mind."""
    tensor = node.input[0]
    while True:
        maker = graph.maker(tensor)
        if maker is None or graph.sole_reader(tensor) is None or list(maker.output) != [tensor]:
            return
        factor = _factor(graph, maker)
        if factor is not None:
            weight = graph.constant(node.input[1])
            assert weight is not None
            if graph.bypass(maker):
                _write(graph, node, 1, (weight.astype(np.float64) * factor).astype(weight.dtype))
            return
        if maker.op_type not in _MOVES:
            return
        tensor = maker.input[0]


def _factor(graph: GraphEditor, node: Any) -> float | None:
    if node.op_type not in ("Mul", "Div") or len(node.input) != 2:
        return None
    values = graph.constant(node.input[1])
    if values is None or values.size != 1 or values.ndim > 1 or values.dtype.kind != "f":
        return None
    number = float(values.ravel()[0])
    if not np.isfinite(number) or number == 0.0:
        return None
    return number if node.op_type == "Mul" else 1.0 / number
