"""Do two classifiers return the same for the same images?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddle_tk.errors import CheckFailed
from paddle_tk.runtime.base import Array

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """How far a candidate's logits are from the reference's, on the same inputs.

    Attributes:
        max_abs_difference: Largest |candidate - reference| of any logit.
        logit_scale: Largest |reference| of any logit.
        relative_difference: Their ratio.
        min_cosine: Smallest cosine between the logits of one image.
        top1_agreement: Share of images with the same top-1 class.
        n: Images compared.
        samples: Where the images come from.
        tolerance: The largest relative difference that passes.
    """

    max_abs_difference: float
    logit_scale: float
    relative_difference: float
    min_cosine: float
    top1_agreement: float
    n: int
    samples: str
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the relative difference is within the tolerance and every top-1 class is the same."""
        return self.relative_difference <= self.tolerance and self.top1_agreement == 1.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {"passed": self.passed, **asdict(self), "origin": "measured"}

    def line(self) -> str:
        """Returns the figures in one line."""
        return (
            f"max |difference| {self.max_abs_difference:.2e} ({self.relative_difference:.2e} of the largest logit), "
            f"1 - cosine <= {1.0 - self.min_cosine:.1e}, top-1 agreement {self.top1_agreement:.4f} "
            f"(n={self.n}, {self.samples})"
        )

    def require(self) -> None:
        """Refuses a candidate that differs.

        Raises:
            CheckFailed: It does not pass.
        """
        if not self.passed:
            raise CheckFailed(
                f"the exported model does not compute what the Paddle model computes: {self.line()}; "
                f"allowed: {self.tolerance:g} of the largest logit, the same top-1 class everywhere",
                "try another --opset; nothing was written",
            )


def measure(reference: Array, candidate: Array, *, samples: str, tolerance: float = TOLERANCE) -> Parity:
    """Compares logits (n, C) of two models; a candidate that is not finite agrees in nothing."""
    if reference.shape != candidate.shape or reference.ndim != 2:
        raise ValueError(f"logits (n, C) of one shape expected, got {reference.shape} and {candidate.shape}")
    n, scale = len(reference), float(np.abs(reference).max())
    if not np.isfinite(candidate).all():
        largest = float(np.finfo(np.float32).max)
        return Parity(largest, scale, largest, -1.0, 0.0, n, samples, tolerance)
    left, right = reference.astype(np.float64), candidate.astype(np.float64)
    difference = float(np.abs(left - right).max())
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    # Two rows of zeros point the same way for this purpose.
    cosine = np.where(lengths > 0, (left * right).sum(axis=1) / np.where(lengths > 0, lengths, 1.0), 1.0)
    return Parity(
        max_abs_difference=difference,
        logit_scale=scale,
        relative_difference=difference / max(scale, float(np.finfo(np.float32).tiny)),
        min_cosine=float(np.clip(cosine, -1.0, 1.0).min()),
        top1_agreement=float((left.argmax(axis=1) == right.argmax(axis=1)).mean()),
        n=n,
        samples=samples,
        tolerance=tolerance,
    )
