from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from paddle_tk.export.graph import fold_batch_norm
from tests.export.graph.tiny import check_same, constants_of, kinds, make, node, noise, run


def _norm(channels: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 1.5, (4, channels)).astype(np.float32)
    return dict(zip(("scale", "beta", "mean", "variance"), values, strict=True))


NORM_INPUTS = ("scale", "beta", "mean", "variance")


def _conv_then(*after: onnx.NodeProto, bias: bool = False, **constants: np.ndarray) -> onnx.ModelProto:
    names = ["x", "w", *(["b"] if bias else [])]
    held = {"w": noise(4, 3, 3, 3), **({"b": noise(4)} if bias else {}), **constants}
    nodes = [node("Conv", names, ["c"], pads=[1, 1, 1, 1]), *after]
    return make(nodes, inputs={"x": [1, 3, 5, 5]}, outputs={"y": [1, 4, 5, 5]}, constants=held)


X = noise(1, 3, 5, 5, seed=9)


@pytest.mark.parametrize("bias", [False, True])
def test_fold_batch_norm_keeps_names_and_values_when_a_norm_follows_a_convolution(bias: bool) -> None:
    before = _conv_then(node("BatchNormalization", ["c", *NORM_INPUTS], ["y"], epsilon=1e-3), bias=bias, **_norm(4))
    original = before.SerializeToString(deterministic=True)
    after = fold_batch_norm(before)
    assert before.SerializeToString(deterministic=True) == original
    assert kinds(after) == ["Conv"]
    conv = after.graph.node[0]
    assert (conv.name, list(conv.input)) == ("Conv/c", ["x", "w", "b" if bias else "beta"])
    assert list(conv.output) == ["y"]
    check_same(before, after, tolerance=1e-5, x=X)


@pytest.mark.parametrize(
    ("kind", "inputs", "values"),
    [
        ("Add", ["c", "k"], noise(1, 4, 1, 1)),
        ("Add", ["k", "c"], noise(4, 1, 1)),
        ("Sub", ["c", "k"], noise(1, 4, 1, 1)),
        ("Sub", ["k", "c"], noise(1, 4, 1, 1)),
        ("Mul", ["c", "k"], noise(1, 4, 1, 1)),
        ("Mul", ["k", "c"], np.float32(0.25)),
        ("Div", ["c", "k"], noise(1, 4, 1, 1) + 4),
    ],
)
def test_fold_batch_norm_takes_in_arithmetic_when_it_is_by_channel(
    kind: str, inputs: list[str], values: np.ndarray
) -> None:
    before = _conv_then(node(kind, inputs, ["y"]), bias=True, k=values)
    after = fold_batch_norm(before)
    assert kinds(after) == ["Conv"]
    check_same(before, after, tolerance=2e-5, x=X)


@pytest.mark.parametrize(
    ("kind", "inputs", "values"),
    [
        ("Add", ["c", "k"], noise(1, 1, 5, 5)),  # by place, not by channel
        ("Mul", ["c", "k"], noise(4)[:1].repeat(5)),  # by column
        ("Div", ["k", "c"], noise(1, 4, 1, 1)),
        ("Div", ["c", "k"], np.zeros((1, 4, 1, 1), np.float32)),
        ("Add", ["c", "c"], noise(1)),
        ("Max", ["c", "k"], noise(1, 4, 1, 1)),
    ],
)
def test_fold_batch_norm_leaves_a_node_when_it_is_not_by_channel(
    kind: str, inputs: list[str], values: np.ndarray
) -> None:
    assert kinds(fold_batch_norm(_conv_then(node(kind, inputs, ["y"]), k=values))) == ["Conv", kind]


def test_fold_batch_norm_leaves_a_sum_when_it_would_widen_the_result() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Add", ["c", "k"], ["y"])]
    constants = {"w": noise(4, 3, 1, 1), "k": noise(1, 1, 4, 1, 1)}
    model = make(nodes, inputs={"x": [1, 3, 5, 5]}, outputs={"y": None}, constants=constants)
    assert kinds(fold_batch_norm(model)) == ["Conv", "Add"]


