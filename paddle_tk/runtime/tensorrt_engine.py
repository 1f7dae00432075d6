"""TensorRT by its Python API and CUDA's runtime through ctypes: builds an engine from an ONNX file, loads and runs it.

Stand-alone: standard library, NumPy and TensorRT only, Python 3.6 syntax, so that it can be copied beside a model onto
a Jetson. It follows the API of TensorRT 8.2 (bindings by number) and of 8.5 to 10 (tensors by name).

NOT RUN ON A DEVICE: it was tested against a stand-in of both APIs that checks order and arguments of every call.
"""

import ctypes
import ctypes.util
import os
from typing import Any

import numpy as np

MIB = 1024 * 1024
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2")
_NAME_BYTES = 256  # cudaDeviceProp begins with the name; the whole struct is far below the buffer below
_PROPERTIES_BYTES = 16384
INSTALL = (
    "on a Jetson it comes with JetPack (python3-libnvinfer; make the virtual environment with --system-site-packages), "
    "elsewhere with NVIDIA's wheel: pip install tensorrt"
)


class TensorRTError(RuntimeError):
    """What TensorRT or CUDA refused, as one line."""


class TensorRTMissing(TensorRTError):
    """TensorRT or CUDA is not installed."""


def import_tensorrt() -> "Any":
    """Returns the module tensorrt.

    Raises:
        TensorRTMissing: It is not installed.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise TensorRTMissing("TensorRT is not installed") from error
    return tensorrt


def load_cudart() -> "Any":
    """Returns CUDA's runtime library.

    Raises:
        TensorRTMissing: There is none.
    """
    found = ctypes.util.find_library("cudart")
    for name in ((found,) if found else ()) + _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise TensorRTMissing("CUDA's runtime library (libcudart) is neither installed nor in LD_LIBRARY_PATH")


class Cuda:
    """The few calls of CUDA's runtime that inference needs.

    Args:
        library: CUDA's runtime library; None: the installed one.
    """

    def __init__(self, library: "Any" = None) -> None:
        self._library = load_cudart() if library is None else library
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def _call(self, name: str, *arguments: "Any") -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            said = self._library.cudaGetErrorString(ctypes.c_int(status))
            raise TensorRTError("{} failed: {} (error {})".format(name, (said or b"?").decode(), status))

    def malloc(self, size: int) -> int:
        """Returns the address of ``size`` bytes on the device."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.pointer(address), ctypes.c_size_t(size))
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Gives memory of the device back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def stream(self) -> int:
        """Returns a new stream."""
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.pointer(handle))
        return int(handle.value or 0)

    def free_stream(self, stream: int) -> None:
        """Gives a stream back."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        """Waits until all work of a stream is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def to_device(self, address: int, array: "np.ndarray", stream: int) -> None:
        """Copies an array to the device; the array must stay until the stream is synchronized."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def to_host(self, array: "np.ndarray", address: int, stream: int) -> None:
        """Copies memory of the device into an array, which is filled when the stream is synchronized."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        pointers = ctypes.c_void_p(target), ctypes.c_void_p(source)
        self._call("cudaMemcpyAsync", *pointers, ctypes.c_size_t(size), ctypes.c_int(kind), ctypes.c_void_p(stream))

    def device_name(self) -> str:
        """Returns the name of the first GPU."""
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call("cudaGetDeviceProperties", properties, ctypes.c_int(0))
        return properties.raw[:_NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")


class _Tensor:
    """One input or output of an engine, with its buffers on both sides."""

    def __init__(self, name: str, is_input: bool, shape: "tuple[int, ...]", dtype: "Any") -> None:
        self.name, self.is_input, self.shape = name, is_input, shape
        self.host = np.zeros(shape, dtype)
        self.device = 0


class TensorRTEngine:
    """A serialized engine, loaded with all its buffers.

    Args:
        path: The engine file; it runs only with the TensorRT version and the kind of GPU it was built for.
        cuda: CUDA's runtime; None: the installed one.

    Raises:
        TensorRTError: TensorRT or CUDA is missing, or the engine cannot be loaded here.
    """

    def __init__(self, path: str, cuda: "Any" = None) -> None:
        trt = import_tensorrt()
        self._cuda = Cuda() if cuda is None else cuda
        self._logger = trt.Logger(trt.Logger.ERROR)
        trt.init_libnvinfer_plugins(self._logger, "")
        with open(str(path), "rb") as stream:
            payload = stream.read()
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(payload)
        if self._engine is None:
            raise TensorRTError(
                f"TensorRT {trt.__version__} cannot load {path}: an engine runs only with the version and on the kind "
                "of GPU that it was built with; build it again on this device"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise TensorRTError(f"TensorRT has no memory for {path}: close other programs or use a smaller model")
        self._by_name = hasattr(self._engine, "num_io_tensors") and hasattr(self._context, "set_tensor_address")
        self._tensors = self._find_by_name(trt) if self._by_name else self._find_by_number(trt)
        inputs = [tensor for tensor in self._tensors if tensor.is_input]
        self._outputs = [tensor for tensor in self._tensors if not tensor.is_input]
        if len(inputs) != 1:
            raise TensorRTError(f"{path} has {len(inputs)} inputs, an engine with one image input is expected")
        self._input, self._stream = inputs[0], 0
        try:
            self._allocate()
        except TensorRTError:
            self.close()
            raise

    @property
    def input_shape(self) -> "tuple[int, ...]":
        """Shape of the input, batch included."""
        return self._input.shape

    @property
    def output_names(self) -> "list[str]":
        """Names of the outputs, in the engine's order."""
        return [tensor.name for tensor in self._outputs]

    @property
    def output_shapes(self) -> "list[tuple[int, ...]]":
        """Shapes of the outputs, in the engine's order."""
        return [tensor.shape for tensor in self._outputs]

    def run(self, batch: "np.ndarray") -> "list[np.ndarray]":
        """Runs one batch.

        Args:
            batch: As ``input_shape``; it is converted to the type of the engine's input.

        Returns:
            The outputs, in the engine's order, in arrays of their own.

        Raises:
            ValueError: Another shape.
            TensorRTError: CUDA or TensorRT failed.
        """
        if tuple(batch.shape) != self._input.shape:
            raise ValueError(f"expected a batch of shape {self._input.shape}, got {tuple(batch.shape)}")
        np.copyto(self._input.host, batch, casting="same_kind")
        self._cuda.to_device(self._input.device, self._input.host, self._stream)
        if not self._execute():
            raise TensorRTError("TensorRT could not start the engine")
        for tensor in self._outputs:
            self._cuda.to_host(tensor.host, tensor.device, self._stream)
        self._cuda.synchronize(self._stream)
        return [np.array(tensor.host) for tensor in self._outputs]

    def close(self) -> None:
        """Gives all memory back; the engine cannot be used afterwards."""
        for tensor in self._tensors:
            if tensor.device:
                self._cuda.free(tensor.device)
                tensor.device = 0
        if self._stream:
            self._cuda.free_stream(self._stream)
            self._stream = 0
        self._context = self._engine = self._runtime = None

    def _find_by_name(self, trt: "Any") -> "list[_Tensor]":
        """TensorRT 8.5 and later."""
        engine, found = self._engine, []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            if is_input and min(tuple(engine.get_tensor_shape(name))) < 0:
                largest = tuple(engine.get_tensor_profile_shape(name, 0)[2])
                self._context.set_input_shape(name, largest)
            found.append((name, is_input, trt.nptype(engine.get_tensor_dtype(name))))
        return [_Tensor(n, i, _known(n, self._context.get_tensor_shape(n)), d) for n, i, d in found]

    def _find_by_number(self, trt: "Any") -> "list[_Tensor]":
        """Before TensorRT 8.5."""
        engine, found = self._engine, []
        for index in range(engine.num_bindings):
            is_input = engine.binding_is_input(index)
            if is_input and min(tuple(engine.get_binding_shape(index))) < 0:
                largest = tuple(engine.get_profile_shape(0, index)[2])
                self._context.set_binding_shape(index, largest)
            found.append((engine.get_binding_name(index), is_input, trt.nptype(engine.get_binding_dtype(index))))
        shapes = [self._context.get_binding_shape(index) for index in range(len(found))]
        return [_Tensor(n, i, _known(n, shape), d) for (n, i, d), shape in zip(found, shapes)]  # noqa: B905 - 3.6

    def _allocate(self) -> None:
        self._stream = self._cuda.stream()
        for tensor in self._tensors:
            tensor.device = self._cuda.malloc(tensor.host.nbytes)
            if self._by_name and not self._context.set_tensor_address(tensor.name, tensor.device):
                raise TensorRTError(f"TensorRT refuses the buffer of {tensor.name}")

    def _execute(self) -> bool:
        if self._by_name:
            return bool(self._context.execute_async_v3(self._stream))
        bindings = [tensor.device for tensor in self._tensors]
        return bool(self._context.execute_async_v2(bindings, self._stream))


def _known(name: str, shape: "Any") -> "tuple[int, ...]":
    sides = tuple(int(side) for side in shape)
    if not sides or min(sides) < 1:
        raise TensorRTError(f"the shape of {name} is not fixed: {sides}; export the model with a fixed shape")
    return sides


def build_engine(
    onnx_path: str, engine_path: str, fp16: bool = False, int8: bool = False, workspace_mb: int = 1024, batch: int = 1
) -> None:
    """Builds an engine for the GPU at hand, as ``trtexec --onnx=... --saveEngine=...`` does; it takes minutes.

    Args:
        onnx_path: The model; an INT8 one holds its own scales (Q/DQ).
        engine_path: The file to write.
        fp16: Allow FP16.
        int8: Allow INT8; needs a model with Q/DQ.
        workspace_mb: Memory in MiB that may be used while kernels are chosen.
        batch: Batch size where the model leaves it free.

    Raises:
        TensorRTError: TensorRT is missing, cannot read the model, or cannot build it on this GPU.
    """
    trt = import_tensorrt()
    logger = trt.Logger(trt.Logger.ERROR)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise TensorRTError("TensorRT {} cannot read {}: {}".format(trt.__version__, onnx_path, " ".join(said.split())))
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * MIB)
    else:
        config.max_workspace_size = workspace_mb * MIB
    for wanted, flag, able in ((fp16, "FP16", "platform_has_fast_fp16"), (int8, "INT8", "platform_has_fast_int8")):
        if wanted:
            _set_flag(trt, builder, config, flag, able)
    _fix_batch(builder, config, network, batch)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise TensorRTError(f"TensorRT {trt.__version__} cannot build {onnx_path}; its reason is above")
    _write(str(engine_path), engine)


def _network_flags(trt: "Any") -> int:
    """TensorRT 8 asks for networks with an explicit batch dimension; later ones have no others."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _set_flag(trt: "Any", builder: "Any", config: "Any", flag: str, able: str) -> None:
    if not hasattr(trt.BuilderFlag, flag):
        raise TensorRTError(f"TensorRT {trt.__version__} takes the precision from the model and has no {flag} flag")
    if not getattr(builder, able, True):
        raise TensorRTError(f"this GPU has no fast {flag}: build the float model without {flag}")
    config.set_flag(getattr(trt.BuilderFlag, flag))


def _fix_batch(builder: "Any", config: "Any", network: "Any", batch: int) -> None:
    profile = None
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(int(side) for side in tensor.shape)
        if min(shape) >= 0:
            continue
        if min(shape[1:]) < 0:
            raise TensorRTError(f"the input {tensor.name} has no fixed size: {shape}; export it with one")
        profile = builder.create_optimization_profile() if profile is None else profile
        fixed = (batch, *shape[1:])
        profile.set_shape(tensor.name, fixed, fixed, fixed)
    if profile is not None:
        config.add_optimization_profile(profile)


def _write(path: str, engine: "Any") -> None:
    """Writes the file whole or not at all."""
    temporary = path + ".part"
    try:
        with open(temporary, "wb") as stream:
            stream.write(memoryview(engine))
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
