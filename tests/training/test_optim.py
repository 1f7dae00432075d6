from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.training.optim import build_optimizer

from . import small


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


def test_adam_adds_the_decay_to_the_gradient_of_matrices_only() -> None:
    network = small.network()
    optimizer = build_optimizer("adam", network, learning_rate=0.1, factor=lambda update: 1.0, weight_decay=0.5)
    before = {parameter.name: parameter.numpy().copy() for parameter in network.parameters()}
    sum((p * 0).sum() for p in network.parameters()).backward()
    optimizer.step()
    for parameter in network.parameters():
        start = before[parameter.name]
        # Adam's first step is the rate, against the sign of the gradient, which is the decay here.
        expected = start - 0.1 * np.sign(start) if parameter.ndim > 1 else start
        np.testing.assert_allclose(parameter.numpy(), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "momentum", "held"), [("sgd", 0.0, 0), ("sgd", 0.9, 1), ("adam", 0.9, 2), ("adamw", 0.9, 2)]
)
def test_an_optimizer_holds_what_it_must_for_each_parameter(name: str, momentum: float, held: int) -> None:
    network = small.network()
    optimizer = build_optimizer(name, network, learning_rate=0.1, factor=lambda update: 1.0, momentum=momentum)
    sum(p.sum() for p in network.parameters()).backward()
    optimizer.step()
    sizes = [int(t.size) for kind in optimizer._accumulators.values() for t in kind.values()]
    parameters = [int(p.size) for p in network.parameters() if not p.stop_gradient]
    assert sum(size for size in sizes if size > 1) == held * sum(parameters)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(BadInput, match="lion"):
        build_optimizer("lion", small.network(), learning_rate=0.1, factor=lambda update: 1.0)


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


def test_decay_is_a_part_of_the_gradient_when_the_optimizer_is_adam() -> None:
    network = small.network()
    before = {name: p.numpy().copy() for name, p in network.named_parameters() if not p.stop_gradient}
    optimizer = build_optimizer("adam", network, learning_rate=0.1, factor=lambda update: 1.0, weight_decay=0.5)
    sum((p * 0).sum() for p in network.parameters()).backward()
    optimizer.step()
    for name, parameter in network.named_parameters():
        if parameter.stop_gradient:
            continue
        # Adam's first step is the rate in the direction of the gradient, which is the decay alone here.
        gradient = 0.5 * before[name] if parameter.ndim > 1 else 0.0 * before[name]
        expected = before[name] - 0.1 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(parameter.numpy(), expected, atol=1e-5)
