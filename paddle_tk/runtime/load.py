"""``--model X``: a run folder, a model folder or an ONNX file -> a verified model, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.manifest import load_manifest
from paddle_tk.runtime.base import Predictor
from paddle_tk.types import ModelArtifact

# The layout of a run folder that training writes and that --model accepts.
RUN_CONFIG, RUN_MODEL = "config.yaml", "model"
_RUN_MARKS = ("environment.json", "checkpoints")  # any project may have a config.yaml
# An exported model lies anywhere; the config it was trained with goes with it under a name that marks no run.
EXPORTED_CONFIG = "training_config.yaml"
_ACCEPTED = "give a run folder, a model folder or an ONNX file"


@dataclass(frozen=True)
class ModelSource:
    """A verified model on disk.

    Attributes:
        artifact: Its manifest.
        file: The model file.
        config: The config it was trained with, None where it is not at hand.
    """

    artifact: ModelArtifact
    file: Path
    config: Path | None

    @property
    def sha256(self) -> str:
        """The model file's hash."""
        return self.artifact.sha256[self.artifact.path]


def open_model(path: Path) -> ModelSource:
    """Finds and verifies the model that ``path`` stands for; every hash is checked.

    Args:
        path: A run folder, a model folder, an ONNX file, or a model file whose manifest lies beside it.

    Raises:
        BadInput: Nothing is there, or a run that is not finished.
        ArtifactError: A damaged file, or one that does not say what it needs.
    """
    if not path.exists():
        raise BadInput(f"no model at {path}", _ACCEPTED)
    if path.is_dir():
        folder = _artifact_folder(path)
        return _source(load_manifest(folder), folder)
    if (path.parent / MANIFEST).is_file():
        artifact = load_manifest(path.parent)
        if artifact.path == path.name:
            return _source(artifact, path.parent)
    if path.suffix == ".onnx":
        from paddle_tk.runtime.onnx_predictor import artifact_in_file

        return _source(artifact_in_file(path), path.parent)
    raise ArtifactError(f"{path} is no ONNX file and no {MANIFEST} beside it names it", _ACCEPTED)


def _artifact_folder(path: Path) -> Path:
    for folder in (path, path / RUN_MODEL):
        if (folder / MANIFEST).is_file():
            return folder
    if _is_run(path):
        raise BadInput(
            f"the run in {path} is not finished: it holds no {RUN_MODEL}/{MANIFEST}",
            f"finish it with: python tools/train.py --resume {path}",
        )
    return path


def _source(artifact: ModelArtifact, folder: Path) -> ModelSource:
    if artifact.path not in artifact.sha256:
        raise ArtifactError(f"the manifest in {folder} holds no sha256 of {artifact.path}", "export the model again")
    if artifact.task.kind not in ("classification", "detection"):
        raise BadInput(f"the model in {folder} is for {artifact.task.kind}", "give a classifier or a detector")
    return ModelSource(artifact, folder / artifact.path, _config(folder))


def _config(folder: Path) -> Path | None:
    if (folder / EXPORTED_CONFIG).is_file():
        return folder / EXPORTED_CONFIG
    run = folder.absolute().parent
    return run / RUN_CONFIG if _is_run(run) else None


def _is_run(folder: Path) -> bool:
    return (folder / RUN_CONFIG).is_file() and any((folder / mark).exists() for mark in _RUN_MARKS)


def load_predictor(source: ModelSource, *, device: str = "cpu", threads: int = 1) -> Predictor:
    """Loads a model for prediction.

    Args:
        source: From ``open_model``.
        device: For Paddle models; an ONNX file runs on the CPU.
        threads: CPU threads of ONNX Runtime; Paddle's are set before it is imported.

    Raises:
        ArtifactError: A format that cannot be run, or a model that does not fit its manifest.
    """
    if source.artifact.format == "onnx":
        from paddle_tk.runtime.onnx_predictor import OnnxPredictor

        return OnnxPredictor(source.artifact, source.file, threads=threads)
    if source.artifact.format == "paddle-safetensors":
        from paddle_tk.runtime.paddle_predictor import PaddlePredictor

        return PaddlePredictor(source.artifact, source.file, device=device)
    raise ArtifactError(f"{source.file} has the format '{source.artifact.format}', which cannot be run", _ACCEPTED)
