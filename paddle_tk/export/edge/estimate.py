"""What a model will take on a device, from the device's peak figures: estimated, never measured.

Latency follows the roofline model (Williams, Waterman and Patterson 2009): a node takes the longer of its arithmetic
and its memory traffic. The range comes from the shares of the peaks that a network reaches (``Assumptions``) and from
whether elementwise nodes are fused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import onnx

from paddle_tk.export.edge.cost import GraphCost, NodeCost, graph_cost
from paddle_tk.export.edge.device_table import Engine
from paddle_tk.export.edge.devices import Assumptions, Device, Performance, assumptions_of
from paddle_tk.export.edge.findings import Finding
from paddle_tk.files import MIB

Precision = Literal["fp32", "fp16", "int8"]
_MS, _US = 1e3, 1e6


@dataclass(frozen=True)
class Latency:
    """Estimated time of one run.

    Attributes:
        state: The device's state ("25 W (Super)").
        low_ms: With everything fused and the best shares of the peaks.
        high_ms: With nothing fused and the worst.
    """

    state: str
    low_ms: float
    high_ms: float

    def line(self) -> str:
        """Returns the range in words."""
        return f"{self.low_ms:.3g} to {self.high_ms:.3g} ms ({self.state}, estimated)"


@dataclass(frozen=True)
class Estimate:
    """What one run of a model takes on one engine of a device; Python, libraries and CUDA itself come on top.

    Attributes:
        engine: "tensorrt" or "onnxruntime".
        precision: What the engine computes in.
        flops: Operations of one run, a multiply-add counting as two.
        weights_mib: Constants as the engine keeps them.
        activations_mib: Largest sum of activations alive at once: with and without reuse by elementwise nodes.
        workspace_mib: Scratch memory that the engine may take.
        low_mib: Least memory in all.
        high_mib: Most memory in all.
        latency: One range per state of the device; empty where the device table has no peak figures.
        reason: Why there is no latency, "" where there is one.
        unknown: Nodes of unknown shape, which are in no sum.
        origin: Always "estimated".
    """

    engine: Engine
    precision: Precision
    flops: int
    weights_mib: float
    activations_mib: tuple[float, float]
    workspace_mib: float
    low_mib: float
    high_mib: float
    latency: tuple[Latency, ...]
    reason: str
    unknown: tuple[str, ...]
    origin: Literal["estimated"] = "estimated"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {**asdict(self), "latency": [asdict(entry) for entry in self.latency], "unknown": list(self.unknown)}


def estimate(
    model: onnx.ModelProto, device: Device, *, engine: Engine, precision: Precision, workspace_mib: float = 0.0
) -> Estimate:
    """Estimates memory and latency of a model.

    Args:
        model: Its input shapes are fixed.
        device: From ``load_device``.
        engine: What runs it there.
        precision: What the engine computes in; an "int8" model holds Q/DQ.
        workspace_mib: Scratch memory that the engine is allowed, in MiB.

    Raises:
        ValueError: FP16 is asked of ONNX Runtime's CPU kernels.
    """
    if engine == "onnxruntime" and precision == "fp16":
        raise ValueError("ONNX Runtime's CPU kernels do not compute in FP16")
    cost = graph_cost(model, float_bytes=2 if precision == "fp16" else 4)
    weights, live = cost.weight_bytes / MIB, (cost.least_live_bytes / MIB, cost.most_live_bytes / MIB)
    reason = "" if engine == device.engine else f"the device table has no figures of the CPU of {device.title}"
    if not reason and not device.performance:
        reason = f"the device table has no peak figures of any {device.title}: measure it with --benchmark"
    ranges = (
        [] if reason else [_latency(cost, state, assumptions_of(engine), precision) for state in device.performance]
    )
    return Estimate(
        engine=engine,
        precision=precision,
        flops=cost.flops,
        weights_mib=weights,
        activations_mib=live,
        workspace_mib=workspace_mib,
        low_mib=weights + live[0],
        # While a model is loaded, its file and the engine's own copy of the weights are both there.
        high_mib=2 * weights + live[1] + workspace_mib,
        latency=tuple(ranges),
        reason=reason,
        unknown=cost.unknown,
    )


def _latency(cost: GraphCost, state: Performance, assumed: Assumptions, precision: Precision) -> Latency:
    # kernel_start_us is (least, most), the shares are (worst, best).
    low = _seconds((n for n in cost.nodes if not n.fused), state, precision, assumed.compute_share[1],
                   assumed.bandwidth_share[1], assumed.kernel_start_us[0])  # fmt: skip
    high = _seconds(cost.nodes, state, precision, assumed.compute_share[0], assumed.bandwidth_share[0],
                    assumed.kernel_start_us[1])  # fmt: skip
    return Latency(state.name, low * _MS, high * _MS)


def _seconds(
    nodes: Iterable[NodeCost], state: Performance, precision: Precision, compute: float, bandwidth: float, start: float
) -> float:
    total = 0.0
    for node in nodes:
        arithmetic = node.flops / (_peak(state, precision, node) * 1e12 * compute)
        traffic = node.bytes / (state.bandwidth_gb_s * 1e9 * bandwidth)
        total += max(arithmetic, traffic) + start / _US
    return total


def _peak(state: Performance, precision: Precision, node: NodeCost) -> float:
    """Returns 10^12 operations per second for a node; where a device has no faster way, that of FP32."""
    if node.integer and state.int8_tops is not None:
        return state.int8_tops
    if precision == "fp32" or state.fp16_tflops is None:
        return state.fp32_tflops
    return state.fp16_tflops  # what an INT8 engine does not compute in INT8


def memory_findings(found: Estimate, device: Device) -> list[Finding]:
    """Returns what the estimated memory means on a device that is sold with so much of it."""
    if device.ram_gb is None:
        return []
    least, most = (size * 1e9 / MIB for size in device.ram_gb)
    source = f"estimated; memory of the device: {device.provenance['ram_gb'].source.title}"
    told = f"the model takes about {found.low_mib:.0f} to {found.high_mib:.0f} MiB"
    if found.low_mib > most:
        problem = f"{told}, {device.title} has {most:.0f} MiB in all"
        return [Finding("error", "memory", "", problem, source, "use a smaller network, input or batch")]
    if found.high_mib > least:
        problem = f"{told}, the smallest {device.title} has {least:.0f} MiB in all"
        return [Finding("warning", "memory", "", problem, source, "use a smaller network, input or batch")]
    return []
