"""A float graph, a plan and the ranges of its activations -> a graph with Q/DQ and int8 weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from paddle_tk.export.graph.edit import attribute
from paddle_tk.export.qdq.plan import Plan
from paddle_tk.export.qdq.scales import Scale, activation_scale, number_scale, quantize_weight, weight_scales
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.runtime.base import Array
from paddle_tk.types import TensorRange

_MATMUL_AXIS = 1  # of a MatMul's weight (inputs, outputs)


def build(
    model: onnx.ModelProto, plan: Plan, ranges: Mapping[str, TensorRange], *, weight_bits: int = 8
) -> onnx.ModelProto:
    """Writes the INT8 graph.

    Args:
        model: The float model that the plan was made for; it is left as it is.
        plan: What becomes integer.
        ranges: For every name in ``plan.ranges``.
        weight_bits: 8, or 7 for x86 processors without VNNI, whose 16-bit sums would overflow.

    Returns:
        A new model with the same inputs and outputs.

    Raises:
        ValueError: A range is missing.
    """
    missing = [name for name in plan.ranges if name not in ranges]
    if missing:
        raise ValueError(f"no range of the tensors {', '.join(missing[:5])}")
    return _Builder(model, plan, ranges, weight_bits).build()


class _Builder:
    def __init__(self, model: onnx.ModelProto, plan: Plan, ranges: Mapping[str, TensorRange], weight_bits: int) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._view, self._plan, self._bits = GraphView(self._model), plan, weight_bits
        self._scales = {name: self._activation(name, ranges) for name in plan.tensors}
        self._new: dict[str, Any] = {}  # initializers by name
        self._weights: dict[tuple[str, str], str] = {}  # (weight, input tensor) -> its dequantized name
        self._before: dict[str, list[Any]] = {}  # node name -> weights' DQ nodes in front of it

    def build(self) -> onnx.ModelProto:
        integer = {*self._plan.weighted, *self._plan.arithmetic}
        for name in self._plan.weighted:
            self._quantize_weights(self._view.by_name[name])
        for name in self._plan.arithmetic:
            self._quantize_number(self._view.by_name[name])
        graph = self._model.graph
        nodes = [node for tensor in self._view.inputs for node in self._pair(tensor)]
        for node in self._view.nodes:
            nodes += [*self._before.get(node.name, ()), *([] if node.name in self._plan.factors else [node])]
            nodes += [new for tensor in list(node.output) for new in self._pair(tensor, node)]
        self._redirect(integer)
        del graph.node[:]
        graph.node.extend(nodes)
        self._replace_initializers()
        del graph.value_info[:]
        return self._model

    def _activation(self, name: str, ranges: Mapping[str, TensorRange]) -> Scale:
        origin = self._plan.scaled_as[name]
        node = self._view.producer(origin)
        highest = self._view.limits(node)[1] if node is not None and node.op_type in ("Relu", "Clip") else np.inf
        return activation_scale(ranges[origin], self._plan.target, highest)

    def _pair(self, tensor: str, maker: Any = None) -> Iterable[Any]:
        """Returns the Q and DQ nodes behind a tensor; a graph output keeps its name on the far side."""
        scale = self._scales.get(tensor)
        if scale is None:
            return ()
        step = self._constant(f"{tensor}/scale", np.asarray(scale.scale, np.float32))
        zero = self._constant(f"{tensor}/zero", scale.zero_point)
        source, first = self._source(tensor, maker, step, scale)
        return (
            helper.make_node("QuantizeLinear", [source, first, zero], [f"{tensor}/q"], name=f"{tensor}/Q"),
            helper.make_node(
                "DequantizeLinear", [f"{tensor}/q", step, zero], [self._rounded(tensor)], name=f"{tensor}/DQ"
            ),
        )

    def _source(self, tensor: str, maker: Any, step: str, scale: Scale) -> tuple[str, str]:
        """Returns what Q reads, and the name of its scale."""
        factor = self._plan.factors.get(maker.name) if maker is not None else None
        if factor is not None:
            # The multiplication is left out: what comes before it has the scale that the factor leads to.
            before = np.asarray(scale.scale / np.float32(factor), np.float32)
            return self._view.dynamic_inputs(maker)[0], self._constant(f"{tensor}/scale before", before)
        if tensor not in self._view.outputs or maker is None:
            return tensor, step
        maker.output[list(maker.output).index(tensor)] = f"{tensor}/float"
        return f"{tensor}/float", step

    def _rounded(self, tensor: str) -> str:
        return tensor if tensor in self._view.outputs else f"{tensor}/dq"

    def _redirect(self, integer: set[str]) -> None:
        """Lets the readers of a rounded tensor read what was rounded."""
        for tensor in self._scales:
            for node in self._view.consumers(tensor):
                if tensor in self._view.outputs or not self._reads_rounded(node, tensor, integer):
                    continue
                for place, name in enumerate(node.input):
                    if name == tensor:
                        node.input[place] = self._rounded(tensor)

    def _reads_rounded(self, node: Any, tensor: str, integer: set[str]) -> bool:
        if self._plan.target == "tensorrt":
            # A second reader of a tensor gets the floats: the additions of a residual branch take only one side.
            return node.name in integer
        moved = self._view.is_transparent(node) and any(output in self._scales for output in node.output)
        return node.name in integer or moved or self._plan.scaled_as[tensor] in self._plan.made

    def _quantize_weights(self, node: Any) -> None:
        weight = self._view.array(node.input[1])
        axis = self._axis(node)
        scale = self._scales[node.input[0]].scale
        bias = self._bias(node)
        key = (node.input[1], node.input[0])
        name = f"{node.input[1]}/{len(self._weights)}" if node.input[1] in self._new_owners() else node.input[1]
        scales = weight_scales(weight, bias, scale, axis=axis, bits=self._bits)
        self._weights[key] = name
        operands = [
            self._constant(f"{name}/int8", quantize_weight(weight, scales, axis)),
            self._constant(f"{name}/scale", scales),
            self._constant(f"{name}/zero", np.zeros(len(scales), np.int8)),
        ]
        self._before[node.name] = [
            helper.make_node("DequantizeLinear", operands, [f"{name}/dq"], name=f"{name}/DQ", axis=axis)
        ]
        node.input[1] = f"{name}/dq"
        if bias is not None and self._needs_integer_bias(node):
            self._quantize_bias(node, bias, scales.astype(np.float64) * float(scale))

    def _quantize_number(self, node: Any) -> None:
        number = self._view.scalar_operand(node)
        if number is None:
            return
        place = next(i for i, name in enumerate(node.input) if name in self._view.constants)
        scale, stored = number_scale(number, self._plan.target)
        name = f"{node.name}/number"
        operands = [
            self._constant(f"{name}/q", stored),
            self._constant(f"{name}/scale", np.asarray(scale.scale, np.float32)),
            self._constant(f"{name}/zero", scale.zero_point),
        ]
        self._before[node.name] = [helper.make_node("DequantizeLinear", operands, [f"{name}/dq"], name=f"{name}/DQ")]
        node.input[place] = f"{name}/dq"

    def _needs_integer_bias(self, node: Any) -> bool:
        """Whether a float bias would keep a node from being fused: TensorRT refuses integer ones.

        ONNX Runtime fuses convolutions with float biases from 1.23.2 on, which saves 4 bytes for each channel. An ARM
        device may be bound to an older one.
        """
        return self._plan.target == "arm" or (self._plan.target == "x86" and node.op_type != "Conv")

    def _new_owners(self) -> set[str]:
        return {weight for weight, _ in self._weights}

    def _axis(self, node: Any) -> int:
        if node.op_type == "Gemm":
            return 0 if attribute(node, "transB", 0) else 1
        return 0 if node.op_type == "Conv" else _MATMUL_AXIS

    def _bias(self, node: Any) -> Array | None:
        if len(node.input) < 3 or not node.input[2] or node.input[2] not in self._view.constants:
            return None
        return self._view.array(node.input[2]).reshape(-1)

    def _quantize_bias(self, node: Any, bias: Array, scales: Array) -> None:
        stored = scales.astype(np.float32)
        name = f"{node.name}/bias"
        values = np.clip(np.rint(bias.astype(np.float64) / stored), -(2**31), 2**31 - 1).astype(np.int32)
        operands = [
            self._constant(f"{name}/int32", values),
            self._constant(f"{name}/scale", stored),  # no zero points: a weight needs them to be fused, a bias does not
        ]
        self._before[node.name].append(
            helper.make_node("DequantizeLinear", operands, [f"{name}/dq"], name=f"{name}/DQ", axis=0)
        )
        node.input[2] = f"{name}/dq"

    def _constant(self, name: str, values: Array) -> str:
        self._new[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _replace_initializers(self) -> None:
        graph = self._model.graph
        read = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *self._new.values()])
