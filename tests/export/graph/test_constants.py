from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from paddle_tk.export.graph import fold_constants, tensor_shapes
from tests.export.graph.tiny import check_same, constants_of, kinds, make, node, noise

I64 = np.int64


def _constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(values), name))


def test_fold_constants_makes_initializers_when_constants_are_nodes() -> None:
    nodes = [
        _constant("k", noise(3)),
        node("Constant", [], ["n"], value_float=2.0),
        node("Add", ["x", "k"], ["a"]),
        node("Mul", ["a", "n"], ["y"]),
    ]
    before = make(nodes, inputs={"x": [2, 3]}, outputs={"y": [2, 3]})
    original = before.SerializeToString(deterministic=True)
    after = fold_constants(before)
    assert before.SerializeToString(deterministic=True) == original
    assert kinds(after) == ["Add", "Mul"]
    assert set(constants_of(after)) == {"k", "n"}
    check_same(before, after, x=noise(2, 3, seed=1))


def test_fold_constants_evaluates_and_drops_when_nothing_depends_on_the_input() -> None:
    nodes = [
        _constant("shape", np.array([1, -1, 1, 1])),
        node("Identity", ["shape"], ["same"]),
        node("Reshape", ["b", "same"], ["wide"]),
        node("Exp", ["b"], ["unused"]),
        node("Add", ["x", "wide"], ["y"]),
    ]
    before = make(nodes, inputs={"x": [1, 4, 2, 2]}, outputs={"y": None}, constants={"b": noise(4), "z": noise(9)})
    after = fold_constants(before)
    assert kinds(after) == ["Add"]
    assert {name: values.shape for name, values in constants_of(after).items()} == {"wide": (1, 4, 1, 1)}
    check_same(before, after, x=noise(1, 4, 2, 2, seed=1))


def test_fold_constants_keeps_output_names_when_an_identity_makes_an_output() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Neg", ["r"], ["n"]),
        node("Identity", ["r"], ["y"]),
        node("Identity", ["n"], ["m"]),
        node("Exp", ["m"], ["z"]),
    ]
    before = make(nodes, inputs={"x": [2]}, outputs={"y": [2], "z": [2]})
    after = fold_constants(before)
    assert [(n.op_type, list(n.input), list(n.output)) for n in after.graph.node] == [
        ("Relu", ["x"], ["y"]),
        ("Neg", ["y"], ["n"]),
        ("Exp", ["n"], ["z"]),
    ]
    check_same(before, after, x=noise(2))


def test_fold_constants_keeps_an_identity_when_it_ties_an_input_or_two_outputs_together() -> None:
    nodes = [node("Identity", ["x"], ["y"]), node("Relu", ["x"], ["a"]), node("Identity", ["a"], ["b"])]
    before = make(nodes, inputs={"x": [2]}, outputs={"y": [2], "a": [2], "b": [2]})
    assert kinds(fold_constants(before)) == ["Identity", "Relu", "Identity"]


@pytest.mark.parametrize(
    ("inputs", "expected"), [(["x"], ["Relu"]), (["x", "ratio", "no"], ["Relu"]), (["x", "ratio", "yes"], None)]
)
def test_fold_constants_drops_a_dropout_when_it_is_not_training(inputs: list[str], expected: list[str] | None) -> None:
    nodes = [node("Dropout", inputs, ["d"]), node("Relu", ["d"], ["y"])]
    constants = {"ratio": np.float32(0.5), "no": np.array(False), "yes": np.array(True)}
    model = make(nodes, inputs={"x": [2]}, outputs={"y": [2]}, constants=constants)
    assert kinds(fold_constants(model)) == (expected or ["Dropout", "Relu"])


def test_fold_constants_keeps_a_dropout_when_its_mask_is_read() -> None:
    nodes = [node("Dropout", ["x"], ["d", "mask"]), node("Where", ["mask", "d", "x"], ["y"])]
    assert kinds(fold_constants(make(nodes, inputs={"x": [2]}, outputs={"y": [2]}))) == ["Dropout", "Where"]


def test_fold_constants_keeps_int8_weights_when_they_are_dequantized() -> None:
    nodes = [
        node("DequantizeLinear", ["w", "scale", "zero"], ["wf"], axis=0),
        node("Conv", ["x", "wf"], ["y"]),
    ]
    constants = {
        "w": np.ones((4, 3, 1, 1), np.int8),
        "scale": np.full(4, 0.1, np.float32),
        "zero": np.zeros(4, np.int8),
    }
    model = make(nodes, inputs={"x": [1, 3, 2, 2]}, outputs={"y": None}, constants=constants)
    assert kinds(fold_constants(model)) == ["DequantizeLinear", "Conv"]