def test_fold_batch_norm_leaves_a_norm_when_something_else_reads_the_convolution() -> None:
    norm = node("BatchNormalization", ["c", *NORM_INPUTS], ["n"])
    model = _conv_then(norm, node("Add", ["n", "c"], ["y"]), **_norm(4))
    assert kinds(fold_batch_norm(model)) == ["Conv", "BatchNormalization", "Add"]


def test_fold_batch_norm_leaves_a_norm_when_the_convolution_is_an_output() -> None:
    model = _conv_then(node("BatchNormalization", ["c", *NORM_INPUTS], ["y"]), **_norm(4))
    model.graph.output.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1, 4, 5, 5]))
    assert kinds(fold_batch_norm(model)) == ["Conv", "BatchNormalization"]


def test_fold_batch_norm_leaves_a_norm_when_the_weight_is_an_input() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", *NORM_INPUTS], ["y"])]
    inputs = {"x": [1, 3, 5, 5], "w": [4, 3, 1, 1]}
    model = make(nodes, inputs=inputs, outputs={"y": None}, constants=_norm(4))
    assert kinds(fold_batch_norm(model)) == ["Conv", "BatchNormalization"]


def test_fold_batch_norm_leaves_a_norm_when_it_stands_alone() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("BatchNormalization", ["r", *NORM_INPUTS], ["y"])]
    model = make(nodes, inputs={"x": [1, 4, 5, 5]}, outputs={"y": None}, constants=_norm(4))
    assert kinds(fold_batch_norm(model)) == ["Relu", "BatchNormalization"]


def test_fold_batch_norm_copies_weight_and_bias_when_two_convolutions_share_them() -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("BatchNormalization", ["c", *NORM_INPUTS], ["n"]),
        node("Conv", ["x", "w", "b"], ["d"]),
        node("Add", ["n", "d"], ["y"]),
    ]
    constants = {"w": noise(4, 3, 1, 1), "b": noise(4), **_norm(4)}
    before = make(nodes, inputs={"x": [1, 3, 5, 5]}, outputs={"y": [1, 4, 5, 5]}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["Conv", "Conv", "Add"]
    np.testing.assert_array_equal(constants_of(after)["w"], constants["w"])
    check_same(before, after, tolerance=1e-5, x=X)


def test_fold_batch_norm_folds_a_chain_when_bias_and_norm_follow_each_other() -> None:
    before = _conv_then(
        node("Add", ["c", "k"], ["a"]),
        node("Mul", ["a", "m"], ["s"]),
        node("BatchNormalization", ["s", *NORM_INPUTS], ["n"]),
        node("Relu", ["n"], ["y"]),
        k=noise(1, 4, 1, 1),
        m=noise(1, 4, 1, 1, seed=8),
        **_norm(4),
    )
    after = fold_batch_norm(before)
    assert kinds(after) == ["Conv", "Relu"]
    assert list(after.graph.node[0].output) == ["n"]
    check_same(before, after, tolerance=2e-5, x=X)


@pytest.mark.parametrize("groups", [1, 2])
def test_fold_batch_norm_scales_output_channels_when_the_convolution_is_transposed(groups: int) -> None:
    nodes = [
        node("ConvTranspose", ["x", "w"], ["c"], group=groups, strides=[2, 2]),
        node("BatchNormalization", ["c", *NORM_INPUTS], ["y"]),
    ]
    constants = {"w": noise(4, 3, 2, 2), **_norm(3 * groups)}
    before = make(nodes, inputs={"x": [1, 4, 3, 3]}, outputs={"y": None}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["ConvTranspose"]
    check_same(before, after, tolerance=1e-5, x=noise(1, 4, 3, 3, seed=2))


@pytest.mark.parametrize("grouped", [False, True])
def test_fold_batch_norm_scales_output_channels_when_the_convolution_is_grouped(grouped: bool) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], group=4 if grouped else 1),
        node("BatchNormalization", ["c", *NORM_INPUTS], ["y"]),
    ]
    constants = {"w": noise(4, 1 if grouped else 4, 3, 3), **_norm(4)}
    before = make(nodes, inputs={"x": [1, 4, 5, 5]}, outputs={"y": None}, constants=constants)
    check_same(before, fold_batch_norm(before), tolerance=1e-5, x=noise(1, 4, 5, 5, seed=2))


