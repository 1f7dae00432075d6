"""The clock of every figure about speed: one call timed again and again."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

_STILL_SECONDS = 0.01  # looked at
_STILL_SHARE = 0.2  # of a core's time
_LONGEST_SECONDS = 0.5


def sample_ms(call: Callable[[], object], *, repeats: int, warmup: int) -> list[float]:
    """Times a call.

    Args:
        call: What is timed.
        repeats: Timed calls, at least 1.
        warmup: Calls before them, which are not counted.

    Returns:
        Milliseconds of each timed call. Python's garbage collector stands still meanwhile.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"expected repeats >= 1 and warmup >= 0, got {repeats} and {warmup}")
    for _ in range(warmup):
        call()
    samples = []
    collected = gc.isenabled()
    gc.disable()
    try:
        for _ in range(repeats):
            began = time.perf_counter()
            call()
            samples.append(1e3 * (time.perf_counter() - began))
    finally:
        if collected:
            gc.enable()
    return samples


def turn_sizes(samples: int, turns: int) -> list[int]:
    """Divides a series of samples into turns, as equal as can be, each of at least one sample."""
    count = max(1, min(turns, samples))
    return [samples * (place + 1) // count - samples * place // count for place in range(count)]


def wait_until_still() -> None:
    """Waits, half a second at most, until no thread of this process computes.

    Worker threads of a library go on spinning for a while after a call (Intel's OpenMP 200 ms, ONNX Runtime's about
    50), on cores that whoever is timed next needs.
    """
    end = time.perf_counter() + _LONGEST_SECONDS
    while time.perf_counter() < end:
        used, began = time.process_time(), time.perf_counter()
        time.sleep(_STILL_SECONDS)
        if time.process_time() - used < _STILL_SHARE * (time.perf_counter() - began):
            return
