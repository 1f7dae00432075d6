from __future__ import annotations

import numpy as np
import onnx
import pytest

from paddle_tk.export.graph import node_counts, simplify
from tests.export.graph.tiny import check_same, constants_of, make, node, noise


def _network(batch: int | str) -> onnx.ModelProto:
    """What a converter writes for convolution, bias, norm, pooling, dropout's factor, flatten and a linear layer."""
    nodes = [
        node("Identity", ["x"], ["i"]),
        node("Conv", ["i", "w"], ["c"]),
        node("Reshape", ["b", "column"], ["bias"]),
        node("Add", ["c", "bias"], ["a"]),
        node("BatchNormalization", ["a", "one", "half", "half", "one"], ["n"]),
        node("Clip", ["n", "low", "high"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Mul", ["p", "factor"], ["d"]),
        node("Shape", ["d"], ["s"]),
        node("Slice", ["s", "zero", "first", "zero"], ["n1"]),
        node("Concat", ["n1", "rest"], ["t"], axis=0),
        node("Reshape", ["d", "t"], ["f"]),
        node("MatMul", ["f", "fc"], ["m"]),
        node("Add", ["m", "fcb"], ["o"]),
        node("Identity", ["o"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "w": noise(4, 3, 3, 3), "b": noise(4), "column": np.array([1, -1, 1, 1]), "factor": np.array([0.6], np.float32),
        "one": rng.uniform(1, 2, 4).astype(np.float32), "half": noise(4), "low": np.float32(0), "high": np.float32(6),
        "zero": np.array([0]), "first": np.array([1]), "rest": np.array([-1]), "fc": noise(4, 7), "fcb": noise(7),
    }  # fmt: skip
    return make(nodes, inputs={"x": [batch, 3, 6, 6]}, outputs={"y": [batch, 7]}, constants=constants)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_simplify_leaves_only_what_computes_when_a_converter_wrote_much_more(batch: int | str) -> None:
    before = _network(batch)
    before.metadata_props.add(key="task", value="classification")
    original = before.SerializeToString(deterministic=True)
    after = simplify(before)
    assert before.SerializeToString(deterministic=True) == original
    assert [n.op_type for n in after.graph.node] == ["Conv", "Clip", "GlobalAveragePool", "Reshape", "Gemm"]
    assert [(n.input[0], n.output[0]) for n in after.graph.node] == [
        ("x", "n"), ("n", "r"), ("r", "p"), ("p", "f"), ("f", "y"),
    ]  # fmt: skip
    assert len(constants_of(after)) == 7
    assert {v.name for v in after.graph.value_info} == {"n", "r", "p", "f"}
    assert (after.ir_version, after.opset_import, after.metadata_props) == (
        before.ir_version, before.opset_import, before.metadata_props,
    )  # fmt: skip
    for count in (1,) if batch == 1 else (1, 3):
        check_same(before, after, tolerance=1e-5, x=noise(count, 3, 6, 6, seed=2))


def test_simplify_is_deterministic_and_changes_nothing_when_it_runs_again() -> None:
    once = simplify(_network("batch"))
    assert simplify(_network("batch")).SerializeToString() == once.SerializeToString()
    assert simplify(once) == once


def test_node_counts_lists_the_most_frequent_first() -> None:
    assert list(node_counts(_network(1)).items())[:2] == [("Identity", 2), ("Reshape", 2)]
