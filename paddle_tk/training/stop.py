"""Ctrl-C and SIGTERM: the first asks the training to save and end, a second one ends it at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_KEYPRESS_SECONDS = 1.0


@contextmanager
def stop_on_signal(ask: Callable[[int], None]) -> Iterator[None]:
    """Calls ``ask(signal number)`` at the first SIGINT or SIGTERM within the block.

    A second signal more than a second later raises KeyboardInterrupt; one within that second is the same key press,
    delivered by the terminal and by a parent process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            ask(number)
        elif now - first[0] > _SAME_KEYPRESS_SECONDS:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
