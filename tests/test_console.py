from __future__ import annotations

import pytest

from paddle_tk import console
from paddle_tk.console import Output


def test_transfer_says_speed_and_time_left_now_and_then_when_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Output().transfer("file.bin") as shown:
        shown.expect(10_000_000, 1_000_000)
        for _ in range(4):
            now[0] += 10
            shown.advance(1_000_000)
    assert capsys.readouterr().out == "file.bin: 40 % of 10.0 MB, 100.0 kB/s, 60 s left\n"


def test_transfer_says_what_it_knows_when_the_size_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Output().transfer("file.bin") as shown:
        shown.expect(None, 0)
        now[0] = 40.0
        shown.advance(80_000)
    assert capsys.readouterr().out == "file.bin: 80.0 kB, 2.0 kB/s\n"


def test_transfer_says_nothing_when_it_is_told_to_be_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Output(quiet=True).transfer("file.bin") as shown:
        now[0] = 40.0
        shown.advance(80_000)
    assert capsys.readouterr().out == ""
