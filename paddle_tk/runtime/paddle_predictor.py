"""Predictions by the Paddle network itself, rebuilt from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddle_tk.errors import ArtifactError
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.weights import apply_weights, read_weights
from paddle_tk.runtime.base import Array, check_batch
from paddle_tk.types import ModelArtifact

FORMAT = "paddle-safetensors"


class PaddlePredictor:
    """A trained network in evaluation mode.

    Args:
        artifact: Its manifest, whose ``architecture`` tells how to build it.
        weights: The weights file; every tensor must match.
        device: "cpu" or "gpu:N".

    Raises:
        ArtifactError: The manifest does not describe a network, or the weights are not exactly that network's.
    """

    def __init__(self, artifact: ModelArtifact, weights: Path, *, device: str = "cpu") -> None:
        self.artifact, self.device = artifact, device
        paddle.set_device(device)
        self.network = _rebuild(artifact, weights)
        arrays = read_weights(weights)
        report = apply_weights(self.network, arrays, source=str(weights))
        if not report.complete or report.unexpected:
            raise ArtifactError(
                f"{weights} does not fit its manifest's architecture: {'; '.join(report.lines()[1:])}",
                "train or export the model again, or restore its files",
            )
        self.network.eval()

    @paddle.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def predict(self, batch: Array) -> Array:
        """Maps images float32 (B, 3, H, W) to logits float32 (B, C).

        Raises:
            ValueError: The batch has another type or shape.
        """
        check_batch(batch, self.artifact)
        outputs = self.network(paddle.to_tensor(batch))
        logits = outputs[0] if isinstance(outputs, list | tuple) else outputs
        return np.asarray(logits.astype("float32").numpy())


def _rebuild(artifact: ModelArtifact, weights: Path) -> Any:
    architecture: Mapping[str, Any] = artifact.architecture
    try:
        count, (height, width) = int(architecture["num_classes"]), architecture["image_size"]
        name, stem, dropout = str(architecture["name"]), str(architecture["stem"]), architecture.get("dropout")
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"the manifest of {weights} does not describe a network ({type(error).__name__}: {error})",
            "export the model again",
        ) from error
    if count != len(artifact.task.classes):
        raise ArtifactError(
            f"the manifest of {weights} names {len(artifact.task.classes)} classes, its network has {count}",
            "export the model again",
        )
    return build_classifier(name, num_classes=count, stem=stem, image_size=(int(height), int(width)), dropout=dropout)
