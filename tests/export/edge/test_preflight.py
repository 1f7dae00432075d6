from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from paddle_tk.errors import ArtifactError
from paddle_tk.export.edge.device_table import Engine
from paddle_tk.export.edge.devices import load_device
from paddle_tk.export.edge.findings import Preflight
from paddle_tk.export.edge.model_file import read_model
from paddle_tk.export.edge.preflight import preflight
from tests.export.edge.graphs import conv_relu, held, model, one, quantized

INDICES = held("k", np.array([5], np.int64))


def _check(graph: onnx.ModelProto, device: str = "jetson-nano", engine: Engine = "tensorrt") -> Preflight:
    return preflight(graph, load_device(device), engine=engine)


def _rules(graph: onnx.ModelProto, device: str = "jetson-nano", engine: Engine = "tensorrt") -> set[str]:
    return {finding.rule for finding in _check(graph, device, engine).errors}


@pytest.mark.parametrize("device", ["jetson-nano", "jetson-xavier-nx", "jetson-orin-nano", "jetson-agx-orin"])
def test_preflight_finds_nothing_when_a_plain_network_is_written_for_the_device(device: str) -> None:
    for engine in ("tensorrt", "onnxruntime"):
        assert _check(conv_relu(), device, engine).findings == ()


@pytest.mark.parametrize("operator", ["NonZero", "RoiAlign", "Mod", "OneHot", "HardSwish", "GridSample", "Reciprocal"])
def test_preflight_refuses_an_operator_when_tensorrt_8_2_does_not_list_it(operator: str) -> None:
    found = _check(one(operator)).errors
    assert [(finding.rule, finding.node) for finding in found if finding.rule == "operator"] == [("operator", "node")]
    assert operator in found[0].problem or operator in found[-1].problem
    assert all(finding.fix and finding.source for finding in found)


def test_preflight_allows_the_same_operator_when_the_release_lists_it() -> None:
    assert "operator" not in _rules(one("HardSwish"), "jetson-orin-nano")
    assert "operator" not in _rules(one("Mod", ("x", "x")), "jetson-xavier-nx")


def test_preflight_looks_into_branches() -> None:
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])
    body = helper.make_graph([helper.make_node("HardSwish", ["x"], ["b"], name="inner")], "body", [], [out])
    node = helper.make_node("If", ["flag"], ["y"], name="if", then_branch=body, else_branch=body)
    found = _check(model([node], [held("flag", np.array(True))])).errors
    assert any(finding.node.startswith("inner") for finding in found)


@pytest.mark.parametrize("device", ["jetson-nano", "jetson-orin-nano"])
def test_preflight_refuses_the_integer_form_when_tensorrt_is_to_run_it(device: str) -> None:
    graph = one("ConvInteger", ("x", "w"), [held("w", np.ones((4, 4, 1, 1), np.int8))])
    found = [finding for finding in _check(graph, device).errors if finding.rule == "operator"]
    assert "--target tensorrt" in found[0].fix
    contrib = model([helper.make_node("QLinearAdd", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"])
    assert "operator" in _rules(contrib, device)


def test_preflight_warns_of_or_refuses_foreign_operators_when_onnx_runtime_is_to_run_them() -> None:
    contrib = model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"],
                    out=(1, 4, 8, 8))  # fmt: skip
    report = _check(contrib, "raspberry-pi-5", "onnxruntime")
    assert [finding.severity for finding in report.findings] == ["warning"]
    foreign = model([helper.make_node("Fancy", ["x"], ["y"], domain="acme")], domains=["acme"], out=(1,))
    assert _rules(foreign, "raspberry-pi-5", "onnxruntime") == {"operator"}


@pytest.mark.parametrize(
    ("device", "engine", "opset", "ir_version", "rules"),
    [
        ("jetson-nano", "tensorrt", 17, 8, {"opset", "ir_version"}),
        ("jetson-nano", "tensorrt", 13, 7, set()),
        ("jetson-nano", "onnxruntime", 15, 8, set()),
        ("jetson-nano", "onnxruntime", 16, 9, {"opset", "ir_version"}),
        ("jetson-xavier-nx", "tensorrt", 17, 8, set()),
        ("jetson-xavier-nx", "tensorrt", 18, 8, {"opset"}),
        ("jetson-orin-nano", "onnxruntime", 20, 10, set()),
    ],
)
def test_preflight_refuses_versions_when_the_engine_is_older(
    device: str, engine: Engine, opset: int, ir_version: int, rules: set[str]
) -> None:
    assert _rules(conv_relu(opset=opset, ir_version=ir_version), device, engine) == rules


def test_preflight_refuses_a_free_input_but_not_an_initializer_listed_as_input() -> None:
    found = _check(conv_relu(shape=("batch", 4, 8, 8))).errors
    assert {finding.node for finding in found} == {"x", "y"}
    listed = conv_relu()
    listed.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 4, 3, 3]))
    assert _rules(listed) == set()