def test_fold_constants_keeps_a_node_when_its_result_would_swell_the_file() -> None:
    nodes = [node("Expand", ["k", "shape"], ["wide"]), node("Add", ["x", "wide"], ["y"])]
    constants = {"k": np.ones((1, 1), np.float32), "shape": np.array([400, 400])}
    model = make(nodes, inputs={"x": [400, 400]}, outputs={"y": None}, constants=constants)
    assert kinds(fold_constants(model)) == ["Expand", "Add"]
    small = make(nodes, inputs={"x": [4, 4]}, outputs={"y": None}, constants={**constants, "shape": np.array([4, 4])})
    assert kinds(fold_constants(small)) == ["Add"]


def test_fold_constants_keeps_random_and_unknown_nodes_when_their_inputs_are_constant() -> None:
    nodes = [
        helper.make_node("RandomUniform", [], ["r"], shape=[2]),
        helper.make_node("FusedThing", ["k"], ["f"], domain="com.example"),
        node("Add", ["r", "f"], ["s"]),
        node("Add", ["x", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(noise(2), "k")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    assert kinds(fold_constants(model)) == ["RandomUniform", "FusedThing", "Add", "Add"]


def _flattened(batch: int | str) -> onnx.ModelProto:
    """A Reshape to [batch of x, -1], as a converter writes a flatten."""
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Shape", ["r"], ["s"]),
        node("Slice", ["s", "zero", "one", "zero"], ["b"]),
        node("Concat", ["b", "rest"], ["t"], axis=0),
        node("Reshape", ["r", "t"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    return make(nodes, inputs={"x": [batch, 3, 2, 2]}, outputs={"y": [batch, 12]}, constants=constants)


@pytest.mark.parametrize(("batch", "expected"), [(1, [1, 12]), ("batch", [0, 12])])
def test_fold_constants_settles_a_flatten_when_the_batch_is_fixed_or_free(
    batch: int | str, expected: list[int]
) -> None:
    before = _flattened(batch)
    after = fold_constants(before)
    assert kinds(after) == ["Relu", "Reshape"]
    assert [values.tolist() for values in constants_of(after).values()] == [expected]
    for count in (1,) if batch == 1 else (1, 5):
        check_same(before, after, x=noise(count, 3, 2, 2))


def test_fold_constants_follows_stacked_numbers_when_reshapes_depend_on_each_other() -> None:
    def stack(source: str, name: str, *sides: str) -> list[onnx.NodeProto]:
        scalar = [
            node("Shape", [source], [f"{name}.s"]),
            node("Gather", [f"{name}.s", "index"], [f"{name}.g"]),
            node("Reshape", [f"{name}.g", "empty"], [f"{name}.r"]),
            node("Cast", [f"{name}.r"], [f"{name}.c"], to=onnx.TensorProto.INT64),
        ]
        parts = [f"{name}.c", *sides]
        wide = [node("Unsqueeze", [part, "zero"], [f"{name}.{part}.u"]) for part in parts]
        joined = node("Concat", [n.output[0] for n in wide], [f"{name}.t"], axis=0)
        return [*scalar, *wide, joined, node("Reshape", [source, f"{name}.t"], [name])]

    nodes = [*stack("x", "a", "three", "four"), *stack("a", "b", "four", "three"), node("Relu", ["b"], ["y"])]
    constants = {"index": np.array(0), "empty": np.zeros(0, I64), "zero": np.array([0]), "three": np.array(3),
                 "four": np.array(4)}  # fmt: skip
    before = make(nodes, inputs={"x": ["n", 12]}, outputs={"y": ["n", 4, 3]}, constants=constants)
    after = fold_constants(before)
    assert kinds(after) == ["Reshape", "Reshape", "Relu"]
    assert tensor_shapes(after).shapes["y"] == ("n", 4, 3)
    check_same(before, after, x=noise(5, 12))


def test_fold_constants_leaves_a_reshape_when_two_free_dimensions_cannot_be_told() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "swap"], ["t"]),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    before = make(nodes, inputs={"x": ["a", "b"]}, outputs={"y": ["b", "a"]}, constants={"swap": np.array([1, 0])})
    after = fold_constants(before)
    assert kinds(after) == ["Shape", "Gather", "Reshape"]
    check_same(before, after, x=noise(2, 3))


def _resized(batch: int | str, sides: tuple[int, int], opset: int) -> onnx.ModelProto:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Shape", ["r"], ["s"]),
        node("Slice", ["s", "zero", "two", "zero"], ["head"]),
        node("Concat", ["head", "sides"], ["sizes"], axis=0),
        node(
            "Resize",
            ["r", "none", "none", "sizes"],
            ["y"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "sides": np.array(sides), "none": np.zeros(0, np.float32)}
    return make(nodes, inputs={"x": [batch, 3, 4, 6]}, outputs={"y": None}, constants=constants, opset=opset)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_fold_constants_writes_factors_when_a_resize_is_to_whole_multiples(batch: int | str, opset: int) -> None:
    before = _resized(batch, (8, 12), opset)
    after = fold_constants(before)
    assert kinds(after) == ["Relu", "Resize"]
    resize = after.graph.node[1]
    assert constants_of(after)[resize.input[2]].tolist() == [1, 1, 2, 2]
    assert len(resize.input) == 3
    check_same(before, after, x=noise(1, 3, 4, 6))


def test_fold_constants_keeps_sizes_when_a_resize_is_to_no_whole_multiple() -> None:
    before = _resized(1, (5, 12), 17)
    after = fold_constants(before)
    assert kinds(after) == ["Relu", "Resize"]
    assert constants_of(after)["sizes"].tolist() == [1, 3, 5, 12]
    check_same(before, after, x=noise(1, 3, 4, 6))


def test_fold_constants_leaves_alone_what_a_branch_reads() -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["i"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])],
        )
        for kind, name in (("Neg", "then"), ("Exp", "else"))
    ]
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Identity", ["r"], ["i"]),
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Greater", ["m", "k"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    before = make(nodes, inputs={"x": [2]}, outputs={"y": [2]}, constants={"k": np.float32(0)})
    after = fold_constants(before)
    assert kinds(after) == ["Relu", "ReduceMax", "Greater", "If"]
    check_same(before, after, x=noise(2))
    check_same(before, after, x=-np.abs(noise(2)))


