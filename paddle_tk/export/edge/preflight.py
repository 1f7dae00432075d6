"""Reads a graph for what a device's engine cannot take, before anything is copied there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from paddle_tk.export.edge.device_table import Engine
from paddle_tk.export.edge.devices import Device
from paddle_tk.export.edge.findings import Finding, Preflight, sorted_findings
from paddle_tk.export.edge.tensorrt_rules import tensorrt_findings
from paddle_tk.export.graph.edit import DEFAULT_DOMAINS, opset_of, subgraphs
from paddle_tk.export.graph.shapes import tensor_shapes

_ONNX_ML, _CONTRIB = "ai.onnx.ml", "com.microsoft"


def preflight(model: onnx.ModelProto, device: Device, *, engine: Engine, file: str = "model.onnx") -> Preflight:
    """Checks a model against an engine of a device.

    Args:
        model: The model; its weights may be missing.
        device: From ``load_device``.
        engine: The engine that is to run it there.
        file: What the file is called in the report.

    Raises:
        ValueError: The device has no such engine.
    """
    if engine == "tensorrt" and device.tensorrt is None:
        raise ValueError(f"{device.name} has no TensorRT")
    nodes = list(_nodes(model.graph))
    found = [*_version_findings(model, device, engine), *_shape_findings(model)]
    if engine == "tensorrt":
        found += tensorrt_findings(model, nodes, device)
    else:
        found += _runtime_findings(nodes, device)
    return Preflight(device.name, engine, file, sorted_findings(found))


def _nodes(graph: Any) -> Iterator[Any]:
    """Yields all nodes, those in branches and loops included."""
    for node in graph.node:
        yield node
        for body in subgraphs(node):
            yield from _nodes(body)


def _version_findings(model: onnx.ModelProto, device: Device, engine: Engine) -> Iterator[Finding]:
    most_opset, most_ir = device.limits(engine)
    prefix = "" if engine == "tensorrt" else "onnxruntime_"
    ran_by = f"TensorRT {device.tensorrt}" if engine == "tensorrt" else f"ONNX Runtime {device.onnxruntime}"
    opset = opset_of(model)
    if opset > most_opset:
        source = device.provenance[f"{prefix}opset"].source.title
        problem = f"the model is written in opset {opset}, {ran_by} takes at most {most_opset}"
        yield Finding("error", "opset", "", problem, source, f"export it with --opset {most_opset}")
    if model.ir_version > most_ir:
        source = device.provenance["ir_version" if engine == "tensorrt" else "onnxruntime_ir"].source.title
        problem = f"the file has IR version {model.ir_version}, {ran_by} takes at most {most_ir}"
        fix = f"write it with IR version {most_ir}: tools/optimize_for_edge.py does so for a Paddle model"
        yield Finding("error", "ir_version", "", problem, source, fix)


def _shape_findings(model: onnx.ModelProto) -> Iterator[Finding]:
    known = tensor_shapes(model)
    held = {tensor.name for tensor in model.graph.initializer}
    source = "the bundle's runner and build script: buffers of fixed size, no optimization profile"
    for value in model.graph.input:
        if value.name not in held and known.fixed(value.name) is None:
            shape = list(known.shapes.get(value.name, ("unknown",)))
            yield Finding(
                "error", "dynamic_shape", value.name, f"the input has the free shape {shape}", source,
                "export it with a fixed batch, without --dynamic-batch",
            )  # fmt: skip
    for value in model.graph.output:
        declared = value.type.tensor_type.shape.dim
        if known.fixed(value.name) is None and not (declared and all(dim.dim_value > 0 for dim in declared)):
            shape = list(known.shapes.get(value.name, ("unknown",)))
            yield Finding(
                "error", "dynamic_shape", value.name, f"the output's shape {shape} is not known before it runs",
                source, "cut the graph before the node that decides on it (top-k, NMS)",
            )  # fmt: skip


def _runtime_findings(nodes: list[Any], device: Device) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for node in nodes:
        operator = (node.domain, node.op_type)
        if node.domain in (*DEFAULT_DOMAINS, _ONNX_ML) or operator in seen:
            continue
        seen.add(operator)
        name = f"{node.domain}.{node.op_type}"
        if node.domain == _CONTRIB:
            problem = f"{name} is ONNX Runtime's own operator, which may differ in {device.onnxruntime}"
            fix = "run the self-test on the device"
            yield Finding("warning", "operator", node.name, problem, "ONNX Runtime, ContribOperators.md", fix)
        else:
            problem = f"ONNX Runtime {device.onnxruntime} does not know the operator {name}"
            yield Finding("error", "operator", node.name, problem, "ONNX Runtime, operators",
                          "write it with standard operators")  # fmt: skip
