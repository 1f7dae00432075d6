from __future__ import annotations

import numpy as np
import onnx
import pytest

from paddle_tk.export.graph import decompose_hardswish, int64_to_int32, tensor_shapes
from tests.export.graph.tiny import check_same, constants_of, kinds, make, node, noise

I64, I32 = onnx.TensorProto.INT64, onnx.TensorProto.INT32


def test_decompose_hardswish_writes_what_old_parsers_take() -> None:
    nodes = [node("HardSwish", ["x"], ["a"]), node("HardSwish", ["a"], ["y"])]
    before = make(nodes, inputs={"x": [4, 50]}, outputs={"y": [4, 50]})
    after = decompose_hardswish(before)
    assert kinds(after) == ["HardSigmoid", "Mul", "HardSigmoid", "Mul"]
    assert len({n.name for n in after.graph.node}) == 4
    assert (after.graph.node[1].name, list(after.graph.node[1].output)) == ("HardSwish/a", ["a"])
    check_same(before, after, tolerance=1e-6, x=4 * noise(4, 50))


def test_int64_to_int32_changes_numbers_that_the_graph_computes_with() -> None:
    nodes = [
        node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        node("Cast", ["x"], ["whole"], to=I64),
        node("Mul", ["whole", "two"], ["doubled"]),
        node("Add", ["doubled", "two"], ["sum"]),
        node("Cast", ["sum"], ["f"], to=onnx.TensorProto.FLOAT),
        node("Gather", ["f", "best"], ["g"], axis=1),
        node("Gather", ["g", "index"], ["h"], axis=1),
        node("Reshape", ["h", "shape"], ["y"]),
    ]
    constants = {"two": np.array([2]), "index": np.array([1, 0]), "shape": np.array([-1])}
    before = make(nodes, inputs={"x": [3, 5]}, outputs={"y": None}, constants=constants)
    after = int64_to_int32(before)
    types = tensor_shapes(after).types
    assert {name: types[name] for name in ("two", "whole", "doubled", "sum", "index")} == dict.fromkeys(
        ("two", "whole", "doubled", "sum", "index"), I32
    )
    assert (types["best"], types["shape"]) == (I64, I64)
    check_same(before, after, x=3 * noise(3, 5))


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_int64_to_int32_keeps_numbers_when_they_are_too_large(value: int) -> None:
    nodes = [
        node("Cast", ["x"], ["whole"], to=I64),
        node("Add", ["whole", "k"], ["sum"]),
        node("Cast", ["sum"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    before = make(nodes, inputs={"x": [3]}, outputs={"y": [3]}, constants={"k": np.array([value])})
    after = int64_to_int32(before)
    assert constants_of(after)["k"].dtype == np.int64
    check_same(before, after, x=noise(3))


def test_int64_to_int32_keeps_inputs_and_outputs_and_what_is_bound_to_them() -> None:
    nodes = [node("Add", ["x", "k"], ["s"]), node("Mul", ["s", "k"], ["y"])]
    constants = {"k": np.array([3])}
    before = make(nodes, inputs={"x": [2]}, outputs={"y": [2]}, constants=constants, input_type=I64, output_type=I64)
    after = int64_to_int32(before)
    assert after.graph.node == before.graph.node
    assert constants_of(after)["k"].dtype == np.int64
    check_same(before, after, x=np.array([4, 5]))


def test_int64_to_int32_keeps_the_end_of_a_slice_when_it_is_unlimited() -> None:
    nodes = [node("Slice", ["x", "start", "end"], ["a"]), node("Slice", ["a", "from", "to"], ["y"])]
    constants = {"start": np.array([1]), "end": np.array([2**63 - 1]), "from": np.array([0]), "to": np.array([1])}
    before = make(nodes, inputs={"x": [4]}, outputs={"y": [1]}, constants=constants)
    after = int64_to_int32(before)
    assert {name: values.dtype for name, values in constants_of(after).items()} == {
        "start": np.int64,
        "end": np.int64,
        "from": np.int32,
        "to": np.int32,
    }
    check_same(before, after, x=noise(4))


def test_int64_to_int32_keeps_what_a_branch_makes() -> None:
    branches = {
        f"{name}_branch": onnx.helper.make_graph(
            [onnx.helper.make_node("Add", ["whole", "k"], [name])],
            name,
            [],
            [onnx.helper.make_tensor_value_info(name, I64, [3])],
        )
        for name in ("then", "else")
    }
    nodes = [
        node("Cast", ["x"], ["whole"], to=I64),
        node("If", ["yes"], ["i"], **branches),
        node("Mul", ["i", "two"], ["m"]),
        node("Cast", ["m"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    constants = {"yes": np.array(True), "k": np.array([3]), "two": np.array([2])}
    before = make(nodes, inputs={"x": [3]}, outputs={"y": [3]}, constants=constants)
    after = int64_to_int32(before)
    assert after.graph.node == before.graph.node
    check_same(before, after, x=3 * noise(3))


def test_int64_to_int32_keeps_everything_when_an_operator_is_not_known() -> None:
    nodes = [node("Cast", ["x"], ["whole"], to=I64), onnx.helper.make_node("Own", ["whole"], ["y"], domain="com.e")]
    graph = onnx.helper.make_graph(
        nodes, "tiny", *([onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2])] for n in "xy")
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(d, 17) for d in ("", "com.e")])
    assert int64_to_int32(model).graph.node == graph.node


def test_decompose_hardswish_keeps_names_free_and_the_given_model_as_it_is() -> None:
    nodes = [node("Relu", ["x"], ["y.gate"]), node("HardSwish", ["y.gate"], ["y"])]
    before = make(nodes, inputs={"x": [5]}, outputs={"y": [5]})
    original = before.SerializeToString(deterministic=True)
    after = decompose_hardswish(before)
    assert before.SerializeToString(deterministic=True) == original
    assert [n.output[0] for n in after.graph.node] == ["y.gate", "y.gate.2", "y"]
    check_same(before, after, tolerance=1e-6, x=np.array([-4, -3, 0, 3, 4], np.float32))