def test_fold_constants_keeps_an_output_when_it_is_a_constant() -> None:
    nodes = [
        _constant("a", noise(2)),
        node("Neg", ["c"], ["b"]),
        node("Identity", ["c"], ["d"]),
        node("Sum", ["x", "a", "b", "c", "d"], ["y"]),
    ]
    outputs = {name: [2] for name in "yabcd"}
    before = make(nodes, inputs={"x": [2]}, outputs=outputs, constants={"c": noise(2, seed=1)})
    after = fold_constants(before)
    assert kinds(after) == kinds(before)
    assert [v.name for v in after.graph.output] == list(outputs)
    check_same(before, after, x=noise(2, seed=2))


def test_fold_constants_keeps_the_default_of_an_input_when_nothing_reads_it() -> None:
    """Without it, whoever runs the model would have to set that input."""
    before = make(
        [node("Relu", ["x"], ["y"])], inputs={"x": [2], "k": [3]}, outputs={"y": [2]}, constants={"k": noise(3)}
    )
    after = fold_constants(before)
    assert set(constants_of(after)) == {"k"}
    check_same(before, after, x=noise(2))


def test_fold_constants_keeps_a_sequence_when_its_tensors_are_constants() -> None:
    nodes = [
        node("SequenceConstruct", ["k", "l"], ["s"]),
        node("ArgMax", ["x"], ["i"], keepdims=0),
        node("SequenceAt", ["s", "i"], ["t"]),
        node("Add", ["x", "t"], ["y"]),
    ]
    constants = {"k": noise(2), "l": noise(2, seed=1)}
    before = make(nodes, inputs={"x": [2]}, outputs={"y": [2]}, constants=constants)
    after = fold_constants(before)
    assert kinds(after) == kinds(before)
    check_same(before, after, x=noise(2, seed=2))


@pytest.mark.parametrize(
    ("attributes", "inputs", "opset"),
    [
        ({"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}, ["x", "roi", "", "sizes"], 17),
        ({"keep_aspect_ratio_policy": "not_larger", "mode": "nearest"}, ["x", "", "", "sizes"], 18),
    ],
)
def test_fold_constants_keeps_sizes_when_they_are_no_plain_enlargement(
    attributes: dict[str, str], inputs: list[str], opset: int
) -> None:
    constants = {"roi": np.array([0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8], np.float32), "sizes": np.array([1, 1, 8, 12])}
    nodes = [node("Resize", inputs, ["y"], **attributes)]
    before = make(nodes, inputs={"x": [1, 1, 4, 4]}, outputs={"y": None}, constants=constants, opset=opset)
    after = fold_constants(before)
    assert list(after.graph.node[0].input) == inputs
    check_same(before, after, x=noise(1, 1, 4, 4))
