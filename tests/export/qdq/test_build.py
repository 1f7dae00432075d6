from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from paddle_tk.export.qdq.build import build
from paddle_tk.export.qdq.plan import make_plan
from paddle_tk.export.qdq.view import GraphView
from tests.export.qdq.graphs import WEIGHT_BITS, Sketch, images, ranges_of, residual, run


def _int8(model: onnx.ModelProto, target: Any, skip: dict[str, str] | None = None) -> onnx.ModelProto:
    plan = make_plan(GraphView(model), target, skip)
    return build(model, plan, ranges_of(model, plan.ranges, images()), weight_bits=WEIGHT_BITS)


@pytest.mark.parametrize("target", ["x86", "arm", "tensorrt"])
def test_int8_graph_computes_nearly_the_same(target: str) -> None:
    model = residual()
    found = _int8(model, target)
    onnx.checker.check_model(found, full_check=True)

    for batch in images(3, seed=1):
        (right,), (int8,) = run(model, batch), run(found, batch)
        assert np.linalg.norm(int8 - right) <= 0.06 * np.linalg.norm(right)
        assert not np.array_equal(int8, right)


@pytest.mark.parametrize("target", ["x86", "arm"])
def test_every_layer_becomes_one_integer_kernel(target: str, tmp_path: Path) -> None:
    file = str(tmp_path / "optimised.onnx")
    run(_int8(residual(), target), images()[0], int8_everywhere=target == "arm", save_to=file)
    kinds = Counter(node.op_type for node in onnx.load(file).graph.node)

    assert (kinds["QLinearConv"], kinds["QLinearAdd"], kinds["QGemm"]) == (3, 1, 1)
    assert kinds["Relu"] == kinds["Conv"] == kinds["DequantizeLinear"] == 0
    assert kinds["QuantizeLinear"] == 1, "only the image"


@pytest.mark.parametrize("target", ["x86", "arm", "tensorrt"])
def test_weights_are_stored_as_int8_and_nothing_else(target: str) -> None:
    model = residual()
    found = _int8(model, target)
    big = [t for t in found.graph.initializer if numpy_helper.to_array(t).size > 16]

    assert {t.data_type for t in big} == {onnx.TensorProto.INT8}
    assert sum(numpy_helper.to_array(t).size for t in big) == sum(
        numpy_helper.to_array(t).size for t in model.graph.initializer if t.name.endswith(".w")
    )


def test_biases_are_int32_where_that_is_needed_to_fuse_them() -> None:
    def kinds(target: str) -> Counter[int]:
        found = _int8(residual(), target)
        held = {t.name: t.data_type for t in found.graph.initializer}
        dequantized = [node.input[0] for node in found.graph.node if node.op_type == "DequantizeLinear"]
        return Counter(held[name] for name in dequantized if name in held)

    both = {onnx.TensorProto.INT8: 4}
    assert kinds("arm") == {**both, onnx.TensorProto.INT32: 4}
    assert kinds("x86") == {**both, onnx.TensorProto.INT32: 1}, "that of the linear layer"
    assert kinds("tensorrt") == both


def test_float_model_is_left_as_it_was() -> None:
    model = residual()
    before = model.SerializeToString()
    _int8(model, "x86")

    assert model.SerializeToString() == before


def test_output_keeps_its_name_when_it_is_rounded() -> None:
    s = Sketch()
    model = s.model(s.conv("only", "image", 4, inputs=3), [1, 4, 16, 16])
    found = _int8(model, "x86")
    batch = images()[0]

    assert [value.name for value in found.graph.output] == ["only.out"]
    assert np.abs(run(found, batch)[0] - run(model, batch)[0]).max() < 0.1


def test_weight_that_two_layers_share_is_rounded_for_each_input() -> None:
    s = Sketch()
    first = s.conv("first", "image", 3, inputs=3)
    second = s.node("Conv", "second", [first, "first.w", "first.b"], pads=[1] * 4, kernel_shape=[3, 3])
    model = s.model(second, [1, 3, 16, 16])
    batch = images()[0]

    assert np.abs(run(_int8(model, "x86"), batch)[0] - run(model, batch)[0]).max() < 0.1


def test_float_layer_between_integer_ones_gets_floats() -> None:
    model = residual()
    found = _int8(model, "x86", {"conv1": "kept"})
    conv = next(node for node in found.graph.node if node.name == "conv1")

    assert conv.input[1] == "conv1.w"
    batch = images()[0]
    assert np.linalg.norm(run(found, batch)[0] - run(model, batch)[0]) <= 0.06 * np.linalg.norm(run(model, batch)[0])


def test_missing_range_is_refused() -> None:
    model = residual()
    plan = make_plan(GraphView(model), "x86")

    with pytest.raises(ValueError, match=r"no range of the tensors image"):
        build(model, plan, {})
