"""What all engines that run ONNX files share: the check of inputs and outputs, and batches of a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from paddle_tk.errors import ArtifactError
from paddle_tk.runtime.base import Array
from paddle_tk.types import InputSpec, ModelArtifact

FORMAT = "onnx"
_OUTPUTS = {"classification": (2,), "detection": (3, 3)}  # dimensions of each output
EXPECTED = {
    "classification": "one output (B, C)",
    "detection": "two outputs, boxes (B, N, 4), x1 y1 x2 y2 in pixels of the input, and scores (B, N, C) in 0..1",
}
Outputs = tuple[Array, ...]


def check_io(
    file: Path,
    artifact: ModelArtifact,
    inputs: Sequence[InputSpec],
    outputs: Sequence[InputSpec],
    *,
    named_by: str = "its manifest",
) -> None:
    """Refuses a file that does not fit its task and its manifest.

    Args:
        file: The ONNX file, for messages.
        artifact: Its manifest.
        inputs: What the engine found in the file.
        outputs: The same of the outputs.
        named_by: Who names the classes, for messages.

    Raises:
        ArtifactError: Not one float32 image input, not the outputs of the task, or another number of classes.
    """
    ranks = tuple(len(spec.shape) for spec in outputs)
    image = len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[1] in (None, 3)
    fits = image and inputs[0].dtype == "float32" and ranks == _OUTPUTS[artifact.task.kind]
    if fits and artifact.task.kind == "detection":
        fits = outputs[0].shape[-1] in (None, 4)
    if not fits:
        raise ArtifactError(
            f"{file} is not for the {artifact.task.kind} of images: inputs {told(inputs)}, outputs {told(outputs)}",
            f"give a file with one float32 input (B, 3, H, W) and {EXPECTED[artifact.task.kind]}",
        )
    if outputs[-1].shape[-1] not in (None, len(artifact.task.classes)):
        raise ArtifactError(
            f"{file} returns {outputs[-1].shape[-1]} classes, {named_by} names {len(artifact.task.classes)}",
            "name every class, in the order of the outputs, or export the model again",
        )


def told(specs: Sequence[InputSpec]) -> str:
    """Returns tensors in a line for a message."""
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs) or "none"


def split(batch: Array, fixed: int | None) -> list[Array]:
    """Cuts a batch into parts that a model takes.

    Args:
        batch: (B, ...).
        fixed: The model's batch size; None: it takes any.

    Returns:
        Contiguous parts; a last one that is too short is filled up with its last image.
    """
    if fixed is None:
        return [np.ascontiguousarray(batch)]
    parts = [np.ascontiguousarray(batch[start : start + fixed]) for start in range(0, len(batch), fixed)]
    missing = fixed - len(parts[-1])
    if missing:
        parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, axis=0)])
    return parts


def join(results: Sequence[Outputs], count: int) -> Outputs:
    """Puts the outputs of ``split``'s parts together and drops those of images that only filled up."""
    if len(results) == 1 and len(results[0][0]) == count:
        return results[0]
    return tuple(np.concatenate(output)[:count] for output in zip(*results, strict=True))


def run_in_parts(batch: Array, fixed: int | None, run: Callable[[Array], Outputs]) -> Outputs:
    """Runs a batch of any size through a model, as often as its batch size asks for."""
    return join([run(part) for part in split(batch, fixed)], len(batch))