def test_fold_batch_norm_makes_a_gemm_with_channels_on_axis_0_when_a_bias_follows_a_product() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])]
    constants = {"w": noise(6, 4), "b": noise(4)}
    before = make(nodes, inputs={"x": ["batch", 6]}, outputs={"y": None}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["Gemm"]
    assert list(after.graph.node[0].input) == ["x", "w", "b"]
    np.testing.assert_array_equal(constants_of(after)["w"], constants["w"].T)
    check_same(before, after, tolerance=1e-5, x=noise(3, 6, seed=2))


@pytest.mark.parametrize("transposed", [0, 1])
def test_fold_batch_norm_scales_columns_when_a_norm_follows_a_gemm(transposed: int) -> None:
    weight = noise(6, 4)
    nodes = [
        node("Gemm", ["x", "w", "b"], ["m"], transB=transposed),
        node("BatchNormalization", ["m", *NORM_INPUTS], ["y"]),
    ]
    constants = {"w": np.ascontiguousarray(weight.T) if transposed else weight, "b": noise(4), **_norm(4)}
    before = make(nodes, inputs={"x": [3, 6]}, outputs={"y": None}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["Gemm"]
    check_same(before, after, tolerance=1e-5, x=noise(3, 6, seed=2))


@pytest.mark.parametrize(
    ("changes", "bias"), [({"alpha": 0.5}, (4,)), ({"beta": 2.0}, (4,)), ({}, (3, 4)), ({}, (3, 1))]
)
def test_fold_batch_norm_leaves_a_gemm_when_its_sum_is_not_by_channel(
    changes: dict[str, Any], bias: tuple[int, ...]
) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["m"], **changes), node("Mul", ["m", "k"], ["y"])]
    constants = {"w": noise(6, 4), "b": noise(*bias), "k": noise(4)}
    before = make(nodes, inputs={"x": [3, 6]}, outputs={"y": None}, constants=constants)
    assert kinds(fold_batch_norm(before)) == ["Gemm", "Mul"]


