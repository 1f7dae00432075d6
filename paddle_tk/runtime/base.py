"""What every predictor can do, and the check they share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from paddle_tk.errors import ArtifactError
from paddle_tk.types import ModelArtifact

Array = np.ndarray[Any, Any]


class Predictor(Protocol):
    """A loaded model."""

    @property
    def artifact(self) -> ModelArtifact:
        """What its manifest says."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu" or "gpu:N"."""

    def predict(self, batch: Array) -> Array:
        """Maps images float32 (B, 3, H, W) to logits float32 (B, C).

        Raises:
            ValueError: The batch has another type or shape.
        """


def check_batch(batch: Array, artifact: ModelArtifact) -> None:
    """Refuses a batch that the model's input does not take.

    Raises:
        ValueError: Another type or shape; the batch dimension is free.
    """
    expected = artifact.inputs[0].shape[1:]
    fits = batch.ndim == len(expected) + 1 and all(
        side in (None, found) for side, found in zip(expected, batch.shape[1:], strict=True)
    )
    if batch.dtype != np.float32 or not fits or len(batch) == 0:
        wanted = ("B", *expected)
        raise ValueError(f"expected a float32 batch of shape {wanted}, B >= 1, got {batch.dtype} {batch.shape}")


def require_finite(logits: Array, artifact: ModelArtifact) -> None:
    """Refuses logits that tell nothing.

    Raises:
        ArtifactError: A value is NaN or infinite.
    """
    bad = int(np.count_nonzero(~np.isfinite(logits).all(axis=1)))
    if bad:
        raise ArtifactError(
            f"the model {artifact.path} returns values that are not finite for {bad} of {len(logits)} images",
            "use the model it was made from, or train again",
        )
