from __future__ import annotations

import onnx
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.export.graph import ir_version_for, stamp
from tests.export.graph.tiny import make, node


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
