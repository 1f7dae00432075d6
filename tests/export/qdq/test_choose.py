from __future__ import annotations

import numpy as np
import onnx
import pytest

from paddle_tk.export.qdq.choose import Chosen, choose_layers
from paddle_tk.export.qdq.plan import make_plan
from paddle_tk.export.qdq.sensitivity import logit_distance
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.types import TensorRange
from tests.export.qdq.graphs import WEIGHT_BITS, images, ranges_of, residual, run


def _choose(max_loss: float, *, measurable: bool = True) -> Chosen:
    """Quantizes a graph in which one range is two hundred times too wide; the loss is the outputs' relative error."""
    model = residual()
    ranges = ranges_of(model, make_plan(GraphView(model), "x86").ranges, images())
    spoiled = ranges["relu1.out"]
    ranges["relu1.out"] = TensorRange(0.0, spoiled.high * 200, spoiled.threshold * 200, "abs_max", 1)
    batch = images(seed=7)[0]
    right = run(model, batch)[0]

    def loss(candidate: onnx.ModelProto) -> float:
        return float(np.linalg.norm(run(candidate, batch)[0] - right) / np.linalg.norm(right))

    return choose_layers(
        model, "x86", ranges, weight_bits=WEIGHT_BITS, keep={}, loss=loss if measurable else None, max_loss=max_loss,
        images=np.concatenate(images(2, seed=9)), distance=logit_distance,
    )  # fmt: skip


def test_layers_that_hurt_are_left_in_float_until_the_loss_is_allowed() -> None:
    found = _choose(0.05)

    assert set(found.plan.skipped) == {"conv1", "conv2"}
    assert found.loss is not None
    assert found.loss <= 0.05 < found.tried[0]
    assert list(found.tried) == [0, 1, 2], "no layer more than needed"
    assert "rank 1 of 4" in found.plan.skipped[found.ranked[0].node]


def test_everything_is_quantized_when_the_loss_is_allowed() -> None:
    found = _choose(10.0)

    assert found.plan.skipped == {}
    assert found.ranked == ()


def test_everything_is_quantized_when_nothing_can_be_measured() -> None:
    assert _choose(0.0, measurable=False).plan.skipped == {}


def test_best_choice_is_kept_when_no_choice_is_good_enough() -> None:
    found = _choose(0.0)

    assert found.loss == min(found.tried.values())
    assert found.loss == pytest.approx(found.tried[len(found.plan.skipped)])
