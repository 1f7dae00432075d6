"""ONNX Runtime on the CPU: predictions, and tensors inside a graph. The only place, besides measurements, with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime.base import Array, check_batch
from paddle_tk.runtime.onnx_io import Outputs, check_io, run_in_parts, split
from paddle_tk.types import InputSpec, ModelArtifact

_FATAL_ONLY = 4  # every error is raised as well
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
GRAPH_OPTIMIZATION = tuple(_LEVELS)
_NOT_ONNX = ("Protobuf parsing failed", "No graph was found")
# What ONNX Runtime puts before its reasons: its own name and codes, the file's path, a place in its C++ source.
_PREAMBLES = (r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", r"Load model from .*? failed:", r"/\S+:\d+ .*\) (?=[A-Z])")


class OnnxPredictor:
    """An ONNX file in an ONNX Runtime session.

    A file whose batch dimension is fixed is run as often as the batch needs; a last part is filled up by repetition.

    Args:
        artifact: Its manifest.
        file: The ONNX file.
        threads: CPU threads within an operator.
        graph_optimization: "all", "extended", "basic" or "none".
        sequential: Run one operator after the other; else independent ones side by side, on as many threads.
        affinity: CPU numbers, from 0, one for each thread but the calling one, which stays where it is.
        spinning: Let idle threads wait busily, which is quicker and costs CPU time; None: as ONNX Runtime sets it.
        preallocate: Keep input and output buffers of every batch size that was seen; ``predict`` must then not be
            called by several threads at once.

    Raises:
        ArtifactError: The file cannot be loaded, or has not one float32 image input and the outputs of its task.
        BadInput: ONNX Runtime is not installed.
        ValueError: An option that does not exist or does not fit the threads.
    """

    device, engine, arithmetic = "cpu", "onnxruntime", "fp32"

    def __init__(
        self,
        artifact: ModelArtifact,
        file: Path,
        *,
        threads: int = 1,
        graph_optimization: str = "all",
        sequential: bool = True,
        affinity: Sequence[int] | None = None,
        spinning: bool | None = None,
        preallocate: bool = False,
    ) -> None:
        self.artifact, self._file = artifact, file
        options = _options(threads, graph_optimization, sequential, affinity, spinning)
        self._session = _session(file, options)
        inputs, outputs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())
        check_io(file, artifact, inputs, outputs)
        self._input, self._batch = inputs[0].name, inputs[0].shape[0]
        self._names = [spec.name for spec in outputs]
        self._buffers: dict[tuple[int, ...], Callable[[Array], Outputs]] | None = {} if preallocate else None

    @property
    def reentrant(self) -> bool:
        """Whether several threads may call ``predict`` at once."""
        return self._buffers is None

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs; see ``Predictor``.

        Raises:
            ValueError: The batch has another type or shape.
            ArtifactError: The graph cannot be computed.
        """
        check_batch(batch, self.artifact)
        try:
            return run_in_parts(batch, self._batch, self._run)
        except Exception as error:  # its exceptions share no base class
            raise ArtifactError(
                f"{self._file} cannot be run on a batch of shape {batch.shape}: {_reason(error)}",
                "give the input size that the file was made for",
            ) from error

    def _run(self, batch: Array) -> Outputs:
        if self._buffers is not None:
            if batch.shape not in self._buffers:
                self._buffers[batch.shape] = _bound(self._session, self._input, self._names, batch)
            return self._buffers[batch.shape](batch)
        return tuple(np.asarray(output, np.float32) for output in self._session.run(None, {self._input: batch}))


def _bound(session: Any, name: str, outputs: list[str], batch: Array) -> Callable[[Array], Outputs]:
    """Returns a function that runs batches of one shape in buffers that are made once."""
    import onnxruntime

    image = np.array(batch)
    results = [np.asarray(output, np.float32) for output in session.run(None, {name: image})]
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(image))
    kept = [onnxruntime.OrtValue.ortvalue_from_numpy(result) for result in results]
    for output, value in zip(outputs, kept, strict=True):
        binding.bind_ortvalue_output(output, value)

    def run(given: Array) -> Outputs:
        np.copyto(image, given)
        session.run_with_iobinding(binding)
        return tuple(np.array(value.numpy()) for value in kept)

    return run


