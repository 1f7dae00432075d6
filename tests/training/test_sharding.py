"""What of sharding needs no GPU; Paddle's own part, which needs some, is replaced by one with the same names."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.training.sharding import (
    Piece,
    Sharding,
    buffered,
    check_sharding,
    divide_state,
    join_parts,
    take_parts,
)
from paddle_tk.training.tensors import optimizer_state

FINE: dict[str, Any] = {"level": "os_g", "offload": False, "half": False, "ema": False}
SHAPES = {"a.weight": (3, 4), "a.bias": (4,), "b.weight": (5,)}


@pytest.mark.parametrize(
    ("device", "processes", "changed", "message"),
    [
        ("cpu", 2, {}, "needs GPUs"),
        ("gpu:0", 1, {}, "several processes"),
        ("gpu:0", 2, {"offload": True}, "needs fp16 parameters"),
        ("gpu:0", 2, {"level": "p_g_os", "ema": True}, "needs whole parameters"),
    ],
)
def test_check_sharding_raises_when_it_cannot_be(
    device: str, processes: int, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check_sharding(device, processes, **{**FINE, **changed})


def test_check_sharding_accepts_what_paddle_can() -> None:
    check_sharding("gpu:1", 2, **FINE)
    check_sharding("gpu:1", 4, **{**FINE, "level": "p_g_os", "offload": True})
    check_sharding("gpu:1", 4, **{**FINE, "offload": True, "half": True})


def _state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    state = {f"{name}::moment1_0": rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    state |= {f"{name}::beta1_pow_acc_0": np.array([0.9], np.float32) for name in SHAPES}
    return state | {f"master::{name}": rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def _by_parameter(rank: int) -> list[Piece]:
    own = (("a.weight", 12), ("a.bias", 4)) if rank == 0 else (("b.weight", 5),)
    return [Piece(name, f"p{name}", 0, 0, count, count) for name, count in own]


def _in_buffers(rank: int) -> list[Piece]:
    return buffered([("a.weight", 12, 4), ("a.bias", 4, 0)] if rank == 0 else [("b.weight", 5, 3)])


def _in_slices(rank: int) -> list[Piece]:
    # Ten elements for each of two processes, of which the last eight of the second one are filling.
    sliced = Piece("a.weight", "slice@pa", 0, 10 * rank, min(10 * (rank + 1), 12), 10)
    return [sliced, Piece("a.bias", "pb", 0, 0, 4, 4), Piece("b.weight", "pc", 0, 0, 5, 5)]


@pytest.mark.parametrize("layout", [_by_parameter, _in_buffers, _in_slices])
def test_state_is_whole_again_when_it_was_divided(layout: Any) -> None:
    whole = _state()
    parts = [take_parts(divide_state(whole, layout(rank)), layout(rank)) for rank in range(2)]
    joined = join_parts(parts, SHAPES)
    assert set(joined) == set(whole)
    for key, array in whole.items():
        np.testing.assert_array_equal(joined[key], array)


class _Stage2:
    """The names of Paddle's stage-2 optimizer, for the first of two processes: it updates every other parameter."""

    def __init__(self, optimizer: Any) -> None:
        self._optim = optimizer
        names = [p.name for p in optimizer._parameter_list]
        self.param2rank = {name: place % 2 for place, name in enumerate(names)}

    def state_dict(self) -> dict[str, Any]:
        return dict(self._optim.state_dict())


def _trained(steps: int) -> tuple[Any, Any]:
    paddle.seed(0)
    network = paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.Linear(4, 2))
    optimizer = paddle.optimizer.Adam(0.1, parameters=network.parameters())
    for _ in range(steps):
        network(paddle.ones([2, 3])).square().sum().backward()
        optimizer.step()
        optimizer.clear_grad()
    return network, optimizer


def test_wrap_hands_over_own_parts_when_a_checkpoint_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def group_sharded_parallel(network: Any, optimizer: Any, level: str, scaler: Any, offload: bool) -> Any:
        asked.append((level, scaler, offload))
        return network, _Stage2(optimizer), scaler

    monkeypatch.setattr("paddle.distributed.sharding.group_sharded_parallel", group_sharded_parallel)
    trained, used = _trained(3)
    whole = optimizer_state(used, trained)
    network, optimizer = _trained(0)
    parallel: Any = SimpleNamespace(rank=0, world=2, gather_arrays=lambda arrays: [arrays])
    sharding = Sharding(parallel, "os_g", offload=False)
    sharding.hold(whole)
    assert sharding.wrap(network, optimizer, None) is not optimizer
    assert asked == [("os_g", None, False)]
    assert sharding.loss_factor == 2.0
    own = {f"{name}::" for place, (name, _) in enumerate(network.named_parameters()) if place % 2 == 0}
    assert {re.sub(r"::.*", "::", key) for key in _held(sharding, network)} == own
    network(paddle.ones([2, 3])).square().sum().backward()
    for parameter in list(network.parameters())[1::2]:
        parameter.clear_gradient(False)  # Paddle leaves those of the other process without a gradient
    optimizer.step()
    found = sharding.optimizer_arrays(network)
    assert set(found) == {key for key in whole if key.startswith(tuple(own))}
    for key, array in found.items():
        assert array.shape == whole[key].shape
        if "beta1_pow" in key:
            np.testing.assert_allclose(array, whole[key] * 0.9, rtol=1e-6)


def _held(sharding: Sharding, network: Any) -> list[str]:
    """Returns what the optimizer was handed, under the network's own names."""
    names = {p.name: name for name, p in network.named_parameters()}
    held = sharding._inner()._accumulators_holder
    return [
        f"{names[owner]}::{key[len(owner) + 1 :]}" for key in held for owner in names if key.startswith(owner + "_")
    ]
