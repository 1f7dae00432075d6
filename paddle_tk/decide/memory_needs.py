"""How much memory a project needs, to the megabyte, each figure with its origin."""

from __future__ import annotations

import math
from dataclasses import dataclass

from paddle_tk.decide.acceptance import NOT_MEASURED, Subject, told

MARGIN = 0.5
_BYTES = 4
_MIB = 2**20
# Values an optimizer keeps for each parameter, beside the parameter and its gradient.
_STATE = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}


@dataclass(frozen=True)
class MemoryNeed:
    """Memory for one use. Megabytes are of 2^20 bytes, rounded up.

    Attributes:
        use: What for.
        peak_mb: None where it is not known.
        origin: "measured", "estimated", "stated by the user" or "not measured".
        basis: What it stands on.
    """

    use: str
    peak_mb: int | None
    origin: str
    basis: str

    @property
    def margin_mb(self) -> int | None:
        """The safety margin, apart from the peak."""
        return math.ceil(self.peak_mb * MARGIN) if self.peak_mb is not None else None

    @property
    def total_mb(self) -> int | None:
        """Peak and margin."""
        return self.peak_mb + (self.margin_mb or 0) if self.peak_mb is not None else None


def memory_needs(subject: Subject) -> list[MemoryNeed]:
    """Returns what is known of the memory: measured, else stated, and what can be worked out of the parameters."""
    needs = []
    for use, name in (("training", "peak_memory_training"), ("inference", "peak_memory_inference")):
        found, why = subject.find(name)
        stated = [m for m in subject.planning.memory if m.use == use]
        if found is not None:
            basis = told(found)
            needs.append(MemoryNeed(f"{use}, {found.device}", math.ceil(found.value), found.origin, basis))
        for figure in stated:
            needs.append(
                MemoryNeed(f"{use}, {figure.device}", math.ceil(figure.peak_mb), "stated by the user", figure.source)
            )
        if found is None and not stated:
            needs.append(MemoryNeed(use, None, NOT_MEASURED, why))
    needs.append(_parameters(subject))
    return needs


def _parameters(subject: Subject) -> MemoryNeed:
    model, optimizer = subject.planning.models[0], subject.planning.training.optimizer
    use = "weights, gradients and optimizer (part of training)"
    if model.parameters is None:
        why = f"models[0].parameters of {model.name} is not stated in PLANNING.md"
        return MemoryNeed(use, None, NOT_MEASURED, why)
    copies = 2 + _STATE[optimizer]
    formula = (
        f"{model.parameters} parameters x {_BYTES} bytes x {copies} (weights, gradients, {_STATE[optimizer]} of "
        f"{optimizer}); activations not included"
    )
    return MemoryNeed(use, math.ceil(model.parameters * _BYTES * copies / _MIB), "estimated", formula)
