from __future__ import annotations

import paddle
import pytest

from paddle_tk.environment.memory_limits import process_memory
from paddle_tk.training.process_memory import allocator_mb, host_mb, readers, room_mb


def test_host_memory_is_that_of_the_whole_process() -> None:
    assert host_mb() == pytest.approx(process_memory()["resident"], rel=0.05)


def test_allocator_counts_a_tensor_by_its_bytes() -> None:
    before = allocator_mb()
    kept = paddle.zeros([3 * 2**18])
    assert allocator_mb() - before == pytest.approx(3, abs=0.01)
    del kept
    assert allocator_mb() == pytest.approx(before, abs=0.01)


def test_what_is_read_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(readers("cpu")) == {"host", "allocator"}
    monkeypatch.setattr(paddle.device.cuda, "memory_allocated", {"gpu:1": 5 * 2**20}.__getitem__)
    assert readers("gpu:1")["gpu"]() == 5.0


def test_room_is_positive_on_the_host_and_unknown_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    room = room_mb("host", "cpu")
    assert room is not None
    assert room > 0
    monkeypatch.setenv("PATH", "")
    assert room_mb("gpu", "gpu:0") is None
