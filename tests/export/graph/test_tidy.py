from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from paddle_tk.export.graph import drop_no_ops, share_equal
from tests.export.graph.tiny import check_same, constants_of, kinds, make, node, noise

FLOAT = onnx.TensorProto.FLOAT
X = noise(2, 3, 4, 4)


def _between(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """Relu -> the nodes, which map r to z -> Neg."""
    all_nodes = [node("Relu", ["x"], ["r"]), *nodes, node("Neg", ["z"], ["y"])]
    return make(all_nodes, inputs={"x": ["batch", 3, 4, 4]}, outputs={"y": None}, constants=constants)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Cast", ["r"], ["z"], to=FLOAT)], {}),
        ([node("Reshape", ["r", "k"], ["z"])], {"k": np.array([0, 3, 4, 4])}),
        ([node("Transpose", ["r"], ["z"], perm=[0, 1, 2, 3])], {}),
        ([node("Add", ["r", "k"], ["z"])], {"k": np.float32(0)}),
        ([node("Add", ["k", "r"], ["z"])], {"k": np.zeros((1, 3, 1, 1), np.float32)}),
        ([node("Sub", ["r", "k"], ["z"])], {"k": np.zeros(1, np.float32)}),
        ([node("Mul", ["r", "k"], ["z"])], {"k": np.ones(4, np.float32)}),
        ([node("Div", ["r", "k"], ["z"])], {"k": np.float32(1)}),
        ([node("Concat", ["r"], ["z"], axis=1)], {}),
        ([node("Clip", ["r"], ["z"])], {}),
        (
            [
                node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
                node("Transpose", ["t"], ["z"], perm=[0, 3, 1, 2]),
            ],
            {},
        ),
    ],
)
def test_drop_no_ops_drops_a_node_when_it_changes_nothing(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> None:
    before = _between(*nodes, **constants)
    after = drop_no_ops(before)
    assert kinds(after) == ["Relu", "Neg"]
    check_same(before, after, x=X)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Reshape", ["r", "k"], ["z"])], {"k": np.array([0, 3, 16])}),
        ([node("Transpose", ["r"], ["z"], perm=[0, 1, 3, 2])], {}),
        ([node("Add", ["r", "k"], ["z"])], {"k": np.zeros((1, 1, 1, 1, 1), np.float32)}),  # widens
        ([node("Sub", ["k", "r"], ["z"])], {"k": np.float32(0)}),
        ([node("Div", ["k", "r"], ["z"])], {"k": np.float32(1)}),
        ([node("Mul", ["r", "k"], ["z"])], {"k": np.array([1, 1, 1, 2], np.float32)}),
        ([node("Concat", ["r", "r"], ["z"], axis=1)], {}),
        ([node("Clip", ["r", "k"], ["z"])], {"k": np.float32(0.5)}),
    ],
)
def test_drop_no_ops_keeps_a_node_when_it_changes_something(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> None:
    before = _between(*nodes, **constants)
    after = drop_no_ops(before)
    assert kinds(after) == kinds(before)
    check_same(before, after, x=X)


def test_drop_no_ops_makes_one_transpose_when_two_follow_each_other() -> None:
    before = _between(
        node("Transpose", ["r"], ["t"], perm=[1, 0, 2, 3]), node("Transpose", ["t"], ["z"], perm=[0, 3, 1, 2])
    )
    after = drop_no_ops(before)
    assert kinds(after) == ["Relu", "Transpose", "Neg"]
    check_same(before, after, x=X)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ([0, 3, 16], [0, 48], True),  # dimension 0 is the same before and after the first
        ([-1, 48], [-1, 3, 4, 4], True),
        ([-1, 4, 4], [0, 16], False),  # 0 copies what the first one made
    ],
)
def test_drop_no_ops_makes_one_reshape_when_the_second_copies_nothing_of_the_first(
    first: list[int], second: list[int], merged: bool
) -> None:
    before = _between(
        node("Reshape", ["r", "a"], ["s"]), node("Reshape", ["s", "b"], ["z"]), a=np.array(first), b=np.array(second)
    )
    after = drop_no_ops(before)
    assert kinds(after).count("Reshape") == (1 if merged else 2)
    check_same(before, after, x=X)


def test_drop_no_ops_keeps_the_first_of_two_when_others_read_it() -> None:
    before = _between(
        node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
        node("Transpose", ["t"], ["u"], perm=[0, 3, 1, 2]),
        node("Exp", ["t"], ["e"]),
        node("ReduceSum", ["e"], ["f"], keepdims=0),
        node("Add", ["u", "f"], ["z"]),
    )
    after = drop_no_ops(before)
    assert kinds(after).count("Transpose") == 2
    check_same(before, after, x=X)


