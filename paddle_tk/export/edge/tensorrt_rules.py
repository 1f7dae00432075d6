"""What the ONNX parser of a TensorRT release cannot take."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import numpy_helper

from paddle_tk.export.edge.devices import Device
from paddle_tk.export.edge.findings import Finding
from paddle_tk.export.graph.edit import DEFAULT_DOMAINS, attribute

_INTEGER_FORM = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_FIXES = {
    "HardSwish": "export it at opset 13, where it is made of other operators, or train with model.activation=relu6",
    "Mod": "write index % n as index - (index // n) * n, or cut the graph before it",
    "NonZero": "cut the graph before it and do the rest in the runner",
    "NonMaxSuppression": "export without NMS; the runner does it",
    "RoiAlign": "no detector with regions of interest runs there",
    "OneHot": "compare with a constant range (Equal) instead",
}
# (operator, input): the parser wants a constant there; since which release it does not any more, None: still.
_CONSTANT_INPUTS: Mapping[tuple[str, int], str | None] = {
    ("Conv", 1): "8.5",
    ("ConvTranspose", 1): "8.5",
    ("CumSum", 1): None,
    ("Slice", 3): "10.3",
    ("Squeeze", 1): None,
    ("TopK", 1): "10.3",
    ("Unsqueeze", 1): None,
    ("InstanceNormalization", 1): "10.3",
    ("InstanceNormalization", 2): "10.3",
}
_MOST_TOP_K = 3840
_RESIZE_MODES = ("nearest", "linear")
_RESIZE_TRANSFORMS = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_INT32 = np.iinfo(np.int32)
# Before TensorRT 9.0 the parser casts INT64 to INT32 (onnx-tensorrt docs/Changelog.md).
_INT64_SINCE = (9, 0)
_CHANGELOG = "onnx-tensorrt docs/Changelog.md and docs/operators.md"
_TOP_K_SOURCE = "TensorRT, TopK layer: K at most 3840"
_QDQ_SOURCE = "onnx-tensorrt docs/operators.md (zero points must be 0) and builtin_op_importers.cpp"


@dataclass(frozen=True)
class Operators:
    """Operators of the ONNX standard that a TensorRT release takes.

    Attributes:
        supported: Listed as supported.
        uncertain: Listed as experimental, or not known for this very release.
        source: Where the lists were read.
    """

    supported: frozenset[str]
    uncertain: frozenset[str]
    source: str


@lru_cache(maxsize=1)
def _tables() -> dict[str, Operators]:
    text = importlib.resources.files(__package__).joinpath("tensorrt_operators.yaml").read_text(encoding="utf-8")
    return {
        release: Operators(frozenset(raw["supported"].split()), frozenset(raw["uncertain"].split()), raw["source"])
        for release, raw in yaml.safe_load(text).items()
    }


def operators_of(release: str) -> Operators:
    """Returns the operators that a TensorRT release ("8.2") takes.

    Raises:
        KeyError: No list of this release.
    """
    return _tables()[release]


def tensorrt_findings(model: onnx.ModelProto, nodes: list[Any], device: Device) -> list[Finding]:
    """Returns what the parser of a device's TensorRT cannot take in a model.

    Args:
        model: The model.
        nodes: All its nodes, those in branches and loops included.
        device: One with TensorRT.
    """
    release = device.tensorrt_release
    assert release is not None
    constants = _Constants(model, nodes)
    return [
        *_operator_findings(nodes, release),
        *_constant_findings(nodes, constants, release),
        *_top_k_findings(nodes, constants),
        *_pool_findings(nodes, release),
        *_resize_findings(nodes),
        *_quantization_findings(nodes, constants, device),
        *_type_findings(model, nodes, constants, release),
    ]


class _Constants:
    """Tensors whose value the parser knows."""

    def __init__(self, model: onnx.ModelProto, nodes: list[Any]) -> None:
        # Old files also list their initializers as inputs; the parser takes them for weights all the same.
        self._held = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in nodes:
            if node.op_type == "Constant" and (value := attribute(node, "value")) is not None:
                self._held[node.output[0]] = value
        self._known = set(self._held) | {name for n in nodes if n.op_type == "Constant" for name in n.output}
        for node in nodes:
            if node.op_type in ("Identity", "DequantizeLinear", "QuantizeLinear") and node.input[0] in self._known:
                self._known.add(node.output[0])

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def value(self, name: str) -> Any:
        """Returns a tensor's values, None where they are not at hand."""
        tensor = self._held.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def tensors(self) -> Iterable[tuple[str, Any]]:
        """Returns (name, tensor) of all constants."""
        return self._held.items()


def _operator_findings(nodes: list[Any], release: str) -> Iterator[Finding]:
    table, engine = operators_of(release), f"TensorRT {release}"
    seen: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        seen.setdefault((node.domain, node.op_type), []).append(node.name or node.output[0])
    for (domain, operator), names in seen.items():
        where = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        if domain not in DEFAULT_DOMAINS or operator in _INTEGER_FORM:
            told = f"{domain}.{operator}" if domain not in DEFAULT_DOMAINS else operator
            fix = "quantize with --target tensorrt, which writes Q/DQ" if _is_integer(operator) else "use ONNX's own"
            yield Finding("error", "operator", where, f"{engine} does not take {told}", table.source, fix)
        elif operator in table.uncertain:
            problem = f"whether {engine} takes {operator} is not certain"
            yield Finding("warning", "operator", where, problem, table.source, _fix(operator))
        elif operator not in table.supported:
            problem = f"{engine} does not take the operator {operator}"
            yield Finding("error", "operator", where, problem, table.source, _fix(operator))


