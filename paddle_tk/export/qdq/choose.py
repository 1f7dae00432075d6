"""Builds an INT8 graph, and leaves the layers in float that cost more accuracy than is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from paddle_tk.export.qdq.build import build
from paddle_tk.export.qdq.plan import Plan, Target, make_plan
from paddle_tk.export.qdq.sensitivity import Distance, Sensitivity, rank_nodes
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.onnx_predictor import TensorReader
from paddle_tk.types import TensorRange

# Accuracy that is lost with so many of the worst layers in float is tried in this order.
_STEPS = (1, 2, 4, 8, 16, 32, 64)
Loss = Callable[[onnx.ModelProto], float]


@dataclass(frozen=True)
class Chosen:
    """An INT8 graph.

    Attributes:
        model: The graph.
        plan: What computes in integers.
        ranked: The layers by what rounding each alone does; empty where no layer had to be left in float.
        loss: What ``Loss`` said of it, on the images that the choice was made on.
        tried: Loss by the number of layers left in float.
    """

    model: onnx.ModelProto
    plan: Plan
    ranked: tuple[Sensitivity, ...]
    loss: float | None
    tried: Mapping[int, float]


def choose_layers(
    model: onnx.ModelProto,
    target: Target,
    ranges: Mapping[str, TensorRange],
    *,
    weight_bits: int,
    keep: Mapping[str, str],
    loss: Loss | None,
    max_loss: float,
    images: Array,
    distance: Distance,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Chosen:
    """Quantizes everything, or everything but the layers that hurt.

    Args:
        model: The float graph, prepared.
        target: Whose form.
        ranges: Of every tensor that a full plan rounds.
        weight_bits: 8, or 7 for x86 processors without VNNI.
        keep: Names of nodes that stay in float whatever is measured, and why.
        loss: How much of the main metric an INT8 graph loses, a share, on images that the final figures are not taken
            from; None: it cannot be measured, so everything is quantized.
        max_loss: What may be lost.
        images: float32 (n, 3, H, W) that the layers are ranked on.
        distance: How far two models' outputs are apart, for the ranking.
        threads: CPU threads of ONNX Runtime.
        say: Told what is done.
    """
    plan = make_plan(GraphView(model), target, keep)
    full = build(model, plan, ranges, weight_bits=weight_bits)
    if loss is None:
        return Chosen(full, plan, (), None, {})
    lost = loss(full)
    tried = {0: lost}
    if lost <= max_loss:
        return Chosen(full, plan, (), lost, tried)
    say(f"the INT8 model loses {100 * lost:.2f} points where {100 * max_loss:g} are allowed: looking for the layers")
    ranked = rank_nodes(
        model, target, ranges, _runner(images, threads), nodes=plan.weighted, distance=distance, weight_bits=weight_bits
    )
    best = Chosen(full, plan, tuple(ranked), lost, tried)
    for count in _STEPS:
        if count >= len(ranked):
            break
        skip = {**keep, **_reasons(ranked[:count], len(ranked))}
        plan = make_plan(GraphView(model), target, skip)
        candidate = build(model, plan, ranges, weight_bits=weight_bits)
        tried[count] = loss(candidate)
        say(f"{count} layer(s) in float: {100 * tried[count]:.2f} points lost")
        if best.loss is None or tried[count] < best.loss:
            best = Chosen(candidate, plan, tuple(ranked), tried[count], tried)
        if tried[count] <= max_loss:
            break
    return best


def _reasons(worst: list[Sensitivity], total: int) -> dict[str, str]:
    return {
        entry.node: f"rounding it alone moves the outputs by {100 * entry.error:.2g} %, rank {i} of {total}"
        for i, entry in enumerate(worst, 1)
    }


def _runner(images: Array, threads: int) -> Callable[[onnx.ModelProto], tuple[Array, ...]]:
    def run(model: onnx.ModelProto) -> tuple[Array, ...]:
        names = [value.name for value in model.graph.output]
        found = TensorReader(model.SerializeToString(), names, threads=threads).read(images)
        return tuple(found[name] for name in names)

    return run
