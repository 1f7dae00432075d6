"""Runs a model and what was made from it on the same images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paddle_tk.export import box_parity, parity
from paddle_tk.export.box_parity import BoxParity
from paddle_tk.export.parity import TOLERANCE, Parity
from paddle_tk.runtime.base import Array, Predictor

_BATCH = 16


def compare(
    reference: Predictor,
    candidate: Predictor,
    images: Array,
    *,
    samples: str,
    tolerance: float = TOLERANCE,
    advance: Callable[[int], None] = lambda n: None,
) -> Parity | BoxParity:
    """Runs both models on the same inputs.

    Args:
        reference: The model that is right.
        candidate: The model in question.
        images: Network inputs, float32 (n, 3, H, W).
        samples: Where they come from.
        tolerance: Largest difference that passes: as a share of the reference's largest logit; for a detector, of a
            score, and of the input's longer side for a box.
        advance: Called with the number of images done since the last call.
    """
    right, found = [], []
    # One image alone first: a free batch dimension must hold for any size.
    for batch in (images[:1], *(images[i : i + _BATCH] for i in range(1, len(images), _BATCH))):
        right.append(reference.predict(batch))
        found.append(candidate.predict(batch))
        advance(len(batch))
    ours, theirs = _joined(right), _joined(found)
    artifact = reference.artifact
    if artifact.task.kind == "classification":
        return parity.measure(ours[0], theirs[0], samples=samples, tolerance=tolerance)
    return box_parity.measure(
        ours, theirs, side=max(artifact.preprocessing.size), postprocessing=artifact.postprocessing,
        samples=samples, tolerance=tolerance,
    )  # fmt: skip


def _joined(parts: list[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(np.concatenate(output) for output in zip(*parts, strict=True))
