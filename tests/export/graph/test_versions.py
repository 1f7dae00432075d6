from __future__ import annotations

import numpy as np
import onnx
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.export.graph import at_least, check_versions, ir_version_for, opset_of, stamp
from tests.export.graph.tiny import check_same, make, node, noise


def _model(opset: int) -> onnx.ModelProto:
    return make([node("Relu", ["x"], ["y"])], inputs={"x": [1]}, outputs={"y": [1]}, opset=opset)


@pytest.mark.parametrize(
    ("opset", "ir_version"), [(9, 4), (11, 6), (12, 7), (13, 7), (14, 7), (15, 8), (18, 8), (19, 9), (20, 9), (21, 10)]
)
def test_stamp_writes_the_oldest_ir_version_that_goes_with_the_opset(opset: int, ir_version: int) -> None:
    model = _model(opset)
    assert stamp(model).ir_version == ir_version == ir_version_for(opset)
    assert model.ir_version == 8
    assert onnx.helper.find_min_ir_version_for(list(model.opset_import)) == ir_version


def test_stamp_writes_a_newer_ir_version_when_it_is_asked_for() -> None:
    assert stamp(_model(13), 8).ir_version == 8


@pytest.mark.parametrize("ir_version", [6, 11, 0])
def test_stamp_refuses_when_the_ir_version_does_not_go_with_the_opset(ir_version: int) -> None:
    with pytest.raises(BadInput, match="does not go with opset 13") as caught:
        stamp(_model(13), ir_version)
    assert caught.value.fix == "choose one from 7 to 10"


def test_ir_version_for_refuses_when_the_opset_is_unknown() -> None:
    with pytest.raises(BadInput, match="opset 22"):
        ir_version_for(22)


def test_check_versions_returns_what_was_asked_for_or_the_oldest() -> None:
    assert (check_versions(11, None), check_versions(11, 10)) == (6, 10)


@pytest.mark.parametrize("opset", [17, 18])
def test_at_least_returns_the_model_itself_when_it_is_new_enough(opset: int) -> None:
    model = _model(opset)
    assert at_least(model, 17) is model


@pytest.mark.parametrize("ir_version", [6, 9])
def test_at_least_computes_the_same_when_an_operator_changed_its_meaning(ir_version: int) -> None:
    nodes = [node("Softmax", ["x"], ["y"], axis=1)]  # over axes 1 and 2 together until opset 13
    before = make(nodes, inputs={"x": [2, 3, 4]}, outputs={"y": [2, 3, 4]}, opset=11)
    before.ir_version = ir_version
    before.metadata_props.add(key="task", value="classification")
    after = at_least(before, 13)
    assert (opset_of(before), before.ir_version) == (11, ir_version)
    assert (opset_of(after), after.ir_version) == (13, max(ir_version, 7))
    assert after.metadata_props == before.metadata_props
    check_same(before, after, tolerance=1e-6, x=noise(2, 3, 4))


def test_at_least_brings_weights_along_when_an_operator_was_replaced() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Upsample", ["c", "k"], ["y"], mode="nearest")]
    constants = {"w": noise(2, 1, 1, 1), "k": np.array([1, 1, 2, 2], np.float32)}
    before = make(nodes, inputs={"x": [1, 1, 2, 2]}, outputs={"y": [1, 2, 4, 4]}, constants=constants, opset=9)
    after = at_least(before, 13)
    assert [n.op_type for n in after.graph.node if n.op_type != "Constant"] == ["Conv", "Resize"]
    check_same(before, after, x=noise(1, 1, 2, 2))


def test_at_least_refuses_when_an_operator_is_not_known() -> None:
    model = _model(11)
    model.graph.node[0].op_type = "NoSuchThing"
    with pytest.raises(BadInput, match=r"the model has opset 11 and cannot be brought to 13: .+") as caught:
        at_least(model, 13)
    assert caught.value.fix == "export it with opset 13 or higher"
