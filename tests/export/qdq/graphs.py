"""Small float graphs with real arithmetic, and a way to run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from paddle_tk.environment.processor import has_vnni
from paddle_tk.types import TensorRange

# What this processor computes without overflow in ONNX Runtime's integer kernels.
WEIGHT_BITS = 7 if has_vnni() is False else 8
Array = np.ndarray[Any, Any]
SIZE = 16
_CHANNELS = 8


class Sketch:
    """Collects nodes and weights of a graph with one image input and one output."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}
        self._rng = np.random.default_rng(seed)

    def node(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def held(self, name: str, values: Array) -> str:
        self.weights[name] = values
        return name

    def conv(self, name: str, source: str, channels: int, kernel: int = 3, *, inputs: int, groups: int = 1) -> str:
        shape = (channels, inputs // groups, kernel, kernel)
        weight = self.held(
            f"{name}.w", (self._rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        )
        bias = self.held(f"{name}.b", (0.1 * self._rng.standard_normal(channels)).astype(np.float32))
        pad = kernel // 2
        return self.node("Conv", name, [source, weight, bias], pads=[pad] * 4, kernel_shape=[kernel] * 2, group=groups)

    def model(self, output: str, shape: list[int], opset: int = 17) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(values, name) for name, values in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def residual(seed: int = 0) -> onnx.ModelProto:
    """stem conv - relu - pool - [conv - relu - conv] + skip - relu - global pool - linear."""
    s = Sketch(seed)
    stem = s.node("Relu", "stem_relu", [s.conv("stem", "image", _CHANNELS, inputs=3)])
    pool = s.node("MaxPool", "pool", [stem], kernel_shape=[2, 2], strides=[2, 2])
    inner = s.node("Relu", "relu1", [s.conv("conv1", pool, _CHANNELS, inputs=_CHANNELS)])
    joined = s.node("Add", "add", [s.conv("conv2", inner, _CHANNELS, inputs=_CHANNELS), pool])
    out = s.node("GlobalAveragePool", "gap", [s.node("Relu", "relu2", [joined])])
    flat = s.node("Flatten", "flat", [out])
    rng = np.random.default_rng(seed + 1)
    weight = s.held("fc.w", rng.standard_normal((5, _CHANNELS)).astype(np.float32))
    bias = s.held("fc.b", rng.standard_normal(5).astype(np.float32))
    return s.model(s.node("Gemm", "fc", [flat, weight, bias], transB=1), [1, 5])


def images(n: int = 4, seed: int = 0) -> list[Array]:
    """Network inputs."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32) for _ in range(n)]


def run(model: onnx.ModelProto, batch: Array, *, int8_everywhere: bool = False, save_to: str = "") -> tuple[Array, ...]:
    """Runs a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    if int8_everywhere:  # fuse signed activations on x86 too, as ONNX Runtime does on ARM
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if save_to:
        options.optimized_model_filepath = save_to
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, {session.get_inputs()[0].name: batch}))


def ranges_of(model: onnx.ModelProto, names: tuple[str, ...], batches: list[Array]) -> dict[str, TensorRange]:
    """Abs-max ranges of tensors over batches."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    inner = [name for name in names if name != "image"]
    exposed.graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in inner)
    seen: dict[str, list[Array]] = {name: [] for name in names}
    for batch in batches:
        found = run(exposed, batch)[len(model.graph.output) :]
        for name, values in zip(inner, found, strict=True):
            seen[name].append(values)
        if "image" in seen:
            seen["image"].append(batch)
    return {
        name: TensorRange(
            float(min(v.min() for v in values)), float(max(v.max() for v in values)),
            float(max(np.abs(v).max() for v in values)), "abs_max", len(values),
        )
        for name, values in seen.items()
    }  # fmt: skip
