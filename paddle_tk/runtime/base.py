"""What every predictor can do, and the checks they share."""

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

    @property
    def engine(self) -> str:
        """What computes: a name of ``paddle_tk.runtime.engines.ENGINES``."""

    @property
    def arithmetic(self) -> str:
        """In what it computes where the model is not integer: "fp32", "bf16" or "fp16"."""

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs, in its order, float32.

        A classifier returns (logits (B, C),); a detector (boxes (B, N, 4), x1 y1 x2 y2 in pixels of the input, and
        scores (B, N, C) in 0..1).

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


def noise_batch(artifact: ModelArtifact, size: int, seed: int = 0) -> Array:
    """Returns a repeatable batch of normal noise that the model takes, float32 (size, 3, H, W)."""
    return np.random.default_rng(seed).standard_normal((size, 3, *artifact.preprocessing.size), dtype=np.float32)


def require_finite(outputs: tuple[Array, ...], artifact: ModelArtifact) -> None:
    """Refuses outputs that tell nothing.

    Raises:
        ArtifactError: A value is NaN or infinite.
    """
    finite = np.logical_and.reduce([np.isfinite(output).reshape(len(output), -1).all(axis=1) for output in outputs])
    bad = int(np.count_nonzero(~finite))
    if bad:
        raise ArtifactError(
            f"the model {artifact.path} returns values that are not finite for {bad} of {len(finite)} images",
            "use the model it was made from, or train again",
        )
