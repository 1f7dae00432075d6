from __future__ import annotations

import onnx
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.export.graph import fix_batch, infer_shapes, tensor_shapes
from tests.export.graph.tiny import check_same, make, node, noise


def _model(batch: int | str = "batch") -> onnx.ModelProto:
    nodes = [node("Conv", ["x", "w"], ["c"], strides=[2, 2]), node("Relu", ["c"], ["y"])]
    return make(
        nodes, inputs={"x": [batch, 3, 9, 9]}, outputs={"y": [batch, 64, 4, 4]}, constants={"w": noise(64, 3, 3, 3)}
    )


def test_tensor_shapes_knows_every_tensor_when_it_can_be_inferred() -> None:
    found = tensor_shapes(_model())
    assert found.shapes == {
        "x": ("batch", 3, 9, 9),
        "w": (64, 3, 3, 3),
        "c": ("batch", 64, 4, 4),
        "y": ("batch", 64, 4, 4),
    }
    assert set(found.types.values()) == {onnx.TensorProto.FLOAT}
    assert (found.fixed("c"), found.fixed("w"), found.fixed("nothing")) == (None, (64, 3, 3, 3), None)


def test_infer_shapes_writes_value_info_and_nothing_else() -> None:
    before = _model(1)
    before.graph.value_info.append(onnx.helper.make_tensor_value_info("gone", onnx.TensorProto.FLOAT, [1]))
    after = infer_shapes(before)
    assert [v.name for v in before.graph.value_info] == ["gone"]
    assert [(v.name, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in after.graph.value_info] == [
        ("c", [1, 64, 4, 4])
    ]
    assert (list(after.graph.node), list(after.graph.initializer)) == (
        list(before.graph.node),
        list(before.graph.initializer),
    )


def test_fix_batch_fixes_inputs_and_outputs_when_the_batch_is_free() -> None:
    before = _model()
    after = fix_batch(before, 2)
    assert tensor_shapes(after).fixed("c") == (2, 64, 4, 4)
    check_same(before, after, x=noise(2, 3, 9, 9))
    assert fix_batch(after, 2) == after


def test_fix_batch_refuses_when_the_batch_is_another() -> None:
    with pytest.raises(BadInput, match="batches of 1"):
        fix_batch(_model(1), 2)


def test_tensor_shapes_refuses_when_a_node_lacks_an_input() -> None:
    model = _model()
    model.graph.node.append(node("ConvInteger", ["x"], ["z"]))
    with pytest.raises(ArtifactError, match=r"no valid ONNX: .*ConvInteger"):
        tensor_shapes(model)