class TensorReader:
    """Reads tensors inside a graph; they must have been made outputs of it.

    Args:
        model: An ONNX file or its bytes.
        names: Outputs to read.
        threads: CPU threads within an operator.

    Raises:
        ArtifactError: The model cannot be loaded, has not one input or lacks one of the outputs.
        BadInput: ONNX Runtime is not installed.
    """

    def __init__(self, model: Path | bytes, names: Sequence[str], threads: int = 1) -> None:
        self._session = _session(model, _options(threads))
        inputs = _specs(self._session.get_inputs())
        found = {value.name for value in self._session.get_outputs()}
        missing = [name for name in names if name not in found]
        if len(inputs) != 1 or missing:
            raise ArtifactError(
                f"{_called(model)} has {len(inputs)} inputs and {len(found)} outputs"
                + (f", but no output {missing[0]}" if missing else ""),
                "give a graph with one input whose wanted tensors are outputs",
            )
        self._names, self._input, self._batch = list(names), inputs[0].name, inputs[0].shape[0]

    def read(self, batch: Array) -> dict[str, Array]:
        """Runs the model.

        Args:
            batch: Images float32 (B, 3, H, W). Where the file's batch size is fixed it is run as often as needed, and
                the last part filled up with copies of the last image.

        Returns:
            By name, the tensors of all runs, joined along their first dimension (a scalar becomes one value per run).
            Rows of copies are cut off where the first dimension is the batch; elsewhere their values, which are those
            of an image of the batch, stay.
        """
        runs = [self._session.run(self._names, {self._input: part}) for part in split(batch, self._batch)]
        return {
            name: self._joined([np.atleast_1d(run[i]) for run in runs], len(batch))
            for i, name in enumerate(self._names)
        }

    def _joined(self, parts: list[Array], count: int) -> Array:
        if len(parts) == 1 and (self._batch is None or len(parts[0]) != self._batch):
            return parts[0]
        joined = np.concatenate(parts)
        return joined[:count] if all(len(part) == self._batch for part in parts) else joined


@dataclass(frozen=True)
class OnnxFacts:
    """What an ONNX file says of itself: its tensors and its metadata."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[InputSpec, ...]
    metadata: Mapping[str, str]


def onnx_facts(file: Path) -> OnnxFacts:
    """Reads inputs, outputs and metadata of an ONNX file.

    Raises:
        ArtifactError: The file cannot be loaded.
        BadInput: ONNX Runtime is not installed.
    """
    session = _session(file, _options(1, "none"))
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return OnnxFacts(_specs(session.get_inputs()), _specs(session.get_outputs()), metadata)


def _options(
    threads: int,
    graph_optimization: str = "all",
    sequential: bool = True,
    affinity: Sequence[int] | None = None,
    spinning: bool | None = None,
) -> Any:
    if graph_optimization not in _LEVELS:
        raise ValueError(f"graph_optimization must be one of {', '.join(_LEVELS)}, got {graph_optimization!r}")
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[graph_optimization])
    if not sequential:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = threads
    if spinning is not None:
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    if affinity is not None:
        if len(affinity) != threads - 1 or min(affinity, default=0) < 0:
            raise ValueError(f"affinity needs {threads - 1} CPU numbers for {threads} threads, got {list(affinity)}")
        if affinity:  # its processors count from 1
            entry = ";".join(str(cpu + 1) for cpu in affinity)
            options.add_session_config_entry("session.intra_op_thread_affinities", entry)
    return options


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BadInput("ONNX Runtime is not installed", "pip install onnxruntime") from error
    return onnxruntime


def _session(model: Path | bytes, options: Any) -> Any:
    try:
        given = model if isinstance(model, bytes) else str(model)
        return _onnxruntime().InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except BadInput:
        raise
    except Exception as error:  # its exceptions share no base class
        raise ArtifactError(
            f"{_called(model)} cannot be loaded: {_reason(error)}", "get or export the file again"
        ) from error


def _called(model: Path | bytes) -> str:
    return f"a model of {len(model)} bytes" if isinstance(model, bytes) else str(model)


def _reason(error: Exception) -> str:
    """Returns what ONNX Runtime says, without the places in its own source."""
    text = " ".join(str(error).split())
    if any(mark in text for mark in _NOT_ONNX):
        return "it is no ONNX file, or it was cut off or damaged"
    for preamble in _PREAMBLES:
        text = re.sub(f"^{preamble}", "", text)
    return text.rstrip(". ")


def _specs(values: Any) -> tuple[InputSpec, ...]:
    return tuple(
        InputSpec(v.name, tuple(d if isinstance(d, int) else None for d in v.shape), _TYPES.get(v.type, v.type))
        for v in values
    )
