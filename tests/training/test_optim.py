from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddle_tk.training.optim import build_optimizer, learning_rate_factor

from . import small


def test_cosine_starts_at_one_and_ends_at_the_floor() -> None:
    factor = learning_rate_factor("cosine", updates_per_epoch=10, max_epochs=5, min_ratio=0.1)
    assert factor(0) == 1
    assert factor(25) == pytest.approx(0.1 + 0.9 * 0.5)
    assert factor(50) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(0.1)


def test_warmup_is_linear_from_one_percent() -> None:
    factor = learning_rate_factor("constant", updates_per_epoch=10, max_epochs=5, warmup_epochs=2)
    assert [factor(u) for u in (0, 10, 20, 49)] == pytest.approx([0.01, 0.505, 1, 1])


def test_step_drops_at_each_epoch_named() -> None:
    factor = learning_rate_factor("step", updates_per_epoch=4, max_epochs=9, step_epochs=[2, 5], step_gamma=0.5)
    assert [factor(u) for u in (0, 7, 8, 19, 20, 35)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_one_cycle_rises_for_thirty_percent_then_falls() -> None:
    factor = learning_rate_factor("one_cycle", updates_per_epoch=10, max_epochs=10)
    values = [factor(u) for u in range(101)]
    assert values.index(max(values)) == 30
    assert values[0] == pytest.approx(0.01)
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)
    assert factor(65) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_matrices_and_kernels_decay(name: str) -> None:
    network = small.network()
    optimizer = build_optimizer(
        name, network, learning_rate=0.1, factor=lambda update: 1.0, weight_decay=0.5, momentum=0.0
    )
    with paddle.no_grad():
        for parameter in network.parameters():
            parameter.set_value(np.ones(parameter.shape, np.float32))
    loss = sum((p * 0).sum() for p in network.parameters())
    loss.backward()
    optimizer.step()
    for parameter in network.parameters():
        expected = 1 - 0.1 * 0.5 if parameter.ndim > 1 else 1.0
        np.testing.assert_allclose(parameter.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_clipping_bounds_the_norm_over_all_parameters(name: str) -> None:
    network = paddle.nn.Sequential(paddle.nn.Linear(4, 4), paddle.nn.Linear(4, 4))
    optimizer = build_optimizer(
        "sgd", network, learning_rate=1.0, factor=lambda update: 1.0, momentum=0.0, clip_norm=0.5
    )
    before = [p.numpy().copy() for p in network.parameters()]
    (network(paddle.rand([8, 4]) * 100).square().sum()).backward()
    optimizer.step()
    moved = math.sqrt(
        sum(float(((p.numpy() - b) ** 2).sum()) for p, b in zip(network.parameters(), before, strict=True))
    )
    assert moved == pytest.approx(0.5, rel=1e-4)
