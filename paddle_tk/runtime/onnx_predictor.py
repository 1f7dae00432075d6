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
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


class OnnxPredictor:
    """An ONNX file in an ONNX Runtime session.

    A file whose batch dimension is fixed is run as often as the batch needs; a last part is filled up by repetition.

    Args:
        artifact: Its manifest.
        file: The ONNX file.
        threads: CPU threads within an operator.

    Raises:
        ArtifactError: The file cannot be loaded, or has not one float32 image input and one logits output.
        BadInput: ONNX Runtime is not installed.
    """

    device = "cpu"

    def __init__(self, artifact: ModelArtifact, file: Path, *, threads: int) -> None:
        self.artifact = artifact
        self._session = _session(file, threads)
        inputs, outputs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype != "float32" or len(outputs) != 1:
            raise ArtifactError(
                f"{file} is not an image classifier: inputs {_told(inputs)}, outputs {_told(outputs)}",
                "give a file with one float32 input (B, 3, H, W) and one output (B, C)",
            )
        if outputs[0].shape[-1] not in (None, len(artifact.task.classes)):
            raise ArtifactError(
                f"{file} returns {outputs[0].shape[-1]} classes, its manifest names {len(artifact.task.classes)}",
                "export the model again",
            )
        self._input, self._batch = inputs[0].name, inputs[0].shape[0]

    def predict(self, batch: Array) -> Array:
        """Maps images float32 (B, 3, H, W) to logits float32 (B, C).

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
        return np.concatenate([self._run(part) for part in parts])[: len(batch)]

    def _run(self, batch: Array) -> Array:
        logits = self._session.run(None, {self._input: np.ascontiguousarray(batch)})[0]
        return np.asarray(logits, np.float32)


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
