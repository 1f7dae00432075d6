"""Which nodes lose most by being rounded: each is rounded alone and the outputs compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from paddle_tk.export.qdq.build import build
from paddle_tk.export.qdq.plan import Target, make_plan
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.runtime.base import Array
from paddle_tk.types import TensorRange

Run = Callable[[onnx.ModelProto], tuple[Array, ...]]
Distance = Callable[[tuple[Array, ...], tuple[Array, ...]], float]
_SURE = 0.1  # score of a place where something is seen
_ALONE = "only one node is rounded at a time"


@dataclass(frozen=True)
class Sensitivity:
    """What rounding one node alone does.

    Attributes:
        node: Its name.
        error: How far the outputs move: what the ``Distance`` says.
    """

    node: str
    error: float


def rank_nodes(
    model: onnx.ModelProto,
    target: Target,
    ranges: Mapping[str, TensorRange],
    run: Run,
    *,
    nodes: Sequence[str],
    distance: Distance,
    weight_bits: int = 8,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Sensitivity]:
    """Measures how much each node's rounding changes the outputs.

    Args:
        model: The float model, prepared.
        target: As for ``make_plan``.
        ranges: Of every tensor that a full plan rounds.
        run: Computes a model's outputs on fixed images.
        nodes: Names of the nodes in question.
        distance: (float outputs, outputs) -> how far they are apart.
        weight_bits: As for ``build``.
        advance: Called with 1 for each node.

    Returns:
        The nodes, the worst first.
    """
    right = run(model)
    view = GraphView(model)
    every = make_plan(view, target)
    found = []
    for name in nodes:
        others = {other: _ALONE for other in (*every.weighted, *every.arithmetic) if other != name}
        plan = make_plan(view, target, others)
        # Alone it may be fed and read by float nodes, whose tensors the full plan does not round.
        known = {tensor: ranges[tensor] for tensor in plan.ranges if tensor in ranges}
        if len(known) == len(plan.ranges):
            found.append(Sensitivity(name, distance(right, run(build(model, plan, known, weight_bits=weight_bits)))))
        advance(1)
    return sorted(found, key=lambda entry: -entry.error)


def logit_distance(right: tuple[Array, ...], found: tuple[Array, ...]) -> float:
    """Returns ||found - right|| / ||right|| of a classifier's logits, or of the output that moves most."""
    shares = [
        np.linalg.norm((f - r).astype(np.float64)) / max(float(np.linalg.norm(r.astype(np.float64))), 1e-12)
        for r, f in zip(right, found, strict=True)
    ]
    return float(max(shares))


def box_distance(right: tuple[Array, ...], found: tuple[Array, ...]) -> float:
    """Returns how far a detector's answers move where the float model sees something.

    The mean difference of the coordinates there, as a share of the box's mean side, plus the mean difference of the
    scores; of all places, where it sees nothing anywhere.

    Args:
        right: Boxes (B, N, 4) and scores (B, N, C) of the float model.
        found: Those of the other one.
    """
    sure = right[1].max(axis=2) >= _SURE
    if not sure.any():
        sure = np.ones_like(sure)
    boxes = right[0][sure].astype(np.float64)
    sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).mean(axis=1), 1.0)
    moved = np.abs(found[0][sure] - boxes).mean(axis=1) / sides
    return float(moved.mean() + np.abs(found[1][sure].astype(np.float64) - right[1][sure]).mean())
