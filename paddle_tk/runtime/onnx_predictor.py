"""Predictions by ONNX Runtime on the CPU. The only place, besides measurements, that imports it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.files import sha256_file
from paddle_tk.runtime.base import Array, check_batch
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

FORMAT = "onnx"
_ERRORS_ONLY = 3
_OUTPUTS = {"classification": (2,), "detection": (3, 3)}  # dimensions of each output
_EXPECTED = {
    "classification": "one output (B, C)",
    "detection": "two outputs, boxes (B, N, 4) and scores (B, N, C)",
}
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OnnxPredictor:
    """An ONNX file in an ONNX Runtime session.

    A file whose batch dimension is fixed is run as often as the batch needs; a last part is filled up by repetition.

    Args:
        artifact: Its manifest.
        file: The ONNX file.
        threads: CPU threads within an operator.

    Raises:
        ArtifactError: The file cannot be loaded, or has not one float32 image input and the outputs of its task.
        BadInput: ONNX Runtime is not installed.
    """

    device = "cpu"

    def __init__(self, artifact: ModelArtifact, file: Path, *, threads: int) -> None:
        self.artifact = artifact
        self._session = _session(file, threads)
        inputs, outputs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())
        wanted = _OUTPUTS[artifact.task.kind]
        ranks = tuple(len(spec.shape) for spec in outputs)
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype != "float32" or ranks != wanted:
            raise ArtifactError(
                f"{file} is not for the {artifact.task.kind} of images: "
                f"inputs {_told(inputs)}, outputs {_told(outputs)}",
                f"give a file with one float32 input (B, 3, H, W) and {_EXPECTED[artifact.task.kind]}",
            )
        if outputs[-1].shape[-1] not in (None, len(artifact.task.classes)):
            raise ArtifactError(
                f"{file} returns {outputs[-1].shape[-1]} classes, its manifest names {len(artifact.task.classes)}",
                "export the model again",
            )
        self._input, self._batch = inputs[0].name, inputs[0].shape[0]

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs; see ``Predictor``.

        Raises:
            ValueError: The batch has another type or shape.
        """
        check_batch(batch, self.artifact)
        if self._batch is None:
            return self._run(batch)
        parts = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        missing = self._batch - len(parts[-1])
        if missing:
            parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], missing, axis=0)])
        found = zip(*(self._run(part) for part in parts), strict=True)
        return tuple(np.concatenate(output)[: len(batch)] for output in found)

    def _run(self, batch: Array) -> tuple[Array, ...]:
        outputs = self._session.run(None, {self._input: np.ascontiguousarray(batch)})
        return tuple(np.asarray(output, np.float32) for output in outputs)


def artifact_in_file(file: Path) -> ModelArtifact:
    """Reads classes and preprocessing from the metadata that ``tools/export.py`` stores inside an ONNX file.

    Raises:
        ArtifactError: The file cannot be loaded, or lacks this metadata; the message says what is missing.
    """
    session = _session(file, threads=1)
    metadata = session.get_modelmeta().custom_metadata_map
    missing = [key for key in ("task", "classes", "preprocessing") if key not in metadata]
    if missing:
        raise ArtifactError(
            f"{file} does not say what it needs to be used: {', '.join(missing)} missing (no manifest.json beside it "
            "that names it, no such metadata inside it)",
            "make the file with tools/export.py, or put its manifest.json beside it",
        )
    try:
        task = Task(kind=metadata["task"], classes=tuple(str(name) for name in json.loads(metadata["classes"])))
        preprocessing = Preprocessing.from_dict(json.loads(metadata["preprocessing"]))
        postprocessing = dict(json.loads(metadata.get("postprocessing", "{}")))
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"the metadata in {file} cannot be read: {error}", "export the model again") from error
    return ModelArtifact(
        path=file.name,
        format=FORMAT,
        precision=metadata.get("precision", "fp32"),
        task=task,
        inputs=_specs(session.get_inputs()),
        outputs=_specs(session.get_outputs()),
        preprocessing=preprocessing,
        postprocessing=postprocessing,
        sha256={file.name: sha256_file(file)},
        parent_sha256=metadata.get("parent_sha256"),
        made_by=metadata.get("made_by", ""),
    )


def _session(file: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BadInput("ONNX Runtime is not installed", "pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{file} cannot be loaded: {reason}", "get or export the file again") from error


def _specs(values: Any) -> tuple[InputSpec, ...]:
    return tuple(
        InputSpec(v.name, tuple(d if isinstance(d, int) else None for d in v.shape), _TYPES.get(v.type, v.type))
        for v in values
    )


def _told(specs: tuple[InputSpec, ...]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs) or "none"
