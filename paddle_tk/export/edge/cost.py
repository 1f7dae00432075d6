"""Arithmetic and memory traffic of every node of an ONNX graph, and the memory its tensors take; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx

from paddle_tk.export.graph.constants import fold_constants
from paddle_tk.export.graph.edit import attribute
from paddle_tk.export.graph.shapes import Shapes, tensor_shapes

_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})
_BYTES: Mapping[int, int] = {
    onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.DOUBLE: 8, onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1, onnx.TensorProto.BOOL: 1, onnx.TensorProto.INT32: 4, onnx.TensorProto.INT64: 8,
}  # fmt: skip
# No time of their own: the result is the same bytes, or a number that describes a shape.
_FREE = frozenset({"Constant", "Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
# Engines compute these inside the convolution or matrix product before them, or at least inside one another.
_FUSED = frozenset(
    {"Abs", "Add", "BatchNormalization", "Ceil", "Clip", "DequantizeLinear", "Div", "Elu", "Erf", "Exp", "Floor",
     "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min", "Mul", "Neg", "PRelu", "Pow", "QuantizeLinear", "Relu",
     "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"}
)  # fmt: skip
_MOVES = frozenset({"Concat", "DepthToSpace", "Expand", "Gather", "Pad", "Slice", "SpaceToDepth", "Split", "Tile",
                    "Transpose"})  # fmt: skip
_POOLS = frozenset({"AveragePool", "MaxPool", "LpPool"})
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class NodeCost:
    """What one node costs.

    Attributes:
        name: The node.
        flops: Operations, a multiply-add counting as two.
        bytes: Read and written, weights included.
        fused: An engine may compute it inside another node.
        integer: It multiplies 8-bit integers.
    """

    name: str
    flops: int
    bytes: int
    fused: bool
    integer: bool


@dataclass(frozen=True)
class GraphCost:
    """What a graph costs for one run.

    Attributes:
        nodes: Every node that costs time, in order.
        weight_bytes: Constants as the engine keeps them.
        least_live_bytes: Largest sum of activations alive at once, where Q/DQ and elementwise nodes take no memory.
        most_live_bytes: The same where every node has an output of its own.
        unknown: Nodes whose shapes could not be inferred; they are missing in all sums.
    """

    nodes: tuple[NodeCost, ...]
    weight_bytes: int
    least_live_bytes: int
    most_live_bytes: int
    unknown: tuple[str, ...]

    @property
    def flops(self) -> int:
        """All operations, a multiply-add counting as two."""
        return sum(node.flops for node in self.nodes)


def graph_cost(model: onnx.ModelProto, *, float_bytes: int = 4) -> GraphCost:
    """Counts what one run of a model takes.

    Args:
        model: Input shapes must be fixed.
        float_bytes: Bytes of a floating-point number in the engine: 4, or 2 for FP16.
    """
    graph = _Graph(fold_constants(model), float_bytes)
    costs, unknown = [], []
    for node in graph.nodes:
        cost = graph.node_cost(node)
        if cost is None:
            unknown.append(node.name or node.output[0])
        elif cost.flops or cost.bytes:
            costs.append(cost)
    return GraphCost(
        tuple(costs), graph.weight_bytes, graph.live_bytes(shared=True), graph.live_bytes(shared=False), tuple(unknown)
    )


class _Graph:
    def __init__(self, model: onnx.ModelProto, float_bytes: int) -> None:
        self._shapes: Shapes = tensor_shapes(model)
        self._float_bytes = float_bytes
        self.nodes: list[Any] = list(model.graph.node)
        self._outputs = [value.name for value in model.graph.output]
        self._constants = {tensor.name for tensor in model.graph.initializer}
        self._maker = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, set[str]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, set()).add(node.op_type)
        self.weight_bytes = sum(self._bytes(name) or 0 for name in self._constants)

    def node_cost(self, node: Any) -> NodeCost | None:
        """Returns a node's cost, None where a shape is unknown."""
        operator, name = node.op_type, node.name or node.output[0]
        if operator in _FREE or self._is_weight(node.output[0]):
            return NodeCost(name, 0, 0, True, False)
        sizes = [self._bytes(tensor) for tensor in (*node.input, *node.output) if tensor]
        flops = self._flops(node)
        if flops is None or any(size is None for size in sizes):
            return None
        moved = sum(size for size in sizes if size is not None)
        integer = operator in _PRODUCTS and self._from_integers(node)
        if integer:
            # The engine reads and writes 8-bit numbers; Q/DQ around the node are part of it.
            moved = sum(self._elements(tensor) or 0 for tensor in (*node.input[:2], *node.output) if tensor)
        return NodeCost(name, flops, moved, operator in _FUSED, integer)

    def live_bytes(self, *, shared: bool) -> int:
        """Returns the largest sum of activations that are needed at one time."""
        owner: dict[str, str] = {}
        for node in self.nodes:
            for name in node.output:
                aliases = node.op_type in _FREE or (shared and node.op_type in _FUSED)
                source = node.input[0] if aliases and node.input else ""
                owner[name] = owner.get(source, source) if source and not self._is_weight(source) else name
        last = {owner.get(name, name): place for place, node in enumerate(self.nodes) for name in node.input if name}
        last.update({owner.get(name, name): len(self.nodes) for name in self._outputs})
        alive: dict[str, int] = {}
        most = 0
        for place, node in enumerate(self.nodes):
            for name in (*node.input, *node.output):
                key = owner.get(name, name)
                if name and not self._is_weight(name):
                    alive.setdefault(key, self._live_size(key, shared))
            most = max(most, sum(alive.values()))
            alive = {name: size for name, size in alive.items() if last.get(name, place) > place}
        return most

    def _live_size(self, name: str, shared: bool) -> int:
        readers = self._readers.get(name) if shared else None
        if readers == {"QuantizeLinear"}:
            return self._elements(name) or 0  # the engine writes the 8-bit numbers at once
        return self._bytes(name) or 0

    def _is_weight(self, name: str) -> bool:
        """Whether a tensor is a constant, or a constant behind Q/DQ."""
        if name in self._constants:
            return True
        maker = self._maker.get(name)
        return maker is not None and maker.op_type in ("DequantizeLinear", "Identity") and self._is_weight(
            maker.input[0]
        )  # fmt: skip

    def _from_integers(self, node: Any) -> bool:
        makers = [self._maker.get(name) for name in node.input[:2]]
        return len(makers) == 2 and all(m is not None and m.op_type == "DequantizeLinear" for m in makers)

    def _elements(self, name: str) -> int | None:
        shape = self._shapes.fixed(name)
        return None if shape is None else prod(shape)

    def _bytes(self, name: str) -> int | None:
        elements, kind = self._elements(name), self._shapes.types.get(name)
        if elements is None or kind is None:
            return None
        return elements * (self._float_bytes if kind in _FLOATS else _BYTES.get(kind, 4))

    def _flops(self, node: Any) -> int | None:
        out = self._elements(node.output[0])
        if out is None:
            return None
        if node.op_type in _PRODUCTS:
            return self._product_flops(node, out)
        if node.op_type in _MOVES:
            return 0
        if node.op_type in _POOLS:
            return out * int(prod(attribute(node, "kernel_shape", [1])))
        if node.op_type.startswith(("Global", "Reduce", "Arg")):
            return self._elements(node.input[0])
        return out

    def _product_flops(self, node: Any, out: int) -> int | None:
        first, second = (self._shapes.fixed(name) for name in node.input[:2])
        if first is None or second is None:
            return None
        if node.op_type == "Conv":  # weight (out, in / groups, kh, kw)
            return 2 * out * prod(second[1:])
        if node.op_type == "ConvTranspose":  # weight (in, out / groups, kh, kw), once per input position
            return 2 * prod(first) * prod(second[1:])
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            return 2 * out * first[0]
        return 2 * out * first[-1]
