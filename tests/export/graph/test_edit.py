from __future__ import annotations

import numpy as np
import onnx
import pytest

from paddle_tk.export.graph.edit import GraphEditor, attribute, copied, names_inside, opset_of, set_attribute
from tests.export.graph.tiny import check_same, constants_of, kinds, make, node, noise


def _chain() -> onnx.ModelProto:
    """x -> Relu r -> Neg n -> Add k -> y; r is read by Exp e too, which nobody reads."""
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Neg", ["r"], ["n"]),
        node("Exp", ["r"], ["e"]),
        node("Add", ["n", "k"], ["y"]),
    ]
    constants = {"k": noise(2), "unread": noise(3)}
    return make(nodes, inputs={"x": [2]}, outputs={"y": [2]}, constants=constants)


def _with_branches() -> onnx.ModelProto:
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["deep", "k"], ["in"])], "inner", [],
        [onnx.helper.make_tensor_value_info("in", onnx.TensorProto.FLOAT, [2])],
    )  # fmt: skip
    outer = onnx.helper.make_graph(
        [onnx.helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)], "outer", [],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [2])],
    )  # fmt: skip
    nodes = [node("Relu", ["x"], ["deep"]), node("If", ["yes"], ["y"], then_branch=outer, else_branch=outer)]
    constants = {"yes": np.array(True), "k": noise(2)}
    return make(nodes, inputs={"x": [2]}, outputs={"y": [2]}, constants=constants)


def test_editor_knows_makers_readers_and_constants() -> None:
    graph = GraphEditor(_chain())
    relu, negation, exponential, addition = graph.nodes
    assert (graph.maker("r"), graph.maker("x"), graph.maker("k")) == (relu, None, None)
    assert graph.readers("r") == [negation, exponential]
    assert (graph.sole_reader("n"), graph.sole_reader("r"), graph.sole_reader("y")) == (addition, None, None)
    assert (graph.is_constant("k"), graph.is_constant("x")) == (True, False)
    assert graph.is_exclusive("k")
    np.testing.assert_array_equal(graph.constant("k"), noise(2))


def test_editor_holds_nothing_for_constant_when_a_caller_may_set_it() -> None:
    model = make(
        [node("Add", ["x", "k"], ["y"])], inputs={"x": [2], "k": [2]}, outputs={"y": [2]}, constants={"k": noise(2)}
    )
    graph = GraphEditor(model)
    assert graph.constant("k") is None
    assert not graph.is_constant("k")


def test_finish_drops_what_nobody_reads_and_keeps_the_order() -> None:
    before = _chain()
    after = copied(before)
    GraphEditor(after).finish()
    assert kinds(before) == ["Relu", "Neg", "Exp", "Add"]
    assert kinds(after) == ["Relu", "Neg", "Add"]
    assert set(constants_of(after)) == {"k"}
    check_same(before, after, x=noise(2, seed=1))


def test_finish_writes_a_constant_once_when_it_replaces_another() -> None:
    model = _chain()
    graph = GraphEditor(model)
    graph.hold("k", np.array([4, 5], np.float32))
    graph.finish()
    assert [tensor.name for tensor in model.graph.initializer] == ["k"]
    assert constants_of(model)["k"].tolist() == [4, 5]


def test_bypass_keeps_the_name_of_an_output_and_of_an_input() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Identity", ["r"], ["y"]), node("Identity", ["x"], ["z"])]
    model = make(nodes, inputs={"x": [2]}, outputs={"y": [2], "z": [2]})
    graph = GraphEditor(model)
    assert [graph.bypass(each) for each in graph.nodes[1:]] == [True, False]
    graph.finish()
    assert [(n.op_type, list(n.input), list(n.output)) for n in model.graph.node] == [
        ("Relu", ["x"], ["y"]),
        ("Identity", ["x"], ["z"]),
    ]


def test_replace_puts_new_nodes_into_the_place_of_the_old_one() -> None:
    before = _chain()
    after = copied(before)
    graph = GraphEditor(after)
    new = (node("Abs", ["r"], ["a"]), node("Neg", ["a"], ["n"]))  # r is not negative
    graph.replace(graph.nodes[1], new)
    assert (graph.maker("n"), graph.maker("a")) == (new[1], new[0])
    graph.finish()
    assert kinds(after) == ["Relu", "Abs", "Neg", "Add"]
    check_same(before, after, x=noise(2, seed=1))


def test_set_input_keeps_readers_true_when_a_node_reads_a_tensor_twice() -> None:
    model = make([node("Add", ["x", "x"], ["y"])], inputs={"x": [2]}, outputs={"y": [2]}, constants={"k": noise(2)})
    graph = GraphEditor(model)
    addition = graph.nodes[0]
    graph.set_input(addition, 0, "k")
    assert (graph.readers("x"), graph.readers("k")) == ([addition], [addition])
    graph.set_input(addition, 1, "k")
    assert (graph.readers("x"), graph.readers("k")) == ([], [addition])
    assert not graph.is_exclusive("k")


def test_free_name_is_one_that_nobody_uses() -> None:
    graph = GraphEditor(_chain())
    assert [graph.free_name(name) for name in ("new", "k", "x", "r", "y")] == ["new", "k.2", "x.2", "r.2", "y.2"]
    graph.hold("k.2", noise(1))
    assert graph.free_name("k") == "k.3"


def test_editor_leaves_alone_what_a_branch_within_a_branch_reads() -> None:
    before = _with_branches()
    assert names_inside(before.graph.node[1]) == {"yes", "deep", "k", "in", "out"}
    after = copied(before)
    graph = GraphEditor(after)
    assert graph.sole_reader("deep") is None
    assert not graph.is_exclusive("k")
    graph.finish()
    assert after == before


def test_opset_of_reads_onnxs_own_operators_and_refuses_when_there_are_none() -> None:
    model = _chain()
    model.opset_import.insert(0, onnx.helper.make_opsetid("com.example", 3))
    assert opset_of(model) == 17
    del model.opset_import[1]
    with pytest.raises(ValueError, match="names no version"):
        opset_of(model)


def test_set_attribute_replaces_the_value_and_keeps_the_others() -> None:
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    set_attribute(pool, "strides", [1, 1])
    assert (attribute(pool, "strides"), attribute(pool, "kernel_shape"), len(pool.attribute)) == ([1, 1], [2, 2], 2)
    assert attribute(pool, "pads", "none") == "none"
