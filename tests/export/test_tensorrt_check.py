from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from paddle_tk.errors import BadInput
from paddle_tk.export.qdq.build import build
from paddle_tk.export.qdq.plan import make_plan
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.export.tensorrt_check import check
from tests.export.qdq.graphs import images, ranges_of, residual


@pytest.fixture
def int8() -> onnx.ModelProto:
    """A residual graph in TensorRT's form: conv - relu - pool - [conv - relu - conv] + skip - relu - pool - linear."""
    model = residual()
    plan = make_plan(GraphView(model), "tensorrt")
    return build(model, plan, ranges_of(model, plan.ranges, images()))


def _node(model: onnx.ModelProto, name: str) -> Any:
    return next(node for node in model.graph.node if node.name == name)


def _set(model: onnx.ModelProto, name: str, values: Any) -> str:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(values), name)])
    return name


def _pair(model: onnx.ModelProto, tensor: str) -> str:
    """Puts Q/DQ behind a tensor and returns what it makes."""
    scale, zero = _set(model, "p.scale", np.float32(0.1)), _set(model, "p.zero", np.int8(0))
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], ["p.q"], name="p.Q"),
            helper.make_node("DequantizeLinear", ["p.q", scale, zero], ["p.dq"], name="p.DQ"),
        ]
    )
    return "p.dq"


def _drop_zero_point(model: onnx.ModelProto) -> None:
    del _node(model, "relu1.out/Q").input[2]


def _unsigned(model: onnx.ModelProto) -> None:
    _set(model, "relu1.out/zero", np.uint8(0))


def _shifted(model: onnx.ModelProto) -> None:
    _set(model, "relu1.out/zero", np.int8(3))


def _negative(model: onnx.ModelProto) -> None:
    _set(model, "relu1.out/scale", np.float32(-0.1))


def _infinite(model: onnx.ModelProto) -> None:
    _set(model, "relu1.out/scale", np.float32(np.inf))


def _per_channel_activation(model: onnx.ModelProto) -> None:
    _set(model, "relu1.out/scale", np.full(8, 0.1, np.float32))


def _per_tensor_weight(model: onnx.ModelProto) -> None:
    _set(model, "conv1.w/scale", np.float32(0.1))


def _wrong_axis(model: onnx.ModelProto) -> None:
    entry = next(a for a in _node(model, "conv1.w/DQ").attribute if a.name == "axis")
    entry.i = 1


def _float_weight(model: onnx.ModelProto) -> None:
    _node(model, "conv1").input[1] = _set(model, "w", np.zeros((8, 8, 3, 3), np.float32))


def _unsigned_weight(model: onnx.ModelProto) -> None:
    _set(model, "conv1.w/int8", np.zeros((8, 8, 3, 3), np.uint8))


def _float_input(model: onnx.ModelProto) -> None:
    _node(model, "conv1").input[0] = "pool.out"


def _integer_bias(model: onnx.ModelProto) -> None:
    names = [_set(model, "b", np.zeros(8, np.int32)), _set(model, "b.scale", np.ones(8, np.float32)),
             _set(model, "b.zero", np.zeros(8, np.int32))]  # fmt: skip
    model.graph.node.append(helper.make_node("DequantizeLinear", names, ["b.dq"], name="b.DQ", axis=0))
    _node(model, "conv1").input[2] = "b.dq"


def _batch_norm(model: onnx.ModelProto) -> None:
    names = [_set(model, f"n{i}", np.ones(8, np.float32)) for i in range(4)]
    model.graph.node.append(helper.make_node("BatchNormalization", ["conv1.out", *names], ["n"], name="norm"))


def _batch_norm_behind_rounding(model: onnx.ModelProto) -> None:
    names = [_set(model, f"n{i}", np.ones(8, np.float32)) for i in range(4)]
    tensor = _pair(model, "relu2.out")
    model.graph.node.append(helper.make_node("BatchNormalization", [tensor, *names], ["n"], name="norm"))


