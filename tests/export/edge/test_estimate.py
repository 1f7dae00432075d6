from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from paddle_tk.export.edge.cost import graph_cost
from paddle_tk.export.edge.devices import load_device
from paddle_tk.export.edge.estimate import Estimate, estimate, memory_findings
from paddle_tk.files import MIB
from tests.export.edge.graphs import conv_relu, held, model, quantized

CONV_FLOPS = 2 * (8 * 8 * 8) * (4 * 3 * 3)  # 2 x output elements x weights of one output
IN, OUT, WEIGHTS = 4 * 64, 8 * 64, 8 * 4 * 9  # elements


def test_graph_cost_counts_a_convolution_and_what_follows_it() -> None:
    cost = graph_cost(conv_relu())
    assert [(node.name, node.flops, node.fused) for node in cost.nodes] == [
        ("conv", CONV_FLOPS, False), ("relu", OUT, True),
    ]  # fmt: skip
    assert cost.nodes[0].bytes == 4 * (IN + OUT + WEIGHTS)
    assert cost.weight_bytes == 4 * WEIGHTS
    assert cost.unknown == ()


def test_graph_cost_halves_the_bytes_when_floats_have_two() -> None:
    full, half = graph_cost(conv_relu()), graph_cost(conv_relu(), float_bytes=2)
    assert (half.weight_bytes * 2, half.most_live_bytes * 2) == (full.weight_bytes, full.most_live_bytes)
    assert half.flops == full.flops


@pytest.mark.parametrize(
    ("node", "constants", "shape", "flops"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), [held("w", np.ones((4, 1, 3, 3), np.float32))],
         (1, 4, 8, 8), 2 * 4 * 36 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
         [held("w", np.ones((4, 6, 2, 2), np.float32))], (1, 4, 8, 8), 2 * 256 * 6 * 4),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [held("w", np.ones((8, 5), np.float32))],
         (1, 4, 8, 8), 2 * (4 * 8 * 5) * 8),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), [held("w", np.ones((8, 5), np.float32))],
         (8, 3), 2 * (3 * 5) * 8),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2]), [], (1, 4, 8, 8), 64 * 4),
        (helper.make_node("GlobalAveragePool", ["x"], ["y"]), [], (1, 4, 8, 8), 256),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1]), [], (1, 4, 8, 8), 0),
    ],
)  # fmt: skip
def test_graph_cost_follows_the_shapes_of_each_operator(
    node: Any, constants: list[Any], shape: tuple[int, ...], flops: int
) -> None:
    assert graph_cost(model([node], constants, shape=shape)).flops == flops


def test_graph_cost_counts_integer_products_with_bytes_of_one_when_they_stand_between_q_and_dq() -> None:
    cost = graph_cost(quantized())
    conv = next(node for node in cost.nodes if node.name == "conv")
    assert (conv.integer, conv.flops) == (True, CONV_FLOPS)
    assert conv.bytes == IN + OUT + WEIGHTS
    assert cost.weight_bytes < 4 * WEIGHTS


def test_graph_cost_keeps_tensors_alive_until_their_last_reader() -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["a"]), helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[1, 1]),
             helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[1, 1]),
             helper.make_node("Concat", ["c", "x"], ["y"], axis=1)]  # fmt: skip
    cost = graph_cost(model(nodes))
    assert cost.most_live_bytes == 4 * 4 * IN  # x, c and the result of two
    assert cost.least_live_bytes <= cost.most_live_bytes


def test_graph_cost_names_nodes_when_their_shapes_are_unknown() -> None:
    nodes = [helper.make_node("Fancy", ["x"], ["a"], domain="acme"), helper.make_node("Relu", ["a"], ["y"], name="r")]
    assert graph_cost(model(nodes, domains=["acme"])).unknown == ("a", "r")


def _estimate(device: str = "jetson-nano", precision: str = "fp16", **settings: float) -> Estimate:
    target = load_device(device)
    graph = quantized() if precision == "int8" else conv_relu()
    return estimate(graph, target, engine=target.engine, precision=precision, **settings)  # type: ignore[arg-type]


def test_estimate_gives_a_range_for_every_state_of_the_device_and_says_so() -> None:
    found = _estimate("jetson-orin-nano")
    assert [entry.state for entry in found.latency] == ["15 W", "25 W (Super)"]
    assert all(0 < entry.low_ms < entry.high_ms for entry in found.latency)
    assert found.latency[1].high_ms < found.latency[0].high_ms
    assert found.to_dict()["origin"] == "estimated"
    assert "estimated" in found.latency[0].line()


def test_estimate_sums_the_roofline_of_the_nodes() -> None:
    found = _estimate(precision="fp32").latency[0]
    conv = max(CONV_FLOPS / (0.236e12 * 0.65), 4 * (IN + OUT + WEIGHTS) / (25.6e9 * 0.9)) + 2e-6
    assert found.low_ms == pytest.approx(conv * 1e3)
    slow = max(CONV_FLOPS / (0.236e12 * 0.1), 4 * (IN + OUT + WEIGHTS) / (25.6e9 * 0.35)) + 20e-6
    relu = 4 * 2 * OUT / (25.6e9 * 0.35) + 20e-6
    assert found.high_ms == pytest.approx((slow + relu) * 1e3)


def test_estimate_gives_no_latency_and_the_reason_when_the_table_has_no_figures() -> None:
    x86 = _estimate("x86-cpu", "fp32")
    assert (x86.latency, x86.low_mib > 0) == ((), True)
    assert "measure it" in x86.reason
    cpu = estimate(conv_relu(), load_device("jetson-nano"), engine="onnxruntime", precision="fp32")
    assert cpu.latency == ()
    assert "CPU" in cpu.reason


def test_estimate_adds_weights_activations_and_workspace() -> None:
    found = _estimate(precision="fp32", workspace_mib=100)
    assert found.weights_mib == pytest.approx(4 * WEIGHTS / MIB)
    assert found.low_mib == pytest.approx(found.weights_mib + found.activations_mib[0])
    assert found.high_mib == pytest.approx(2 * found.weights_mib + found.activations_mib[1] + 100)


def test_estimate_refuses_fp16_when_the_engine_is_onnx_runtime() -> None:
    with pytest.raises(ValueError, match="FP16"):
        _estimate("raspberry-pi-5", "fp16")


@pytest.mark.parametrize(("workspace", "severities"), [(10.0, []), (2000.0, ["warning"]), (20000.0, ["warning"])])
def test_memory_findings_compare_with_the_memory_it_is_sold_with(workspace: float, severities: list[str]) -> None:
    found = _estimate("raspberry-pi-4", "fp32", workspace_mib=workspace)
    assert [f.severity for f in memory_findings(found, load_device("raspberry-pi-4"))] == severities


def test_memory_findings_are_an_error_when_no_such_device_has_enough() -> None:
    large = conv_relu(shape=(1, 4, 16384, 16384))
    target = load_device("jetson-nano")
    found = estimate(large, target, engine="tensorrt", precision="fp32")
    assert [f.severity for f in memory_findings(found, target)] == ["error"]
    assert memory_findings(found, load_device("x86-cpu")) == []
