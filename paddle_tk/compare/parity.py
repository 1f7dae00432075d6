"""Do both frameworks compute the same? Where they do not, nothing is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddle_tk.errors import CheckFailed

Array = np.ndarray[Any, Any]
EARLY_STEPS = 10


@dataclass(frozen=True)
class ParityReport:
    """What was held against what.

    Attributes:
        outputs: Largest difference of an output, by output, on equal weights and images: absolute, or where the
            largest output is above 1 as a share of it, since single precision is a share too.
        outputs_tolerance: Largest difference that passes.
        images: Images compared.
        early: Largest relative difference of a loss in the first steps on equal batches.
        early_steps: How many these are.
        early_tolerance: Largest that passes.
        late: Largest relative difference of a loss after them.
        steps: Steps in all.
        late_tolerance: Largest that passes.
        float32: Largest relative difference of the same losses in single precision, where rounding is magnified from
            step to step: told, not judged. None where the losses above are of single precision.
    """

    outputs: Mapping[str, float]
    outputs_tolerance: float
    images: int
    early: float
    early_steps: int
    early_tolerance: float
    late: float
    steps: int
    late_tolerance: float
    float32: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {"passed": True, **asdict(self), "origin": "measured"}

    def line(self) -> str:
        """Returns the figures in one line."""
        return (
            f"outputs differ by at most {max(self.outputs.values()):.1e} (n={self.images}), losses by "
            f"{self.early:.1e} in {self.early_steps} steps and {self.late:.1e} in {self.steps}"
        )


def require_parity(
    outputs: Mapping[str, Mapping[str, Array]],
    losses: Mapping[str, Sequence[float]],
    *,
    outputs_tolerance: float,
    early_tolerance: float,
    late_tolerance: float,
    losses_float32: Mapping[str, Sequence[float]] | None = None,
) -> ParityReport:
    """Holds two frameworks against each other.

    Args:
        outputs: By framework, outputs by name (B, ...) for the same images and weights.
        losses: By framework, the losses of the same steps from the same weights; in double precision where both can.
        outputs_tolerance: Largest difference of an output; see ``ParityReport.outputs``.
        early_tolerance: Largest relative difference of the first ten losses.
        late_tolerance: Largest relative difference of all of them.
        losses_float32: The same in single precision, for the report only.

    Raises:
        CheckFailed: They differ by more, or one of them is not finite: there is nothing to compare.
    """
    (one, first), (other, second) = outputs.items()
    found = {name: _difference(first[name], second.get(name)) for name in first}
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= outputs_tolerance:
        raise _refusal(
            f"with the same weights and images, {worst} of {one} and {other} differ by {found[worst]:.2e}, allowed "
            f"are {outputs_tolerance:g}"
        )
    early, late = _loss_differences(losses[one], losses[other])
    for value, allowed, when in (
        (early, early_tolerance, f"the first {EARLY_STEPS} steps"),
        (late, late_tolerance, f"{len(losses[one])} steps"),
    ):
        if not value <= allowed:
            raise _refusal(
                f"on the same batches the losses of {one} and {other} differ by {value:.2e} of their size within "
                f"{when}, allowed are {allowed:g}"
            )
    return ParityReport(
        found, outputs_tolerance, len(first[worst]), early, min(EARLY_STEPS, len(losses[one])), early_tolerance,
        late, len(losses[one]), late_tolerance,
        None if losses_float32 is None else _loss_differences(losses_float32[one], losses_float32[other])[1],
    )  # fmt: skip


def largest_difference(one: Array, other: Array) -> float:
    """Returns the largest absolute difference; infinity where a value is not finite or the shapes differ."""
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def _difference(one: Array, other: Array | None) -> float:
    if other is None:
        return float("inf")
    return largest_difference(one, other) / max(1.0, float(np.abs(one).max(initial=0.0)))


def _loss_differences(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    a, b = np.array(one, np.float64), np.array(other, np.float64)
    if a.shape != b.shape or a.size == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf"), float("inf")
    relative = np.abs(a - b) / np.maximum(np.abs(a), 1e-12)
    return float(relative[:EARLY_STEPS].max()), float(relative.max())


def _refusal(problem: str) -> CheckFailed:
    return CheckFailed(
        f"parity failed, so nothing is compared: {problem}",
        "report this with the config; a tolerance is raised with compare.parity_tolerance, loss_tolerance or "
        "loss_tolerance_late",
    )