def test_preflight_takes_a_stated_output_shape_when_the_inference_does_not_find_it() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Slice", ["s", "a", "b"], ["t"]),
             helper.make_node("Expand", ["x", "t"], ["y"])]  # fmt: skip
    constants = [held("a", np.array([0])), held("b", np.array([4]))]
    assert "dynamic_shape" not in _rules(model(nodes, constants, out=(1, 4, 8, 8)))


def test_preflight_judges_int64_by_what_int32_can_hold_when_tensorrt_is_older_than_9() -> None:
    def gather(index: int) -> onnx.ModelProto:
        return one("Gather", ("x", "k"), [held("k", np.array([index], np.int64))], axis=1)

    inside = _check(gather(3))
    assert ([f.severity for f in inside.findings], inside.passed) == (["info"], True)
    assert _rules(gather(2**40)) == {"int64"}
    assert _rules(gather(2**40), "jetson-orin-nano") == set()
    ends = [held("a", np.array([0])), held("b", np.array([np.iinfo(np.int64).max]))]
    assert _rules(one("Slice", ("x", "a", "b"), ends)) == set()


def test_preflight_refuses_int64_inputs_and_outputs_when_tensorrt_is_older_than_9() -> None:
    graph = model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)],
                  kinds=(TensorProto.FLOAT, TensorProto.INT64), out=(1, 4, 8, 8))  # fmt: skip
    assert [finding.node for finding in _check(graph).errors] == ["y"]
    assert _rules(graph, "jetson-orin-nano") == set()


def _top_k(k: Any) -> onnx.ModelProto:
    constants = [] if k is None else [held("k", np.array([k], np.int64))]
    nodes = [] if k is not None else [helper.make_node("Cast", ["x"], ["k"], to=TensorProto.INT64)]
    nodes.append(helper.make_node("TopK", ["x", "k"], ["v", "i"], name="top"))
    nodes.append(helper.make_node("Identity", ["v"], ["y"]))
    return model(nodes, constants, shape=(1, 5000), out=(1, 5))


def test_preflight_refuses_top_k_when_k_is_large_or_not_constant() -> None:
    assert _rules(_top_k(3840)) == set()
    assert _rules(_top_k(3841)) == {"top_k"}
    assert _rules(_top_k(None)) == {"constant_input"}


def test_preflight_refuses_what_else_the_parser_restricts() -> None:
    cubic = one("Resize", ("x", "", "s"), [held("s", np.array([1, 1, 2, 2], np.float32))], mode="cubic")
    assert _rules(cubic) == {"resize"}
    pool = [helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2], name="pool")]
    assert _rules(model(pool)) == {"max_pool"}
    computed = [helper.make_node("Abs", ["x"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"], name="c")]
    assert "constant_input" in _rules(model(computed, shape=(4, 4, 1, 1), out=(4, 4, 1, 1)))
    assert "constant_input" not in _rules(model(computed, shape=(4, 4, 1, 1), out=(4, 4, 1, 1)), "jetson-orin-nano")


def test_preflight_refuses_q_dq_when_the_gpu_has_no_int8_and_not_on_its_cpu() -> None:
    found = _check(quantized()).errors
    assert [finding.rule for finding in found] == ["no_int8"]
    assert "3157" in found[0].source
    assert _check(quantized(), engine="onnxruntime").passed
    assert _check(quantized(), "jetson-orin-nano").passed


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": np.uint8, "zero": 128}, "to uint8"),
        ({"zero": 3}, "zero point other than 0"),
        ({"int32_bias": True}, "INT32 bias"),
    ],
)
def test_preflight_refuses_q_dq_in_another_form_than_tensorrt_takes(settings: dict[str, Any], told: str) -> None:
    report = _check(quantized(**settings), "jetson-xavier-nx")
    assert {finding.rule for finding in report.errors} == {"quantization"}
    assert any(told in finding.problem for finding in report.errors)


def test_preflight_sorts_errors_first_and_tells_them_in_one_line() -> None:
    report = _check(one("Gather", ("x", "k"), [held("k", np.array([2**40], np.int64))], axis=1))
    assert [finding.severity for finding in report.findings] == ["error", "info"]
    assert "1 error, 0 warning, 1 info; error:" in report.line()
    assert report.to_dict()["findings"][0]["fix"]


def test_preflight_refuses_an_engine_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="has no TensorRT"):
        _check(conv_relu(), "raspberry-pi-5")


@pytest.mark.parametrize("payload", [b"", b"no model at all", b"\x08\x07"])
def test_read_model_refuses_when_the_file_is_not_onnx(payload: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(payload)
    with pytest.raises(ArtifactError, match="is no ONNX model"):
        read_model(tmp_path / "m.onnx")


def test_read_model_refuses_when_the_file_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(conv_relu().SerializeToString()[:-200])
    with pytest.raises(ArtifactError, match="is no ONNX model"):
        read_model(tmp_path / "m.onnx")


def test_read_model_refuses_when_weights_lie_in_another_file(tmp_path: Path) -> None:
    onnx.save(conv_relu(), str(tmp_path / "m.onnx"), save_as_external_data=True, size_threshold=0)
    with pytest.raises(ArtifactError, match="in another file"):
        read_model(tmp_path / "m.onnx")
