"""Does an INT8 graph keep to what TensorRT wants of explicit quantization? Read from the graph alone.

The rules are those of NVIDIA's guide to explicit quantization and of onnx-tensorrt's importers
(builtin_op_importers.cpp, docs/operators.md per release). TensorRT itself was not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.export.edge.tensorrt_rules import operators_of
from paddle_tk.export.graph.edit import DEFAULT_DOMAINS, attribute, opset_of
from paddle_tk.export.graph.shapes import tensor_shapes
from paddle_tk.runtime.base import Array

# TensorRT release -> newest (opset, IR version) that its parser reads.
LIMITS = {"8.2": (13, 7), "8.5": (17, 8), "10.3": (20, 10)}
_INT64_SINCE = (10, 0)
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ACTIVATIONS = ("Relu", "Clip")
_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_REQUANTIZE = "quantize again with --target tensorrt"


@dataclass(frozen=True)
class Violation:
    """A rule that a graph breaks.

    Attributes:
        rule: Its name.
        node: The node, or tensor, that breaks it.
        found: What was found there.
        fix: What to do.
        severity: "error", or "warning" where TensorRT takes it but not as it stands there.
    """

    rule: str
    node: str
    found: str
    fix: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.rule}: {self.node}: {self.found}. Fix: {self.fix}"


def check(model: onnx.ModelProto, tensorrt: str = "8.2") -> list[Violation]:
    """Looks for what TensorRT would refuse, or would not compute in INT8.

    Args:
        model: An INT8 graph.
        tensorrt: A release in ``LIMITS``.

    Returns:
        Every violation of every rule, warnings last; none for a graph that keeps to all of them.

    Raises:
        BadInput: An unknown release.
    """
    if tensorrt not in LIMITS:
        raise BadInput(f"no rules are known for TensorRT {tensorrt}", f"choose one of {', '.join(LIMITS)}")
    graph = _Graph(model)
    found = list(_versions(model, tensorrt))
    if graph.problem:
        found.append(Violation("valid ONNX", "model", graph.problem, _REQUANTIZE))
    found += _operators(graph, tensorrt)
    for rule in _RULES:
        found += rule(graph)
    found += _int64(graph, tensorrt)
    return sorted(found, key=lambda violation: violation.severity == "warning")


class _Graph:
    """Lookup tables."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        self._held = {tensor.name: tensor for tensor in model.graph.initializer}
        self._maker = {name: node for node in self.nodes for name in node.output}
        self.types: dict[str, int] = {}
        self.problem = ""
        try:
            self.types = tensor_shapes(model).types
        except ArtifactError as error:
            self.problem = error.problem

    def maker(self, tensor: str, *kinds: str) -> Any | None:
        """Returns the node that makes a tensor, where it is of one of the kinds."""
        node = self._maker.get(tensor)
        return node if node is not None and (not kinds or node.op_type in kinds) else None

    def readers(self, tensor: str) -> list[Any]:
        return [node for node in self.nodes if tensor in node.input]

    def held(self, name: str) -> Any | None:
        return self._held.get(name)

    def values(self, name: str) -> Array | None:
        tensor = self._held.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))

    def of(self, *kinds: str) -> Iterator[Any]:
        return (node for node in self.nodes if node.op_type in kinds)

    def rounded(self, tensor: str) -> Any | None:
        """Returns the Q before the DQ that makes a tensor; None where that is not how it is made."""
        back = self.maker(tensor, _DQ)
        return None if back is None else self.maker(back.input[0], _Q)


def _versions(model: onnx.ModelProto, tensorrt: str) -> Iterator[Violation]:
    opset, ir_version = LIMITS[tensorrt]
    for what, found, most in (("opset", opset_of(model), opset), ("IR version", int(model.ir_version), ir_version)):
        if found > most:
            yield Violation("version", "model", f"{what} {found}, TensorRT {tensorrt} reads up to {most}",
                            f"export with --opset {opset}")  # fmt: skip
    for value in model.graph.input:
        if any(not dim.dim_value for dim in value.type.tensor_type.shape.dim):
            yield Violation("fixed shape", value.name, "a free dimension, which needs an optimization profile",
                            "export without --dynamic-batch", "warning")  # fmt: skip


def _operators(graph: _Graph, tensorrt: str) -> Iterator[Violation]:
    table = operators_of(tensorrt)
    for node in graph.nodes:
        kind = node.op_type
        if node.domain not in DEFAULT_DOMAINS or kind.startswith("QLinear") or kind.endswith("Integer") or (
            kind == "DynamicQuantizeLinear"
        ):  # fmt: skip
            yield Violation("no QOperator", node.name, f"{kind}, an integer operator", _REQUANTIZE)
        elif kind not in table.supported | table.uncertain:
            yield Violation(
                "operator", node.name, f"TensorRT {tensorrt} does not take {kind}", "cut the graph before it"
            )