def _is_integer(operator: str) -> bool:
    return operator in _INTEGER_FORM or operator.startswith(("QLinear", "QGemm", "QAttention"))


def _fix(operator: str) -> str:
    return _FIXES.get(operator, "cut the graph before it, or replace it by operators that are listed")


def _older(release: str, than: str) -> bool:
    return tuple(map(int, release.split("."))) < tuple(map(int, than.split(".")))


def _constant_findings(nodes: list[Any], constants: _Constants, release: str) -> Iterator[Finding]:
    for node in nodes:
        for place, name in enumerate(node.input):
            key = (node.op_type, place)
            if key not in _CONSTANT_INPUTS or not name or name in constants:
                continue
            until = _CONSTANT_INPUTS[key]
            if until is None or _older(release, until):
                problem = (
                    f"{node.op_type} reads input {place} ('{name}') from another node, the parser wants a constant"
                )
                yield Finding("error", "constant_input", node.name, problem, operators_of(release).source,
                              "fold constants, or cut the graph before it")  # fmt: skip


def _top_k_findings(nodes: list[Any], constants: _Constants) -> Iterator[Finding]:
    for node in nodes:
        if node.op_type != "TopK":
            continue
        value = constants.value(node.input[1]) if len(node.input) > 1 else attribute(node, "k")
        if value is not None and int(np.asarray(value).reshape(-1)[0]) > _MOST_TOP_K:
            problem = f"TopK with K = {int(np.asarray(value).reshape(-1)[0])}, at most {_MOST_TOP_K} are possible"
            yield Finding("error", "top_k", node.name, problem, _TOP_K_SOURCE, "cut the graph before it")


def _pool_findings(nodes: list[Any], release: str) -> Iterator[Finding]:
    for node in nodes:
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            yield Finding("error", "max_pool", node.name, "MaxPool also returns indices, which is not supported",
                          operators_of(release).source, "leave the second output out")  # fmt: skip


def _resize_findings(nodes: list[Any]) -> Iterator[Finding]:
    for node in nodes:
        if node.op_type != "Resize":
            continue
        mode = attribute(node, "mode", b"nearest").decode()
        transform = attribute(node, "coordinate_transformation_mode", b"half_pixel").decode()
        wrong = [
            *([f"mode '{mode}'"] if mode not in _RESIZE_MODES else []),
            *([f"coordinates '{transform}'"] if transform not in _RESIZE_TRANSFORMS else []),
            *(["antialias"] if attribute(node, "antialias", 0) else []),
        ]
        if wrong:
            yield Finding("error", "resize", node.name, f"Resize with {', '.join(wrong)}", _CHANGELOG,
                          "use nearest or linear with half_pixel or asymmetric")  # fmt: skip


def _quantization_findings(nodes: list[Any], constants: _Constants, device: Device) -> Iterator[Finding]:
    quantized = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if quantized and not device.int8:
        problem = f"the graph holds {len(quantized)} Q/DQ nodes; the GPU of {device.title} has no INT8"
        yield Finding("error", "no_int8", quantized[0].name, problem, device.provenance["int8"].source.title,
                      "build its engine from the FP32 file, with --fp16")  # fmt: skip
        return
    wrong: dict[str, list[str]] = {}
    for node in quantized:
        for problem in _wrong_form(node, constants):
            wrong.setdefault(problem, []).append(node.name or node.output[0])
    for problem, names in wrong.items():
        more = f", {len(names)} times" if len(names) > 1 else ""
        yield Finding("error", "quantization", names[0], problem + more, _QDQ_SOURCE, "quantize with --target tensorrt")


def _wrong_form(node: Any, constants: _Constants) -> Iterator[str]:
    zero = constants.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    held = constants.value(node.input[0])
    if node.op_type == "DequantizeLinear" and held is not None and held.dtype == np.int32:
        yield "DequantizeLinear of an INT32 bias, which the parser rejects (onnxruntime issue 14229)"
    elif zero is not None and zero.dtype != np.int8:
        yield f"{node.op_type} to {zero.dtype}, the parser takes INT8"
    elif zero is not None and np.any(zero):
        yield f"{node.op_type} with a zero point other than 0"


def _type_findings(model: onnx.ModelProto, nodes: list[Any], constants: _Constants, release: str) -> Iterator[Finding]:
    if tuple(map(int, release.split("."))) >= _INT64_SINCE:
        return
    held = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name not in held and value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            problem = f"'{value.name}' is INT64; TensorRT before 9.0 binds it as INT32"
            yield Finding("error", "int64", value.name, problem, _CHANGELOG, "cast it to INT32 or FLOAT in the graph")
    limits = {name for node in nodes if node.op_type == "Slice" for name in node.input[1:3]}
    cast = 0
    for name, tensor in constants.tensors():
        if tensor.data_type != onnx.TensorProto.INT64:
            continue
        values = numpy_helper.to_array(tensor)
        outside = values.size > 0 and (int(values.min()) < _INT32.min or int(values.max()) > _INT32.max)
        cast += 1
        # A slice to "the end" is written as the largest INT64; the parser clamps it, which means the same.
        if outside and name not in limits:
            problem = f"an INT64 constant holds {int(values.max())} and {int(values.min())}, beyond INT32"
            yield Finding("error", "int64", name, problem, _CHANGELOG, "write it with values that INT32 can hold")
    if cast:
        yield Finding("info", "int64", "", f"{cast} INT64 constants will be cast to INT32", _CHANGELOG, "none needed")
