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
_ALONE = "only one node is rounded at a time"


@dataclass(frozen=True)
class Sensitivity:
    """What rounding one node alone does.

    Attributes:
        node: Its name.
        error: ||outputs - float outputs|| / ||float outputs||, the largest of the model's outputs.
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
    advance: Callable[[int], None] = lambda n: None,
) -> list[Sensitivity]:
    """Measures how much each node's rounding changes the outputs.

    Args:
        model: The float model, prepared.
        target: As for ``make_plan``.
        ranges: Of every tensor that a full plan rounds.
        run: Computes a model's outputs on fixed images.
        nodes: Names of the nodes in question.
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
            found.append(Sensitivity(name, _error(right, run(build(model, plan, known)))))
        advance(1)
    return sorted(found, key=lambda entry: -entry.error)


def _error(right: tuple[Array, ...], found: tuple[Array, ...]) -> float:
    shares = [
        np.linalg.norm((f - r).astype(np.float64)) / max(float(np.linalg.norm(r.astype(np.float64))), 1e-12)
        for r, f in zip(right, found, strict=True)
    ]
    return float(max(shares))
