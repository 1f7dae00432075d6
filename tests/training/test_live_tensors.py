from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.training.live_tensors import SNAPSHOTS, LiveTensors, LivingOn


class Keeper:
    """Holds what a test makes."""

    def __init__(self) -> None:
        self.kept: list[Any] = []


HELD: dict[str, Any] = {}


def _views() -> list[np.ndarray]:
    owner = np.ones((31, 7))
    return [owner[:3], owner[3:], owner.T]


@pytest.fixture(scope="module")
def live() -> Iterator[LiveTensors]:
    yield LiveTensors()
    tracemalloc.stop()


@pytest.fixture(scope="module")
def found(live: LiveTensors) -> dict[tuple[int, ...], LivingOn]:
    """What is found, by shape, when two more of each kind are kept with every snapshot."""
    keeper, layer = Keeper(), paddle.nn.Linear(3, 11)
    HELD["tensors"] = []
    items: list[LivingOn] = []
    for _ in range(SNAPSHOTS):
        keeper.kept += [paddle.zeros([1237, 5]) for _ in range(2)]
        keeper.kept += [_views(), layer(paddle.ones([13, 3]))]
        HELD["tensors"].append(paddle.zeros([17, 3, 5]))
        items = live.snapshot()
    del HELD["tensors"]
    return {item.kind.shape: item for item in items}


def test_tensors_that_live_on_are_named_with_place_and_holder(found: dict[tuple[int, ...], LivingOn]) -> None:
    item = found[1237, 5]
    assert (item.kind.type, item.kind.dtype, item.counts) == ("Tensor", "float32", (2, 4, 6, 8))
    assert "test_live_tensors.py:" in item.kind.made_at
    assert item.held_by == f"list of 16 <- attribute 'kept' of {__name__}.Keeper"
    assert item.grown_mb == pytest.approx(6 * 1237 * 5 * 4 / 2**20)
    assert not item.keeps_graph
    assert "Tensor [1237, 5] float32: 2 -> 4 -> 6 -> 8 alive" in item.line()
    assert item.to_dict()["kind"]["shape"] == (1237, 5)


def test_arrays_count_once_whatever_views_there_are(found: dict[tuple[int, ...], LivingOn]) -> None:
    assert (found[31, 7].kind.type, found[31, 7].counts) == ("ndarray", (1, 2, 3, 4))


def test_a_kept_result_is_said_to_keep_its_graph(found: dict[tuple[int, ...], LivingOn]) -> None:
    assert found[13, 11].keeps_graph
    assert "keeps its graph" in found[13, 11].line()


def test_a_module_variable_is_named(found: dict[tuple[int, ...], LivingOn]) -> None:
    assert found[17, 3, 5].held_by == f"list of {SNAPSHOTS} <- dict of 1 <- {__name__}.HELD"


def test_nothing_is_named_when_old_ones_are_replaced(live: LiveTensors) -> None:
    keeper = Keeper()
    for _ in range(SNAPSHOTS + 1):
        keeper.kept = [paddle.zeros([1237, 7]) for _ in range(4)]
        assert not [item for item in live.snapshot() if item.kind.shape == (1237, 7)]
