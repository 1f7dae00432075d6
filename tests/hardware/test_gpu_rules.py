from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.hardware.allocations import Lines, Trace
from paddle_tk.hardware.gpu_rules import State, low_state, on_gpu

OPERATORS = ["conv2d", "conv2d", "relu", "softmax_with_cross_entropy", "conv2d_grad", "softmax_grad"]
TRACE = Trace(2, (8, 8), 0, 0, [1] * 6, OPERATORS, [False, True, False, False, True, False], [], 0, 0)
SIZES = Lines(np.full(6, 10.0), np.full(6, 4.0))


def test_columns_of_convolutions_vanish_on_a_gpu() -> None:
    found = on_gpu(TRACE, SIZES, "fp32", "O1")
    assert found.fixed.tolist() == [10, 0, 10, 10, 0, 10]
    assert found.each.tolist() == [4, 0, 4, 4, 0, 4]


def test_images_take_half_where_paddle_computes_low() -> None:
    mixed, whole = (on_gpu(TRACE, SIZES, "fp16", level) for level in ("O1", "O2"))
    assert mixed.each.tolist() == [2, 0, 2, 4, 0, 4]  # softmax and cross-entropy are on Paddle's black list of O1
    assert whole.each.tolist() == [2, 0, 2, 2, 0, 2]
    assert mixed.fixed.tolist() == whole.fixed.tolist() == [10, 0, 10, 10, 0, 10]


def test_torchs_operators_are_known_by_paddles_names() -> None:
    names = ["aten::_log_softmax", "aten::_log_softmax_backward_data", "aten::nll_loss_forward", "aten::relu_"]
    trace = Trace(2, (8, 8), 0, 0, [1] * 4, names, [False] * 4, [], 0, 0)
    found = on_gpu(trace, Lines(np.zeros(4), np.full(4, 4.0)), "bf16", "O1")
    assert found.each.tolist() == [4, 4, 4, 2]


def test_state_follows_the_level() -> None:
    state = State(parameters=100, gradients=90, matrices=80, optimizer=180, averages=100)
    assert low_state(state, "fp32", "O2") == (state, 0)
    assert low_state(state, "bf16", "O1") == (state, 40)
    low, casts = low_state(state, "bf16", "O2")
    assert (low.parameters, low.gradients, low.optimizer, low.averages, casts) == (60, 50, 260, 100, 0)
    assert low.resident == pytest.approx(420)
