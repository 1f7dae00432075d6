"""Predictions by TensorRT on an NVIDIA GPU, from an ONNX file whose engine is built on first use and kept.

Like ``tensorrt_engine``, it was never run on a device, only against a stand-in of TensorRT's API.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddle_tk.data.home import home_folder
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime.base import Array, check_batch
from paddle_tk.runtime.onnx_io import Outputs, check_io, run_in_parts
from paddle_tk.runtime.tensorrt_engine import (
    INSTALL,
    Cuda,
    TensorRTEngine,
    TensorRTError,
    TensorRTMissing,
    build_engine,
    import_tensorrt,
)
from paddle_tk.types import InputSpec, ModelArtifact

ENGINES_FOLDER = "engines"


class TensorRTPredictor:
    """An ONNX file as a TensorRT engine for the first GPU.

    The engine is built once, which takes minutes, and kept under ``$PADDLE_TK_HOME/engines`` by the model's hash,
    precision, batch size, TensorRT version and GPU.

    Args:
        artifact: Its manifest.
        file: The ONNX file.
        precision: "fp16" or "fp32", of what is not integer.
        batch_size: Of the engine where the file leaves it free; other batches are run in parts of it.
        workspace_mb: MiB that may be used while the engine is built.

    Raises:
        ArtifactError: TensorRT cannot take the file, or it has not the input and outputs of its task.
        BadInput: TensorRT or CUDA is not installed.
    """

    device, engine, reentrant = "gpu:0", "tensorrt", False

    def __init__(
        self,
        artifact: ModelArtifact,
        file: Path,
        *,
        precision: Literal["fp16", "fp32"] = "fp16",
        batch_size: int = 1,
        workspace_mb: int = 1024,
        cuda: Any = None,
    ) -> None:
        if precision not in ("fp16", "fp32"):
            raise ValueError(f"precision must be 'fp16' or 'fp32', got {precision!r}")
        self.artifact, self.arithmetic = artifact, precision
        batch = artifact.inputs[0].shape[0] or batch_size
        try:
            runtime = Cuda() if cuda is None else cuda
            path = _engine_path(artifact, runtime.device_name(), precision, batch)
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                build_engine(
                    str(file), str(path), fp16=precision == "fp16", int8=artifact.precision == "int8",
                    workspace_mb=workspace_mb, batch=batch,
                )  # fmt: skip
            self._engine = TensorRTEngine(str(path), cuda=runtime)
        except TensorRTError as error:
            raise _explained(error, artifact) from error
        found, wanted = self._engine.output_names, [spec.name for spec in artifact.outputs]
        # The manifest's order, where the engine has another one.
        self._order = [found.index(n) for n in wanted] if sorted(found) == sorted(wanted) else range(len(found))
        inputs = (InputSpec(artifact.inputs[0].name, self._engine.input_shape),)
        shapes = self._engine.output_shapes
        check_io(file, artifact, inputs, [InputSpec(found[i], shapes[i]) for i in self._order])

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs; see ``Predictor``.

        Raises:
            ValueError: The batch has another type or shape.
            ArtifactError: The GPU failed.
        """
        check_batch(batch, self.artifact)
        try:
            return run_in_parts(batch, self._engine.input_shape[0], self._run)
        except TensorRTError as error:
            raise _explained(error, self.artifact) from error

    def _run(self, batch: Array) -> Outputs:
        outputs = self._engine.run(batch)
        return tuple(np.asarray(outputs[i], np.float32) for i in self._order)


def _engine_path(artifact: ModelArtifact, gpu: str, precision: str, batch: int) -> Path:
    version = import_tensorrt().__version__
    parts = (artifact.sha256[artifact.path], precision, f"batch{batch}", f"tensorrt{version}", gpu)
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts)
    return home_folder() / ENGINES_FOLDER / f"{name}.engine"


def _explained(error: TensorRTError, artifact: ModelArtifact) -> BadInput:
    if isinstance(error, TensorRTMissing):
        return BadInput(str(error), INSTALL)
    fix = "use --engine onnxruntime"
    if artifact.precision == "int8" and artifact.variant != "tensorrt":
        fix = "make the INT8 file for it with tools/quantize.py --target tensorrt, or " + fix
    return ArtifactError(f"{artifact.path}: {error}", fix)
