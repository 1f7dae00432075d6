"""What can compute a model: engine name -> formats, predictor, package. Imported on use, like any plug-in."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.registry import closest
from paddle_tk.runtime.base import Predictor
from paddle_tk.types import ModelArtifact

AUTO = "auto"
PADDLE, ONNX = "paddle-safetensors", "onnx"


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        name: What ``--engine`` calls it.
        formats: Formats of artifacts that it runs.
        target: Its predictor, "module:attribute".
        takes: Which of "device" and "threads" the predictor takes.
        module: What must be importable.
        distributions: Whose version tells which engine it is; the first that is installed counts.
        install: How to get it.
    """

    name: str
    formats: tuple[str, ...]
    target: str
    takes: tuple[str, ...]
    module: str
    distributions: tuple[str, ...]
    install: str

    @property
    def installed(self) -> bool:
        """Whether its package is there; it is not imported."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ValueError:  # a module put into sys.modules by hand
            return True

    @property
    def version(self) -> str:
        """Its package's version, "" where that is unknown."""
        for name in self.distributions:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return ""

    def load(self, artifact: ModelArtifact, file: Path, given: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Loads a model; of ``given`` only what the predictor takes is used."""
        module, attribute = self.target.split(":")
        predictor = getattr(importlib.import_module(module), attribute)
        return predictor(artifact, file, **{key: given[key] for key in self.takes}, **options)


_PADDLE_PACKAGES = ("paddlepaddle-gpu", "paddlepaddle")
_RUNTIME = "paddle_tk.runtime."
# Of each format the first is its own, which is used unless another is asked for.
ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            "paddle", (PADDLE,), _RUNTIME + "paddle_predictor:PaddlePredictor", ("device",),
            "paddle", _PADDLE_PACKAGES, "pip install paddlepaddle",
        ),
        Engine(
            "paddle-inference", (PADDLE,), _RUNTIME + "inference_predictor:InferencePredictor", ("threads",),
            "paddle", _PADDLE_PACKAGES, "pip install paddlepaddle",
        ),
        Engine(
            "onnxruntime", (ONNX,), _RUNTIME + "onnx_predictor:OnnxPredictor", ("threads",),
            "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "pip install onnxruntime",
        ),
        Engine(
            "openvino", (ONNX,), _RUNTIME + "openvino_predictor:OpenVinoPredictor", ("threads",),
            "openvino", ("openvino",), "pip install openvino",
        ),
        Engine(
            "tensorrt", (ONNX,), _RUNTIME + "tensorrt_predictor:TensorRTPredictor", (),
            "tensorrt", ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
            "on a Jetson it comes with JetPack (python3-libnvinfer; make the virtual environment with "
            "--system-site-packages), elsewhere with NVIDIA's wheel: pip install tensorrt",
        ),
    )
}  # fmt: skip


def engines_for(artifact: ModelArtifact) -> list[str]:
    """Returns the engines that run an artifact's format, its own first, whether they are installed or not.

    Raises:
        ArtifactError: Nothing runs the format.
    """
    found = [engine.name for engine in ENGINES.values() if artifact.format in engine.formats]
    if not found:
        raise ArtifactError(
            f"{artifact.path} has the format '{artifact.format}', which cannot be run",
            "give a run folder, a model folder or an ONNX file",
        )
    return found


def available_engines(artifact: ModelArtifact) -> list[str]:
    """Returns the installed engines that run an artifact's format, its own first.

    Raises:
        ArtifactError: Nothing runs the format.
    """
    return [name for name in engines_for(artifact) if ENGINES[name].installed]


def check_engine(name: str) -> None:
    """Refuses an engine that does not exist.

    Raises:
        BadInput: The message lists the known ones.
    """
    known = [*ENGINES, AUTO]
    if name not in known:
        near = closest(name, known)
        hint = f"did you mean '{near}'? " if near else ""
        raise BadInput(f"unknown engine '{name}'", f"{hint}known: {', '.join(known)}")


def load_with(
    name: str,
    artifact: ModelArtifact,
    file: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Predictor:
    """Loads a model into one engine.

    Args:
        name: The engine, not "auto".
        artifact: The model's manifest.
        file: The model file.
        device: Of Paddle.
        threads: CPU threads; Paddle's are set before it is imported.
        options: Further arguments of the engine's predictor.

    Raises:
        BadInput: An unknown engine, one for other formats or one that is not installed.
        ArtifactError: The engine cannot load the model.
    """
    check_engine(name)
    possible = engines_for(artifact)
    if name not in possible:
        raise BadInput(
            f"the engine {name} does not run {artifact.format} models such as {file}",
            f"use --engine {' or '.join(possible)}"
            + ("; an export of the model to ONNX runs in others" if artifact.format == PADDLE else ""),
        )
    if not ENGINES[name].installed:
        raise BadInput(f"the engine {name} is not installed", ENGINES[name].install)
    given = {"device": device, "threads": threads}
    predictor: Predictor = ENGINES[name].load(artifact, file, given, options or {})
    return predictor
