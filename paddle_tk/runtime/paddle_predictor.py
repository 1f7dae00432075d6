"""Predictions by the Paddle network itself, rebuilt from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle

from paddle_tk.errors import ArtifactError
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.detectors import build_detector
from paddle_tk.models.weights import apply_weights, read_weights, to_array
from paddle_tk.runtime.base import Array, check_batch
from paddle_tk.types import ModelArtifact

FORMAT = "paddle-safetensors"
# What a manifest's architecture holds besides name, class count and image size.
_OWN = {"classification": ("stem", "dropout"), "detection": ("activation",)}


class PaddlePredictor:
    """A trained network in evaluation mode.

    Args:
        artifact: Its manifest, whose ``architecture`` tells how to build it.
        weights: The weights file; every tensor must match.
        device: "cpu" or "gpu:N".

    Raises:
        ArtifactError: The manifest does not describe a network, or the weights are not exactly that network's.
    """

    engine, arithmetic = "paddle", "fp32"

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
    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs; see ``Predictor``.

        Raises:
            ValueError: The batch has another type or shape.
        """
        check_batch(batch, self.artifact)
        outputs = self.network(paddle.to_tensor(batch))
        listed = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        # In evaluation mode GoogLeNet lists its auxiliary classifiers too.
        return tuple(to_array(value.astype("float32")) for value in listed[: len(self.artifact.outputs)])


def _rebuild(artifact: ModelArtifact, weights: Path) -> Any:
    architecture: Mapping[str, Any] = artifact.architecture
    try:
        name, count = str(architecture["name"]), int(architecture["num_classes"])
        height, width = (int(side) for side in architecture["image_size"])
        own = {key: architecture[key] for key in _OWN[artifact.task.kind]}
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
    build = build_detector if artifact.task.kind == "detection" else build_classifier
    return build(name, num_classes=count, image_size=(height, width), **own)