def test_fold_batch_norm_scales_but_adds_nothing_when_a_product_has_three_dimensions() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Mul", ["m", "k"], ["s"]), node("Add", ["s", "b"], ["y"])]
    constants = {"w": noise(6, 4), "k": noise(4), "b": noise(4)}
    before = make(nodes, inputs={"x": [2, 3, 6]}, outputs={"y": None}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["MatMul", "Add"]
    check_same(before, after, tolerance=1e-5, x=noise(2, 3, 6, seed=2))


def test_fold_batch_norm_takes_in_a_factor_when_it_stands_before_reshape_and_product() -> None:
    nodes = [
        node("Mul", ["x", "k"], ["s"]),
        node("Reshape", ["s", "shape"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    constants = {"k": np.array([0.6], np.float32), "shape": np.array([0, 6]), "w": noise(6, 4)}
    before = make(nodes, inputs={"x": [2, 6, 1, 1]}, outputs={"y": None}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["Reshape", "Gemm"]
    check_same(before, after, tolerance=1e-6, x=noise(2, 6, 1, 1, seed=2))


def test_fold_batch_norm_leaves_a_factor_when_others_read_it_or_it_is_by_channel() -> None:
    nodes = [node("Mul", ["x", "k"], ["s"]), node("Conv", ["s", "w"], ["c"]), node("Add", ["c", "s"], ["y"])]
    constants = {"k": np.array([0.6], np.float32), "w": noise(3, 3, 1, 1)}
    shared = make(nodes, inputs={"x": [1, 3, 5, 5]}, outputs={"y": None}, constants=constants)
    assert kinds(fold_batch_norm(shared)) == ["Mul", "Conv", "Add"]
    by_channel = make(
        nodes[:2], inputs={"x": [1, 3, 5, 5]}, outputs={"c": None}, constants={**constants, "k": noise(1, 3, 1, 1)}
    )
    assert kinds(fold_batch_norm(by_channel)) == ["Mul", "Conv"]


def test_fold_batch_norm_leaves_a_norm_when_its_numbers_are_not_finite() -> None:
    norm = {**_norm(4), "variance": np.full(4, -1.0, np.float32)}
    model = fold_batch_norm(_conv_then(node("BatchNormalization", ["c", *NORM_INPUTS], ["y"]), **norm))
    assert kinds(model) == ["Conv", "BatchNormalization"]
    assert np.isnan(run(model, x=X)[0]).all()


def test_fold_batch_norm_keeps_signs_when_a_norm_has_negative_and_zero_factors() -> None:
    norm = {**_norm(4), "scale": np.array([-1.5, 0.0, 0.75, -0.25], np.float32)}
    before = _conv_then(
        node("BatchNormalization", ["c", *NORM_INPUTS], ["n"]), node("Relu", ["n"], ["y"]), bias=True, **norm
    )
    after = fold_batch_norm(before)
    assert kinds(after) == ["Conv", "Relu"]
    weights = constants_of(after)["w"]
    assert not weights[1].any()
    np.testing.assert_array_equal(np.sign(weights[0]), -np.sign(constants_of(before)["w"][0]))
    check_same(before, after, tolerance=1e-5, x=X)


def test_fold_batch_norm_leaves_a_product_when_it_is_of_integers() -> None:
    """ONNX Runtime has no Gemm of integers."""
    nodes = [
        node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT32),
        node("MatMul", ["i", "w"], ["m"]),
        node("Cast", ["m"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    constants = {"w": np.arange(12, dtype=np.int32).reshape(3, 4)}
    before = make(nodes, inputs={"x": [2, 3]}, outputs={"y": [2, 4]}, constants=constants)
    after = fold_batch_norm(before)
    assert kinds(after) == ["Cast", "MatMul", "Cast"]
    check_same(before, after, x=5 * noise(2, 3))


def test_fold_batch_norm_leaves_a_convolution_when_it_is_another_domains() -> None:
    model = _conv_then(node("BatchNormalization", ["c", *NORM_INPUTS], ["y"]), **_norm(4))
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    assert kinds(fold_batch_norm(model)) == ["Conv", "BatchNormalization"]


def test_fold_batch_norm_leaves_a_norm_when_a_branch_reads_the_convolution() -> None:
    branches = {
        f"{name}_branch": onnx.helper.make_graph(
            [
                onnx.helper.make_node("ReduceMean", ["c"], [f"{name}.m"]),
                onnx.helper.make_node("Conv", ["x", "w"], [f"{name}.c"]),
                onnx.helper.make_node("BatchNormalization", [f"{name}.c", *NORM_INPUTS], [f"{name}.n"]),
                onnx.helper.make_node("Add", [f"{name}.m", f"{name}.n"], [name]),
            ],
            name,
            [],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("BatchNormalization", ["c", *NORM_INPUTS], ["n"]),
        node("If", ["yes"], ["i"], **branches),
        node("Add", ["n", "i"], ["y"]),
    ]
    constants = {"w": noise(4, 3, 1, 1), "yes": np.array(True), **_norm(4)}
    before = make(nodes, inputs={"x": [1, 3, 5, 5]}, outputs={"y": [1, 4, 5, 5]}, constants=constants)
    after = fold_batch_norm(before)
    assert after.graph.node == before.graph.node
    check_same(before, after, x=X)
