"""``--model X``: a run folder, a model folder or an ONNX file -> a verified model, ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.manifest import load_manifest
from paddle_tk.runtime.base import Predictor, noise_batch
from paddle_tk.runtime.choose import choose_engine
from paddle_tk.runtime.engines import AUTO, engines_for, load_with
from paddle_tk.runtime.onnx_metadata import GivenFacts, describe
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
        foreign: An ONNX file of another tool, described by the user.
        notes: What was assumed of a foreign file because nobody said it, for a warning.
    """

    artifact: ModelArtifact
    file: Path
    config: Path | None
    foreign: bool = False
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The model file's hash."""
        return self.artifact.sha256[self.artifact.path]


def open_model(path: Path, facts: GivenFacts | None = None) -> ModelSource:
    """Finds and verifies the model that ``path`` stands for; every hash is checked.

    Args:
        path: A run folder, a model folder, an ONNX file, or a model file whose manifest lies beside it.
        facts: What the user says of an ONNX file that does not say it itself.

    Raises:
        BadInput: Nothing is there, a run that is not finished, or facts of a model that tells them itself.
        ArtifactError: A damaged file, or one that does not say what it needs.
    """
    if not path.exists():
        raise BadInput(f"no model at {path}", _ACCEPTED)
    source = _find(path, facts)
    if facts is not None and not source.foreign:
        raise BadInput(f"{path} says itself what it is", f"leave out {facts.flags}")
    return source


def _find(path: Path, facts: GivenFacts | None) -> ModelSource:
    if path.is_dir():
        folder = _artifact_folder(path)
        return _source(load_manifest(folder), folder)
    if (path.parent / MANIFEST).is_file():
        artifact = load_manifest(path.parent)
        if artifact.path == path.name:
            return _source(artifact, path.parent)
    if path.suffix == ".onnx":
        found = describe(path, facts)
        config = None if found.foreign else _config(path.parent)
        return replace(_source(found.artifact, path.parent), config=config, foreign=found.foreign, notes=found.notes)
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


def load_predictor(
    source: ModelSource,
    *,
    device: str = "cpu",
    threads: int = 1,
    engine: str | None = None,
    options: Mapping[str, Any] | None = None,
    warmup: int = 0,
) -> Predictor:
    """Loads a model for prediction.

    Args:
        source: From ``open_model``.
        device: For Paddle; the engines of ONNX files but TensorRT run on the CPU.
        threads: CPU threads; Paddle's are set before it is imported.
        engine: A name of ``paddle_tk.runtime.engines.ENGINES``; "auto": the quickest on this machine, see
            ``choose_engine``; None: the format's own.
        options: Further arguments of the engine's predictor, such as ``preallocate``; not with "auto".
        warmup: Batches of noise that are predicted before the predictor is returned.

    Raises:
        BadInput: An engine that does not exist, is not installed or does not run the format.
        ArtifactError: A format that cannot be run, or a model that does not fit its manifest.
    """
    if engine == AUTO:
        if options:
            raise ValueError("options belong to one engine: choose it first with choose_engine")
        engine = choose_engine(source.artifact, source.file, device=device, threads=threads).name
    name = engine if engine is not None else engines_for(source.artifact)[0]
    predictor = load_with(name, source.artifact, source.file, device=device, threads=threads, options=options)
    if warmup:
        batch = noise_batch(source.artifact, source.artifact.inputs[0].shape[0] or 1)
        for _ in range(warmup):
            predictor.predict(batch)
    return predictor
