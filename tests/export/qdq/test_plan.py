from __future__ import annotations

import pytest

from paddle_tk.export.qdq.plan import make_plan
from paddle_tk.export.qdq.view import GraphView
from tests.export.qdq.graphs import Sketch, residual


def test_cpu_plan_rounds_everything_between_integer_nodes() -> None:
    plan = make_plan(GraphView(residual()), "x86")

    assert plan.weighted == ("stem", "conv1", "conv2", "fc")
    assert plan.arithmetic == ("add", "gap")
    assert plan.tensors == (
        "image", "stem_relu.out", "pool.out", "relu1.out", "conv2.out", "relu2.out", "gap.out", "flat.out",
    )  # fmt: skip
    assert plan.skipped == {}


def test_what_only_moves_values_shares_the_scale_of_its_input() -> None:
    plan = make_plan(GraphView(residual()), "x86")

    assert plan.scaled_as["pool.out"] == "stem_relu.out"
    assert plan.scaled_as["flat.out"] == "gap.out"
    assert "pool.out" not in plan.ranges


def test_tensorrt_plan_rounds_only_inputs_and_the_skip_side() -> None:
    plan = make_plan(GraphView(residual()), "tensorrt")

    assert plan.tensors == ("image", "pool.out", "relu1.out", "relu2.out", "flat.out")
    assert "conv2.out" not in plan.tensors, "the main branch's convolution is added in its own precision"


def test_shortcut_convolution_is_the_rounded_side_when_both_sides_are_convolutions() -> None:
    s = Sketch()
    main = s.conv("main", "image", 4, inputs=3)
    shortcut = s.conv("shortcut", "image", 4, 1, inputs=3)
    model = s.model(s.node("Add", "add", [main, shortcut]), [1, 4, 16, 16])

    plan = make_plan(GraphView(model), "tensorrt")

    assert "shortcut.out" in plan.tensors
    assert "main.out" not in plan.tensors


def test_skipped_node_stays_float_and_keeps_its_reason() -> None:
    plan = make_plan(GraphView(residual()), "x86", {"conv1": "it hurts", "no such node": "unknown"})

    assert "conv1" not in plan.weighted
    assert plan.skipped == {"conv1": "it hurts"}
    assert "relu1.out" in plan.tensors, "the next convolution still reads integers"


def test_arithmetic_stays_float_when_no_integer_node_reads_it() -> None:
    s = Sketch()
    left, right = s.conv("left", "image", 4, inputs=3), s.conv("right", "image", 4, inputs=3)
    model = s.model(s.node("Softmax", "softmax", [s.node("Add", "add", [left, right])]), [1, 4, 16, 16])

    plan = make_plan(GraphView(model), "x86")

    assert plan.arithmetic == ()
    assert plan.tensors == ("image",), "an answer of the network is not rounded"


def test_product_of_activations_is_told_when_it_stays_float() -> None:
    s = Sketch()
    left = s.conv("left", "image", 4, inputs=3)
    model = s.model(s.node("MatMul", "attention", [left, left]), [1, 4, 16, 16])

    assert "two activations" in make_plan(GraphView(model), "x86").skipped["attention"]


@pytest.mark.parametrize("target", ["x86", "tensorrt"])
def test_linear_layer_returns_floats_when_it_is_the_last(target: str) -> None:
    plan = make_plan(GraphView(residual()), target)  # type: ignore[arg-type]

    assert "fc.out" not in plan.tensors


def test_clip_that_reaches_below_zero_is_not_absorbed() -> None:
    import numpy as np

    s = Sketch()
    low, high = s.held("low", np.float32(-1)), s.held("high", np.float32(1))
    clipped = s.node("Clip", "clip", [s.conv("first", "image", 4, inputs=3), low, high])
    model = s.model(s.conv("second", clipped, 4, inputs=4), [1, 4, 16, 16])

    plan = make_plan(GraphView(model), "x86")

    assert {"first.out", "clip.out"} <= set(plan.tensors)


def test_expectation_over_a_softmax_stays_float() -> None:
    s = Sketch()
    shares = s.node("Softmax", "softmax", [s.conv("first", "image", 4, inputs=3)])
    model = s.model(s.conv("expected", shares, 1, 1, inputs=4), [1, 1, 16, 16])

    assert "Softmax" in make_plan(GraphView(model), "x86").skipped["expected"]
