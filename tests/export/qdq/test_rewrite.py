from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from paddle_tk.export.qdq.build import build
from paddle_tk.export.qdq.plan import make_plan
from paddle_tk.export.qdq.rewrite import forms
from paddle_tk.export.qdq.view import GraphView
from tests.export.qdq.graphs import WEIGHT_BITS, Sketch, images, ranges_of, run


def _gated(kind: str, **attributes: float) -> onnx.ModelProto:
    s = Sketch()
    first = s.conv("first", "image", 4, inputs=3)
    gate = s.node(kind, "gate", [first], **attributes)
    return s.model(s.conv("second", gate, 4, inputs=4), [1, 4, 16, 16])


@pytest.mark.parametrize(("kind", "attributes"), [("HardSwish", {}), ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5})])
def test_hard_sigmoids_are_integer_kernels_after_the_rewriting(
    kind: str, attributes: dict[str, float], tmp_path: Path
) -> None:
    model = _gated(kind, **attributes)
    steps = forms(model)["x86"]
    batch = images(seed=3)[0]
    assert np.abs(run(steps, batch)[0] - run(model, batch)[0]).max() < 1e-5

    plan = make_plan(GraphView(steps), "x86")
    int8 = build(steps, plan, ranges_of(steps, plan.ranges, images()), weight_bits=WEIGHT_BITS)
    file = str(tmp_path / "optimised.onnx")
    (found,) = run(int8, batch, save_to=file)
    kinds = Counter(node.op_type for node in onnx.load(file).graph.node)

    right = run(model, batch)[0]
    assert np.linalg.norm(found - right) <= 0.05 * np.linalg.norm(right)
    assert (kinds["QLinearConv"], kinds["Conv"], kinds["QLinearAdd"]) == (1, 1, 1), "the answer is made in float"
    assert kinds["QLinearMul"] == (kind == "HardSwish")
    assert kinds["Mul"] == kinds["HardSigmoid"] == 0


def test_other_hard_sigmoid_is_left_alone() -> None:
    model = _gated("HardSigmoid", alpha=0.2, beta=0.5)

    assert "HardSigmoid" in {node.op_type for node in forms(model)["x86"].graph.node}