def _zero_points(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of(_Q, _DQ):
        zero = graph.values(node.input[2]) if len(node.input) == 3 else None
        if zero is None:
            yield Violation("three inputs", node.name, f"{node.op_type} without a constant zero point", _REQUANTIZE)
        elif zero.dtype != np.int8:
            yield Violation("int8", node.name, f"{node.op_type} with {zero.dtype}", _REQUANTIZE)
        elif zero.any():
            yield Violation("zero point 0", node.name, f"zero point {int(zero.reshape(-1)[0])}", _REQUANTIZE)


def _scales(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of(_Q, _DQ):
        scale = graph.values(node.input[1])
        if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
            told = "no constant scale" if scale is None else f"a scale of {float(scale.min()):g}"
            yield Violation("positive scale", node.name, told, _REQUANTIZE)
        elif graph.held(node.input[0]) is None and scale.size != 1:
            yield Violation("one scale per activation", node.name, f"{scale.size} scales", _REQUANTIZE)


def _weights(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of(*_WEIGHTED):
        # A node that was left in float reads neither.
        back = graph.maker(node.input[1], _DQ)
        if back is None:
            if graph.rounded(node.input[0]) is not None and graph.held(node.input[1]) is not None:
                yield Violation("rounded weights", node.name, "a rounded input and a float weight", _REQUANTIZE)
            continue
        if graph.rounded(node.input[0]) is None:
            yield Violation("rounded input", node.name, "a rounded weight and a float input", _REQUANTIZE)
        stored, scale = graph.held(back.input[0]), graph.values(back.input[1])
        if stored is None or stored.data_type != onnx.TensorProto.INT8:
            yield Violation("stored as int8", back.name, "a weight that is no int8 constant", _REQUANTIZE)
        elif scale is None or scale.shape != (stored.dims[0],) or attribute(back, "axis", 1) != 0:
            shape = None if scale is None else list(scale.shape)
            told = f"scales {shape} on axis {attribute(back, 'axis', 1)} of a weight {list(stored.dims)}"
            yield Violation("scales on axis 0", back.name, told, _REQUANTIZE)


def _biases(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of(_DQ):
        stored = graph.held(node.input[0])
        if stored is not None and stored.data_type == onnx.TensorProto.INT32:
            yield Violation("float bias", node.name, "an INT32 bias behind a DQ (onnxruntime issue 14229)", _REQUANTIZE)


def _inputs_of_q(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of(_Q):
        if graph.held(node.input[0]) is not None:
            yield Violation("FP32 input of Q", node.name, "a float constant that is rounded when it runs", _REQUANTIZE)
        elif graph.types.get(node.input[0], onnx.TensorProto.FLOAT) != onnx.TensorProto.FLOAT:
            kind = onnx.TensorProto.DataType.Name(graph.types[node.input[0]])
            yield Violation("FP32 input of Q", node.name, f"an input of type {kind}", _REQUANTIZE)


def _fused(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of("BatchNormalization"):
        before = graph.rounded(node.input[0])
        source = node.input[0] if before is None else before.input[0]
        # One behind a Concat or a pooling (DenseNet) has nothing to be folded into; TensorRT takes it in float.
        if graph.maker(source, *_WEIGHTED) is not None:
            yield Violation("batch norm folded", node.name, "a BatchNormalization behind a layer with weights",
                            "export the model again")  # fmt: skip
        elif before is not None:
            yield Violation("batch norm folded", node.name, "a BatchNormalization of a rounded tensor", _REQUANTIZE)
    for node in graph.of(*_ACTIVATIONS):
        before = graph.rounded(node.input[0])
        if before is not None and graph.maker(before.input[0], *_WEIGHTED, "Add") is not None:
            yield Violation("nothing before an activation", node.name, "Q/DQ between a layer and its activation",
                            _REQUANTIZE)  # fmt: skip


def _residual(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of("Add"):
        direct = [graph.maker(name, "Conv") for name in node.input]
        quantized = [graph.rounded(name) for name in node.input]
        of_conv = [q is not None and graph.maker(q.input[0], "Conv") is not None for q in quantized]
        integer = [conv is not None and graph.maker(conv.input[1], _DQ) is not None for conv in direct]
        if all(of_conv) or (any(of_conv) and not any(integer) and all(q is not None for q in quantized)):
            yield Violation(
                "residual, main branch", node.name, "Q/DQ behind the main branch's convolution", _REQUANTIZE
            )
        elif any(integer) and all(q is None for q in quantized) and not any(graph.held(name) for name in node.input):
            yield Violation("residual, skip side", node.name, "a skip input that is not rounded", _REQUANTIZE)


def _float_only(graph: _Graph) -> Iterator[Violation]:
    for node in graph.of("Softmax"):
        rounded_after = any(reader.op_type == _Q for reader in graph.readers(node.output[0]))
        if graph.rounded(node.input[0]) is not None or rounded_after:
            yield Violation("float Softmax", node.name, "Q/DQ at a Softmax", _REQUANTIZE)
    for node in graph.of("Resize"):
        if graph.rounded(node.input[0]) is not None:
            yield Violation("nothing before Resize", node.name, "Q/DQ before a Resize", _REQUANTIZE)


def _int64(graph: _Graph, tensorrt: str) -> Iterator[Violation]:
    """Before TensorRT 10 what is computed in INT64 is computed in INT32; constants of shapes and axes do not matter."""
    if tuple(map(int, tensorrt.split("."))) >= _INT64_SINCE:
        return
    given = [value.name for value in graph.model.graph.input]
    for name in (*given, *(name for node in graph.nodes for name in node.output)):
        if graph.types.get(name) == onnx.TensorProto.INT64 and graph.held(name) is None:
            yield Violation("no INT64", name, f"an INT64 tensor, which TensorRT {tensorrt} computes in INT32",
                            "export with --target-device, or cut the graph before it", "warning")  # fmt: skip


_RULES: tuple[Callable[[_Graph], Iterator[Violation]], ...] = (
    _zero_points, _scales, _weights, _biases, _inputs_of_q, _fused, _residual, _float_only,
)  # fmt: skip