def _before_clip_of_product(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Clip", [_pair(model, "fc.out")], ["c"], name="clip"))


def _constant_input(model: onnx.ModelProto) -> None:
    _pair(model, _set(model, "k", np.ones((1, 8, 1, 1), np.float32)))


def _before_relu(model: onnx.ModelProto) -> None:
    _node(model, "relu1").input[0] = _pair(model, "conv1.out")


def _main_branch(model: onnx.ModelProto) -> None:
    add = _node(model, "add")
    add.input[list(add.input).index("conv2.out")] = _pair(model, "conv2.out")


def _bare_skip(model: onnx.ModelProto) -> None:
    add = _node(model, "add")
    add.input[list(add.input).index("pool.out/dq")] = "pool.out"


def _before_resize(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Resize", [_pair(model, "relu2.out"), "", ""], ["r"], name="resize"))


def _softmax(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Softmax", [_pair(model, "fc.out")], ["s"], name="softmax"))


def _cast_input(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["relu1.out"], ["c"], name="cast", to=onnx.TensorProto.FLOAT16))
    _pair(model, "c")


def _operator(kind: str) -> Callable[[onnx.ModelProto], None]:
    def plant(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(kind, ["image"], ["planted"], name="planted"))

    return plant


def _newest_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


def _newest_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 12


def _free_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def _int64_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ArgMax", ["fc.out"], ["best"], name="best", axis=1))


def test_graph_in_tensorrts_form_keeps_to_every_rule(int8: onnx.ModelProto) -> None:
    assert check(int8, "8.5") == []
    assert check(int8, "10.3") == []


def test_older_release_reads_only_older_versions(int8: onnx.ModelProto) -> None:
    assert [violation.rule for violation in check(int8, "8.2")] == ["version", "version"]


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (_drop_zero_point, "three inputs"),
        (_unsigned, "int8"),
        (_shifted, "zero point 0"),
        (_negative, "positive scale"),
        (_infinite, "positive scale"),
        (_per_channel_activation, "one scale per activation"),
        (_per_tensor_weight, "scales on axis 0"),
        (_wrong_axis, "scales on axis 0"),
        (_float_weight, "rounded weights"),
        (_unsigned_weight, "stored as int8"),
        (_float_input, "rounded input"),
        (_integer_bias, "float bias"),
        (_batch_norm, "batch norm folded"),
        (_batch_norm_behind_rounding, "batch norm folded"),
        (_before_clip_of_product, "nothing before an activation"),
        (_constant_input, "FP32 input of Q"),
        (_before_relu, "nothing before an activation"),
        (_main_branch, "residual, main branch"),
        (_bare_skip, "residual, skip side"),
        (_before_resize, "nothing before Resize"),
        (_softmax, "float Softmax"),
        (_cast_input, "FP32 input of Q"),
        (_operator("QLinearConv"), "valid ONNX"),
        (_operator("QLinearConv"), "no QOperator"),
        (_operator("ConvInteger"), "no QOperator"),
        (_operator("Unique"), "operator"),
        (_newest_opset, "version"),
        (_newest_ir, "version"),
    ],
)
def test_planted_violation_is_found_and_named(
    plant: Callable[[onnx.ModelProto], None], rule: str, int8: onnx.ModelProto
) -> None:
    plant(int8)

    found = [violation for violation in check(int8, "8.5") if violation.rule == rule]
    assert found
    assert {violation.severity for violation in found} == {"error"}
    assert all(violation.node and violation.found and violation.fix for violation in found)


@pytest.mark.parametrize(("plant", "rule"), [(_free_batch, "fixed shape"), (_int64_output, "no INT64")])
def test_what_tensorrt_takes_in_its_own_way_is_a_warning(
    plant: Callable[[onnx.ModelProto], None], rule: str, int8: onnx.ModelProto
) -> None:
    plant(int8)

    assert [(violation.rule, violation.severity) for violation in check(int8, "8.5")] == [(rule, "warning")]
    assert (rule in {violation.rule for violation in check(int8, "10.3")}) == (rule == "fixed shape")


def test_cast_to_fp32_before_q_and_a_norm_behind_a_pooling_keep_to_the_rules(int8: onnx.ModelProto) -> None:
    names = [_set(int8, f"n{i}", np.ones(8, np.float32)) for i in range(4)]
    int8.graph.node.extend(
        [
            helper.make_node("Cast", ["relu2.out"], ["c"], name="cast", to=onnx.TensorProto.FLOAT),
            helper.make_node("MaxPool", ["c"], ["m"], name="another", kernel_shape=[2, 2]),
            helper.make_node("BatchNormalization", ["m", *names], ["n"], name="norm"),
        ]
    )
    _pair(int8, "n")

    assert check(int8, "8.5") == []


def test_cpu_form_breaks_the_rules() -> None:
    model = residual()
    plan = make_plan(GraphView(model), "x86")
    found = build(model, plan, ranges_of(model, plan.ranges, images()))

    assert {"int8", "float bias", "residual, main branch"} <= {violation.rule for violation in check(found, "8.5")}


def test_unknown_release_is_refused(int8: onnx.ModelProto) -> None:
    with pytest.raises(BadInput, match=r"TensorRT 7.1.*choose one of 8.2"):
        check(int8, "7.1")
