"""Stand-ins for CUDA's runtime and for TensorRT's Python API, as it was up to 8.2 and as it is from 8.5 on.

The device boundary of the tests: memory of the "GPU" are buffers, a stream does its work only when it is synchronized,
and the one "model" maps (B, 3, 4, 4) to the mean and the maximum of each image.
"""

from __future__ import annotations

import ctypes
import json
import types
from collections.abc import Callable
from typing import Any

import numpy as np

CHANNELS, SIDE = 3, 4
INPUT, OUTPUT = "image", "logits"


class FakeCudart:
    """CUDA's runtime as ctypes would show it; ``log`` holds the name of every call."""

    def __init__(self, failing: str = "") -> None:
        self.log: list[str] = []
        self.memory: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self._failing = failing
        self.cudaGetErrorString = lambda status: b"out of memory"

    def _status(self, name: str) -> int:
        self.log.append(name)
        return 2 if name == self._failing else 0

    def cudaMalloc(self, pointer: Any, size: Any) -> int:
        status = self._status("cudaMalloc")
        if status == 0:
            block = ctypes.create_string_buffer(size.value)
            self.memory[ctypes.addressof(block)] = block
            pointer[0] = ctypes.addressof(block)
        return status

    def cudaFree(self, address: Any) -> int:
        del self.memory[address.value]
        return self._status("cudaFree")

    def cudaStreamCreate(self, pointer: Any) -> int:
        number = 7 + len(self.streams)
        self.streams[number] = []
        pointer[0] = number
        return self._status("cudaStreamCreate")

    def cudaStreamDestroy(self, stream: Any) -> int:
        del self.streams[stream.value]
        return self._status("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: Any) -> int:
        work, self.streams[stream.value] = self.streams[stream.value], []
        for step in work:
            step()
        return self._status("cudaStreamSynchronize")

    def cudaMemcpyAsync(self, target: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        on_device = {1: target, 2: source}[kind.value]
        assert ctypes.sizeof(self.memory[on_device.value]) == size.value
        self.streams[stream.value].append(lambda: ctypes.memmove(target, source, size.value))
        return self._status({1: "to device", 2: "to host"}[kind.value])

    def cudaGetDeviceProperties(self, properties: Any, device: Any) -> int:
        properties.raw = b"Fake GPU\0".ljust(len(properties), b"x")
        return self._status("cudaGetDeviceProperties")

    def execute(self, image: int, logits: int, batch: int, stream: int) -> bool:
        """Queues the model's only kernel."""
        self.log.append("execute")

        def kernel() -> None:
            pixels = np.frombuffer(self.memory[image], np.float32).reshape(batch, -1)
            found = np.stack([pixels.mean(axis=1), pixels.max(axis=1)], axis=1).astype(np.float32)
            ctypes.memmove(logits, found.ctypes.data, found.nbytes)

        self.streams[stream].append(kernel)
        return True


def make(cudart: FakeCudart, version: str, **behaviour: Any) -> types.ModuleType:
    """Returns a module ``tensorrt``.

    Args:
        cudart: Where its engines compute.
        version: From "8.5" on its engines have tensors by name, before bindings by number.
        behaviour: "fast" (GPU abilities, default FP16 and INT8), "batch" of the network (-1: free), "readable"
            (whether the parser takes the model).
    """
    trt = types.ModuleType("tensorrt")
    by_name = tuple(int(part) for part in version.split(".")[:2]) >= (8, 5)
    fast = behaviour.get("fast", ("FP16", "INT8"))
    trt.built = types.SimpleNamespace(flags=[], workspace=None, profiles=[], network_flags=None)  # type: ignore[attr-defined]
    facts: dict[str, Any] = {
        "__version__": version,
        "Logger": _logger(),
        "init_libnvinfer_plugins": lambda logger, namespace: True,
        "Runtime": lambda logger: types.SimpleNamespace(
            deserialize_cuda_engine=lambda payload: _deserialize(payload, version, cudart, by_name)
        ),
        "TensorIOMode": types.SimpleNamespace(INPUT="in", OUTPUT="out"),
        "nptype": lambda name: np.dtype(name).type,
        "BuilderFlag": types.SimpleNamespace(FP16="FP16", INT8="INT8"),
        "MemoryPoolType": types.SimpleNamespace(WORKSPACE="workspace"),
        "NetworkDefinitionCreationFlag": types.SimpleNamespace(EXPLICIT_BATCH=0),
        "Builder": lambda logger: _Builder(trt, version, fast, behaviour.get("batch", 1)),
        "OnnxParser": lambda network, logger: _parser(behaviour.get("readable", True)),
    }
    for name, value in facts.items():
        setattr(trt, name, value)
    return trt


def _logger() -> Any:
    logger = lambda level: types.SimpleNamespace(level=level)  # noqa: E731
    logger.ERROR = "error"  # type: ignore[attr-defined]
    return logger


def _parser(readable: bool) -> Any:
    return types.SimpleNamespace(
        parse_from_file=lambda path: readable, num_errors=1, get_error=lambda index: "In node 3: HardSwish\nunsupported"
    )


class _Builder:
    def __init__(self, trt: Any, version: str, fast: tuple[str, ...], batch: int) -> None:
        self._built, self._version, self._batch = trt.built, version, batch
        self.platform_has_fast_fp16, self.platform_has_fast_int8 = "FP16" in fast, "INT8" in fast

    def create_network(self, flags: int) -> Any:
        self._built.network_flags = flags
        tensor = types.SimpleNamespace(name=INPUT, shape=(self._batch, CHANNELS, SIDE, SIDE))
        return types.SimpleNamespace(num_inputs=1, get_input=lambda index: tensor)

    def create_builder_config(self) -> Any:
        config = types.SimpleNamespace(
            set_flag=self._built.flags.append, add_optimization_profile=self._built.profiles.append
        )
        if int(self._version.split(".")[0]) >= 10:
            config.set_memory_pool_limit = lambda pool, size: setattr(self._built, "workspace", (pool, size))
        return config

    def create_optimization_profile(self) -> Any:
        profile = types.SimpleNamespace()
        profile.set_shape = lambda name, *shapes: setattr(profile, "shapes", (name, shapes))
        return profile

    def build_serialized_network(self, network: Any, config: Any) -> bytes:
        if self._built.workspace is None:
            self._built.workspace = config.max_workspace_size
        batch = self._built.profiles[0].shapes[1][2][0] if self._built.profiles else self._batch
        return serialized(self._version, batch)


def serialized(version: str, batch: int, outputs: tuple[str, ...] = (OUTPUT,), free: bool = False) -> bytes:
    """Returns an engine's bytes."""
    return json.dumps({"version": version, "batch": batch, "outputs": outputs, "free": free}).encode()


def _deserialize(payload: bytes, version: str, cudart: FakeCudart, by_name: bool) -> Any:
    facts = json.loads(payload)
    if facts["version"] != version:
        return None
    return _ByName(facts, cudart) if by_name else _ByNumber(facts, cudart)


class _Shapes:
    def __init__(self, facts: dict[str, Any], cudart: FakeCudart) -> None:
        self.batch, self.cudart = facts["batch"], cudart
        self.names = [INPUT, *facts["outputs"]]
        self.chosen = -1 if facts["free"] else self.batch

    def shape(self, name: str, batch: int) -> tuple[int, ...]:
        return (batch, CHANNELS, SIDE, SIDE) if name == INPUT else (batch, 2)


class _ByName(_Shapes):
    """An engine from 8.5 on, and its context."""

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == INPUT else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape(name, self.chosen)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [self.shape(name, 1), self.shape(name, 1), self.shape(name, self.batch)]

    def create_execution_context(self) -> Any:
        self.addresses: dict[str, int] = {}
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.chosen = shape[0]
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.cudart.memory
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self.addresses) == set(self.names)
        return self.cudart.execute(self.addresses[INPUT], self.addresses[OUTPUT], self.chosen, stream)


class _ByNumber(_Shapes):
    """An engine before 8.5, and its context."""

    @property
    def num_bindings(self) -> int:
        return len(self.names)

    def get_binding_name(self, index: int) -> str:
        return self.names[index]

    def binding_is_input(self, index: int) -> bool:
        return index == 0

    def get_binding_dtype(self, index: int) -> str:
        return "float32"

    def get_binding_shape(self, index: int) -> tuple[int, ...]:
        return self.shape(self.names[index], self.chosen)

    def get_profile_shape(self, profile: int, index: int) -> list[tuple[int, ...]]:
        name = self.names[index]
        return [self.shape(name, 1), self.shape(name, 1), self.shape(name, self.batch)]

    def create_execution_context(self) -> Any:
        return self

    def set_binding_shape(self, index: int, shape: tuple[int, ...]) -> bool:
        self.chosen = shape[0]
        return True

    def execute_async_v2(self, bindings: list[int], stream: int) -> bool:
        return self.cudart.execute(bindings[0], bindings[1], self.chosen, stream)
