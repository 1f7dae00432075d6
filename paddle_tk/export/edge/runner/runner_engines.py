"""ONNX Runtime, OpenVINO and TensorRT behind one interface: slots with an input buffer that are run."""

import sys
import threading
from typing import Any

import numpy as np
from runner_bundle import Bundle, RunnerError

_ERRORS_ONLY = 3


def open_engine(bundle: "Bundle", run: "dict[str, Any]", threads: int) -> "Any":
    """Loads a model.

    Args:
        bundle: A verified bundle.
        run: One of its "runs".
        threads: CPU threads.

    Returns:
        An engine: ``slot()`` gives an object with ``input``, a float32 array that is there from the start, and
        ``run()``, which returns the outputs; they are valid until the slot is run again.

    Raises:
        RunnerError: The package is not installed, or the model cannot be loaded.
    """
    if run["engine"] == "tensorrt":
        return _TensorRT(bundle, bundle.engine_file(run))
    make = _OpenVINO if run["engine"] == "openvino" else _OnnxRuntime
    return make(bundle, bundle.path(run["model"]), threads)


class _OnnxRuntime:
    """An ONNX Runtime session whose input and output buffers are allocated once."""

    def __init__(self, bundle: "Bundle", file: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RunnerError("ONNX Runtime is not installed", "pip install -r requirements.txt") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        self.version = str(onnxruntime.__version__)
        self._specs = _specs(bundle)
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            raise RunnerError(f"{file} cannot be loaded: {error}", "copy the bundle again") from error

    def slot(self) -> "_OnnxRuntimeSlot":
        """Returns buffers of their own; several slots may be run at the same time."""
        return _OnnxRuntimeSlot(self._session, *self._specs)


class _OnnxRuntimeSlot:
    def __init__(self, session: "Any", name: str, shape: "list[int]", outputs: "list[Any]") -> None:
        self._session, self._binding = session, session.io_binding()
        self.input = np.zeros(shape, np.float32)
        self._binding.bind_input(name, "cpu", 0, np.float32, shape, self.input.ctypes.data)
        self._outputs = []
        for output, output_shape in outputs:
            buffer = np.zeros(output_shape, np.float32)
            self._binding.bind_output(output, "cpu", 0, np.float32, output_shape, buffer.ctypes.data)
            self._outputs.append(buffer)

    def run(self) -> "list[np.ndarray]":
        """Computes the outputs for what ``input`` holds."""
        self._session.run_with_iobinding(self._binding)
        return self._outputs


class _OpenVINO:
    """An OpenVINO model on the CPU."""

    def __init__(self, bundle: "Bundle", file: str, threads: int) -> None:
        try:
            # Its import reports to its makers unless this package is missing; openvino then goes on without it.
            sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
            import openvino
        except ImportError as error:
            raise RunnerError(
                "OpenVINO is not installed", "pip install openvino, or use --engine onnxruntime"
            ) from error
        self.version = str(openvino.__version__)
        self._name, self._shape, _ = _specs(bundle)
        try:
            self._model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": threads})
        except Exception as error:  # its exceptions share no base class
            raise RunnerError(f"{file} cannot be loaded: {error}", "copy the bundle again") from error

    def slot(self) -> "_OpenVINOSlot":
        """Returns buffers of their own; several slots may be run at the same time."""
        return _OpenVINOSlot(self._model, self._shape)


class _OpenVINOSlot:
    def __init__(self, model: "Any", shape: "list[int]") -> None:
        self._request = model.create_infer_request()
        self.input = np.zeros(shape, np.float32)

    def run(self) -> "list[np.ndarray]":
        """Computes the outputs for what ``input`` holds."""
        found = self._request.infer([self.input], share_inputs=True, share_outputs=True)
        return [np.asarray(found[i], np.float32) for i in range(len(found))]


class _TensorRT:
    """An engine that was built on this device. Its slots are run one after the other."""

    def __init__(self, bundle: "Bundle", file: str) -> None:
        try:
            import tensorrt
            import tensorrt_engine
        except ImportError as error:
            raise RunnerError(
                f"TensorRT's Python package cannot be imported: {error}",
                "use the system's python3, where JetPack installs it, or --engine onnxruntime",
            ) from error
        self.version = str(tensorrt.__version__)
        _, self._shape, outputs = _specs(bundle)
        self._lock = threading.Lock()
        try:
            self._engine = tensorrt_engine.TensorRTEngine(file)
            # The engine may list its outputs in another order than the ONNX file.
            self._order = [self._engine.output_names.index(name) for name, _ in outputs]
        except Exception as error:  # its exceptions share no base class
            raise RunnerError(f"{file} cannot be loaded: {error}", "build it again: ./build_engine.sh") from error

    def slot(self) -> "_TensorRTSlot":
        """Returns an input buffer of its own."""
        return _TensorRTSlot(self._engine, self._order, self._lock, self._shape)


class _TensorRTSlot:
    def __init__(self, engine: "Any", order: "list[int]", lock: "Any", shape: "list[int]") -> None:
        self._engine, self._order, self._lock = engine, order, lock
        self.input = np.zeros(shape, np.float32)

    def run(self) -> "list[np.ndarray]":
        """Computes the outputs for what ``input`` holds."""
        with self._lock:
            found = self._engine.run(self.input)
        return [np.asarray(found[place], np.float32) for place in self._order]


def _specs(bundle: "Bundle") -> "tuple[str, list[int], list[Any]]":
    given = bundle.manifest["input"]
    return given["name"], given["shape"], [(o["name"], o["shape"]) for o in bundle.manifest["outputs"]]
