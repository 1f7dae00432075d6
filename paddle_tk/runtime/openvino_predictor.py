"""Predictions by OpenVINO on the CPU. An optional engine, and the only place that imports it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime.base import Array, check_batch
from paddle_tk.runtime.onnx_io import Outputs, check_io, join, run_in_parts, split
from paddle_tk.types import InputSpec, ModelArtifact

INSTALL = "pip install openvino"
_ARITHMETIC = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_TYPES = {"f32": "float32", "f16": "float16", "i64": "int64"}


class OpenVinoPredictor:
    """An ONNX file compiled by OpenVINO for the CPU.

    A file whose batch dimension is fixed is run as often as the batch needs; a last part is filled up by repetition.

    Args:
        artifact: Its manifest.
        file: The ONNX file.
        threads: CPU threads of all streams together.
        precision: "default": bf16 where the processor has instructions for it (AMX, AVX512-BF16), else fp32;
            "fp32": always fp32. ``arithmetic`` tells which it is.
        streams: Requests that are computed side by side: 1 gives the least latency, more of them a higher throughput
            in ``stream``.
        preallocate: Keep one input buffer for every batch size that was seen.

    Raises:
        ArtifactError: The file cannot be loaded, or has not one float32 image input and the outputs of its task.
        BadInput: OpenVINO is not installed.
    """

    device, engine = "cpu", "openvino"

    def __init__(
        self,
        artifact: ModelArtifact,
        file: Path,
        *,
        threads: int = 1,
        precision: Literal["default", "fp32"] = "default",
        streams: int = 1,
        preallocate: bool = False,
    ) -> None:
        if precision not in ("default", "fp32"):
            raise ValueError(f"precision must be 'default' or 'fp32', got {precision!r}")
        self.artifact, self._file, self._preallocate = artifact, file, preallocate
        self._openvino = _openvino()
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
        if precision == "fp32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = self._openvino.Core().read_model(str(file))
            self._compiled = self._openvino.Core().compile_model(model, "CPU", settings)
        except Exception as error:  # it raises RuntimeError, and others from its converters
            raise ArtifactError(
                f"OpenVINO cannot load {file}: {_reason(error)}", "use --engine onnxruntime, or export the file again"
            ) from error
        inputs, outputs = _specs(self._compiled.inputs), _specs(self._compiled.outputs)
        check_io(file, artifact, inputs, outputs)
        self._batch = inputs[0].shape[0]
        self._request = self._compiled.create_infer_request()
        self._buffers: dict[tuple[int, ...], tuple[Array, Any]] = {}

    @property
    def arithmetic(self) -> str:
        """In what it computes where the model is not integer: "fp32", "bf16" or "fp16"."""
        name = str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        return _ARITHMETIC.get(name, name)

    def predict(self, batch: Array) -> tuple[Array, ...]:
        """Maps images float32 (B, 3, H, W) to the manifest's outputs; see ``Predictor``.

        Raises:
            ValueError: The batch has another type or shape.
            ArtifactError: The graph cannot be computed.
        """
        check_batch(batch, self.artifact)
        try:
            return run_in_parts(batch, self._batch, self._run)
        except RuntimeError as error:
            raise self._failed(batch, error) from error

    def stream(self, batches: Iterable[Array], in_flight: int) -> Iterator[tuple[Array, ...]]:
        """Predicts batches with several requests in flight; see ``paddle_tk.runtime.asynchronous.run_stream``.

        Raises:
            ValueError: A batch has another type or shape.
            ArtifactError: The graph cannot be computed.
        """
        queue = self._openvino.AsyncInferQueue(self._compiled, in_flight)
        found: dict[int, Outputs] = {}
        queue.set_callback(lambda request, number: found.__setitem__(number, _outputs(request)))
        waiting: deque[tuple[int, int, int]] = deque()  # first part, parts and images of a batch
        number = 0
        for batch in batches:
            check_batch(batch, self.artifact)
            parts = split(batch, self._batch)
            waiting.append((number, len(parts), len(batch)))
            try:
                for part in parts:
                    queue.start_async({0: part}, number)  # waits while all requests are busy
                    number += 1
            except RuntimeError as error:
                raise self._failed(batch, error) from error
            while waiting and all(i in found for i in range(waiting[0][0], sum(waiting[0][:2]))):
                yield _take(found, waiting.popleft())
        queue.wait_all()
        while waiting:
            yield _take(found, waiting.popleft())

    def _run(self, batch: Array) -> Outputs:
        if not self._preallocate:
            self._request.infer({0: batch}, share_inputs=True)
            return _outputs(self._request)
        if batch.shape not in self._buffers:
            image = np.array(batch)
            self._buffers[batch.shape] = (image, self._openvino.Tensor(image, shared_memory=True))
        image, tensor = self._buffers[batch.shape]
        np.copyto(image, batch)
        self._request.set_input_tensor(tensor)
        self._request.infer()
        return _outputs(self._request)

    def _failed(self, batch: Array, error: Exception) -> ArtifactError:
        return ArtifactError(
            f"{self._file} cannot be run on a batch of shape {batch.shape}: {_reason(error)}",
            "give the input size that the file was made for",
        )


def _take(found: dict[int, Outputs], which: tuple[int, int, int]) -> Outputs:
    first, parts, images = which
    return join([found.pop(i) for i in range(first, first + parts)], images)


def _outputs(request: Any) -> Outputs:
    """Copies the outputs, whose buffers the request uses again."""
    return tuple(np.array(tensor.data, np.float32) for tensor in request.output_tensors)


def _openvino() -> Any:
    # Its import reports to its makers unless this package is missing; openvino then goes on without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BadInput("OpenVINO is not installed", INSTALL) from error
    return openvino


def _reason(error: Exception) -> str:
    """Returns the line that tells why; those with places in its own source do not."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "FrontEnd API"))]
    return "; ".join(told).rstrip(". ") or " ".join(str(error).split())


def _specs(values: Any) -> tuple[InputSpec, ...]:
    return tuple(
        InputSpec(
            value.any_name,
            tuple(None if side.is_dynamic else int(side.get_length()) for side in value.partial_shape),
            _TYPES.get(value.element_type.get_type_name(), value.element_type.get_type_name()),
        )
        for value in values
    )
