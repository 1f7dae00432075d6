from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from paddle_tk.errors import BadInput
from paddle_tk.export.graph import expose, infer_shapes, name_nodes, short_name_map, short_names
from tests.export.graph.tiny import check_same, make, node, noise, run


def _model() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["image", "first.weight"], ["first.out"]),
        node("Relu", ["first.out"], ["first.act"]),
        node("Conv", ["first.act", "second.weight"], ["0"]),
    ]
    constants = {"first.weight": noise(4, 3, 1, 1), "second.weight": noise(2, 4, 1, 1)}
    return make(nodes, inputs={"image": ["batch", 3, 4, 4]}, outputs={"0": ["batch", 2, 4, 4]}, constants=constants)


def test_expose_returns_further_tensors_in_order_after_the_outputs() -> None:
    before = _model()
    after = expose(before, ["first.act", "0", "first.out"])
    assert len(before.graph.output) == 1
    onnx.checker.check_model(after, full_check=True)
    assert [v.name for v in after.graph.output] == ["0", "first.act", "first.out"]
    logits, active, raw = run(after, image=noise(2, 3, 4, 4))
    np.testing.assert_array_equal(logits, run(before, image=noise(2, 3, 4, 4))[0])
    np.testing.assert_array_equal(active, np.maximum(raw, 0))


@pytest.mark.parametrize(("name", "fix"), [("first.outt", "did you mean 'first.out'"), ("xyz", "a node's output")])
def test_expose_refuses_and_names_the_closest_when_no_node_makes_the_tensor(name: str, fix: str) -> None:
    with pytest.raises(BadInput, match="no node of the graph makes") as caught:
        expose(_model(), [name])
    assert fix in caught.value.fix


def test_short_names_shortens_all_but_inputs_and_outputs() -> None:
    before = infer_shapes(_model())
    after = short_names(before)
    assert [(list(n.input), list(n.output)) for n in after.graph.node] == [
        (["image", "1"], ["3"]),
        (["3"], ["4"]),
        (["4", "2"], ["0"]),
    ]
    assert short_name_map(before) == {"first.weight": "1", "second.weight": "2", "first.out": "3", "first.act": "4"}
    assert len({n.name for n in after.graph.node}) == 3
    assert not after.graph.value_info
    assert len(after.SerializeToString()) < len(before.SerializeToString())
    check_same(before, after, image=noise(2, 3, 4, 4))


def test_short_names_stay_distinct_when_there_are_more_than_digits() -> None:
    chain = [node("Neg", [f"long.{i}"], [f"long.{i + 1}"]) for i in range(100)]
    before = make(chain, inputs={"long.0": [1]}, outputs={"long.100": [1]})
    after = short_names(before)
    assert max(len(n.output[0]) for n in after.graph.node[:-1]) == 2
    check_same(before, after, **{"long.0": noise(1)})


def test_short_names_keeps_what_a_branch_reads() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["inner.value"], ["inner.result"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner.result", onnx.TensorProto.FLOAT, [2])],
    )
    nodes = [
        node("Relu", ["x"], ["inner.value"]),
        node("Neg", ["x"], ["lost"]),
        node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        node("Add", ["y", "lost"], ["z"]),
    ]
    constants = {"c": np.array(True)}
    before = make(nodes, inputs={"x": [2]}, outputs={"z": [2]}, constants=constants)
    after = short_names(before)
    assert after.graph.node[0].output[0] == "inner.value"
    assert after.graph.node[1].output[0] != "lost"
    check_same(before, after, x=noise(2))


def test_name_nodes_gives_every_node_its_own_name_and_keeps_those_it_has() -> None:
    model = _model()
    for each, name in zip(model.graph.node, ("same", "same", ""), strict=True):
        each.name = name
    assert [n.name for n in name_nodes(model).graph.node] == ["same", "Relu:first.act", "Conv:0"]