def test_share_equal_makes_one_node_when_two_compute_the_same() -> None:
    before = _between(
        node("Sigmoid", ["r"], ["a"]),
        node("Sigmoid", ["r"], ["b"]),
        node("Transpose", ["a"], ["c"], perm=[0, 1, 3, 2]),
        node("Transpose", ["b"], ["d"], perm=[0, 1, 3, 2]),
        node("Transpose", ["b"], ["e"], perm=[0, 1, 2, 3]),
        node("Sum", ["c", "d", "e"], ["z"]),
    )
    after = share_equal(before)
    assert kinds(after) == ["Relu", "Sigmoid", "Transpose", "Transpose", "Sum", "Neg"]
    check_same(before, after, x=X)


def test_share_equal_keeps_both_when_one_is_an_output() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Relu", ["x"], ["b"])]
    model = make(nodes, inputs={"x": [2]}, outputs={"a": [2], "b": [2]})
    assert kinds(share_equal(model)) == ["Relu", "Relu"]


def test_share_equal_makes_one_constant_when_limits_are_equal_but_never_of_two_weights() -> None:
    before = _between(
        node("Clip", ["r", "low1", "high1"], ["a"]),
        node("Conv", ["a", "w1"], ["b"]),
        node("Clip", ["b", "low2", "high2"], ["c"]),
        node("Conv", ["c", "w2"], ["z"]),
        low1=np.float32(0), high1=np.float32(6), low2=np.float32(0), high2=np.float32(5),
        w1=np.ones((3, 3, 1, 1), np.float32), w2=np.ones((3, 3, 1, 1), np.float32),
    )  # fmt: skip
    after = share_equal(before)
    assert set(constants_of(after)) == {"low1", "high1", "high2", "w1", "w2"}
    check_same(before, after, x=X)


@pytest.mark.parametrize(("kind", "neutral"), [("Add", 0), ("Mul", 1)])
@pytest.mark.parametrize("inputs", [["x", "k"], ["k", "x"]])
def test_drop_no_ops_keeps_a_node_when_it_ties_an_input_to_an_output(
    kind: str, neutral: int, inputs: list[str]
) -> None:
    before = make(
        [node(kind, inputs, ["y"])], inputs={"x": [3]}, outputs={"y": [3]}, constants={"k": np.float32(neutral)}
    )
    after = drop_no_ops(before)
    assert kinds(after) == [kind]
    check_same(before, after, x=noise(3))


@pytest.mark.parametrize("clean_up", [drop_no_ops, share_equal])
def test_clean_ups_leave_control_flow_alone(clean_up: Callable[[onnx.ModelProto], onnx.ModelProto]) -> None:
    branches = {
        f"{name}_branch": onnx.helper.make_graph(
            [onnx.helper.make_node("Add", ["s", "zero"], [f"{name}.a"]),
             onnx.helper.make_node("Mul", [f"{name}.a", "t"], [name])],
            name, [], [onnx.helper.make_tensor_value_info(name, FLOAT, [3])],
        )
        for name in ("then", "else")
    }  # fmt: skip
    nodes = [
        node("Sigmoid", ["x"], ["s"]),
        node("Sigmoid", ["x"], ["t"]),
        node("Add", ["t", "zero"], ["u"]),
        node("If", ["yes"], ["i"], **branches),
        node("If", ["yes"], ["j"], **branches),
        node("Sum", ["i", "j", "u"], ["y"]),
    ]
    constants = {"zero": np.float32(0), "yes": np.array(True)}
    before = make(nodes, inputs={"x": [3]}, outputs={"y": [3]}, constants=constants)
    after = clean_up(before)
    assert [n for n in after.graph.node if n.op_type == "If"] == list(before.graph.node[3:5])
    assert {"s", "t"} <= {name for n in after.graph.node for name in n.output}
    check_same(before, after, x=noise(3))


@pytest.mark.parametrize("kind", ["Bernoulli", "Multinomial", "RandomNormalLike"])
def test_share_equal_keeps_both_when_each_draws_its_own_numbers(kind: str) -> None:
    nodes = [node(kind, ["x"], ["a"]), node(kind, ["x"], ["b"]), node("Concat", ["a", "b"], ["y"], axis=0)]
    given = {"output_type": onnx.TensorProto.INT32} if kind == "Multinomial" else {}
    model = make(nodes, inputs={"x": [2, 2]}, outputs={"y": None}, **given)
    assert kinds(share_equal(model)) == [kind, kind, "Concat"]
