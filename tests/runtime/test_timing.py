from __future__ import annotations

import gc
import threading
import time

import pytest

from paddle_tk.runtime.timing import sample_ms, turn_sizes, wait_until_still


def test_samples_are_one_per_repeat_and_collection_goes_on_afterwards_when_the_call_fails_or_not() -> None:
    calls = []
    samples = sample_ms(lambda: calls.append(gc.isenabled()), repeats=4, warmup=2)
    assert len(samples) == 4
    assert min(samples) >= 0
    assert calls == [True, True, False, False, False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        sample_ms(lambda: 1 / 0, repeats=1, warmup=0)
    assert gc.isenabled()


@pytest.mark.parametrize(("repeats", "warmup"), [(0, 1), (1, -1)])
def test_sampling_refuses_when_nothing_would_be_timed(repeats: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="repeats >= 1 and warmup >= 0"):
        sample_ms(lambda: None, repeats=repeats, warmup=warmup)


@pytest.mark.parametrize(
    ("samples", "turns", "expected"), [(16, 8, [2] * 8), (5, 3, [1, 2, 2]), (2, 8, [1, 1]), (4, 1, [4]), (0, 3, [0])]
)
def test_turn_sizes_share_the_samples_out(samples: int, turns: int, expected: list[int]) -> None:
    assert turn_sizes(samples, turns) == expected


def test_waiting_ends_when_the_last_thread_is_still() -> None:
    end = time.perf_counter() + 0.25

    def spin() -> None:
        while time.perf_counter() < end:
            pass

    busy = threading.Thread(target=spin)
    busy.start()
    wait_until_still()
    assert time.perf_counter() >= end - 0.05
    busy.join()
    began = time.process_time()
    wait_until_still()
    assert time.process_time() - began < 0.1


def test_waiting_has_an_end_when_a_thread_never_rests() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    busy = threading.Thread(target=spin)
    busy.start()
    try:
        wait_until_still()  # returns
    finally:
        stop.set()
        busy.join()
