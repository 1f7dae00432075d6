"""What a quantized graph holds, read from the graph itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from paddle_tk.export.qdq.plan import Plan
from paddle_tk.types import QuantizationReport


def report(
    model: onnx.ModelProto, plan: Plan, *, method: str, algorithm: str, calibration: Mapping[str, object]
) -> QuantizationReport:
    """Tells what was quantized and what was not.

    Args:
        model: What ``build`` made of the plan.
        plan: The plan.
        method: "ptq" or "qat".
        algorithm: The observer.
        calibration: What the ranges come from.
    """
    return QuantizationReport(
        target=plan.target,
        method=method,
        algorithm=algorithm,
        quantized=(*plan.weighted, *plan.arithmetic),
        skipped=dict(plan.skipped),
        calibration=dict(calibration),
        scales=_scales(model),
    )


def _scales(model: onnx.ModelProto) -> dict[str, dict[str, float]]:
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    quantized = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    kinds: dict[str, list[float]] = {"activations": [], "weights": []}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[1] not in held:
            continue
        stored = held.get(node.input[0])
        if stored is None and node.input[0] in quantized:
            kinds["activations"] += numpy_helper.to_array(held[node.input[1]]).reshape(-1).tolist()
        elif stored is not None and stored.data_type == onnx.TensorProto.INT8:
            kinds["weights"] += numpy_helper.to_array(held[node.input[1]]).reshape(-1).tolist()
    return {
        kind: {"n": len(v), "smallest": min(v), "median": float(np.median(v)), "largest": max(v)}
        for kind, v in kinds.items()
        if v
    }
