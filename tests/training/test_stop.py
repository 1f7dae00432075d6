from __future__ import annotations

import os
import signal

import pytest

from paddle_tk.training import stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_once_even_when_delivered_twice(number: signal.Signals) -> None:
    asked: list[int] = []
    with stop.stop_on_signal(asked.append):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert asked == [number]


def test_second_signal_ends_at_once_when_it_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stop.time, "monotonic", lambda: now[0])

    def signals() -> None:
        with stop.stop_on_signal(lambda number: None):
            os.kill(os.getpid(), signal.SIGINT)
            now[0] = 5.0
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        signals()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop.stop_on_signal(lambda number: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
