from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.export.qdq.match import match_layers, require_agreement
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.types import TensorRange
from tests.export.qdq.graphs import Array, residual


@dataclass(frozen=True)
class _Layer:
    name: str
    weight: Array
    range: TensorRange


def _range(high: float) -> TensorRange:
    return TensorRange(0.0, high, high, "abs_max", 1)


def _layers() -> list[_Layer]:
    """The graph's layers as a Paddle network holds them: not folded, linear weights (in, out)."""
    view = GraphView(residual())
    rng = np.random.default_rng(0)
    found = []
    for number, name in enumerate(("stem", "conv1", "conv2", "fc"), 1):
        weight = view.array(f"{name}.w")
        if weight.ndim == 4:  # a batch norm was folded, with factors of either sign
            weight = weight * (rng.choice([-1, 1], len(weight)) * rng.uniform(0.5, 2, len(weight)))[:, None, None, None]
        found.append(_Layer(name, weight.astype(np.float32).T if weight.ndim == 2 else weight.astype(np.float32),
                            _range(number)))  # fmt: skip
    return found


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]])
def test_layers_are_found_by_their_weights_when_batch_norm_was_folded(order: list[int]) -> None:
    layers = _layers()
    found, unmatched = match_layers(GraphView(residual()), [layers[i] for i in order])

    assert unmatched == ()
    assert {name: seen.high for name, seen in found.items()} == {
        "image": 1, "relu1.out": 3, "gap.out": 4,
    }  # fmt: skip


def test_layer_behind_a_pooling_gives_no_range_when_it_reads_only_some_values() -> None:
    found, unmatched = match_layers(GraphView(residual()), _layers())

    assert unmatched == ()
    assert "stem_relu.out" not in found


def test_layer_without_a_node_is_named() -> None:
    layers = _layers()
    strange = _Layer("strange", np.ones_like(layers[1].weight), _range(1))

    assert match_layers(GraphView(residual()), [*layers, strange])[1] == ("strange",)


def test_channel_that_was_folded_to_nothing_does_not_hide_a_layer() -> None:
    model = residual()
    layers = _layers()
    view = GraphView(model)
    folded = view.array("conv1.w").copy()
    folded[2] = 0.0
    for tensor in model.graph.initializer:
        if tensor.name == "conv1.w":
            tensor.raw_data = folded.tobytes()

    assert match_layers(GraphView(model), layers)[1] == ()


def test_range_that_onnx_runtime_does_not_see_is_refused() -> None:
    with pytest.raises(CheckFailed, match="taken for another one"):
        require_agreement({"x": _range(2.0)}, {"x": _range(2.1)})
    require_agreement({"x": _range(2.0), "y": _range(1.0)}, {"x": _range(2.0001)})
