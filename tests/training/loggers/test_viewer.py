from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.training.loggers import viewer as module
from paddle_tk.training.loggers.viewer import Viewer, choose_port, is_loopback, runs_under
from paddle_tk.training.loggers.visualdl_records import record_files
from paddle_tk.training.loggers.visualdl_sink import VisualDLSink

RECORDS = [{"kind": "step", "epoch": 1, "step": n, "loss": float(n)} for n in range(1, 7)]


def log(folder: Path, first: int, last: int) -> None:
    sink = VisualDLSink(folder, name="run", config={}, replay=RECORDS[: first - 1])
    for step in range(first, last + 1):
        sink.scalars({"train/loss": float(step)}, step)
    sink.close()


def steps(viewer: Viewer, run: str) -> list[int]:
    query = urllib.parse.urlencode({"run": run, "tag": "train/loss"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(viewer.url.replace("/index", f"/api/scalar/list?{query}"), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    assert found["status"] == 0, found
    return [step for _, step, _ in found["data"]]


def test_viewer_serves_every_run_when_one_was_killed_and_one_is_resumed(tmp_path: Path) -> None:
    log(tmp_path / "whole" / "vdl", 1, 4)
    log(tmp_path / "killed" / "vdl", 1, 4)
    torn = record_files(tmp_path / "killed" / "vdl")[-1]
    os.truncate(torn, torn.stat().st_size - 3)
    viewer = Viewer(tmp_path, "127.0.0.1", choose_port("127.0.0.1", 0))
    viewer.start()
    try:
        assert steps(viewer, "./whole/vdl") == [1, 2, 3, 4]
        assert steps(viewer, "./killed/vdl") == [1, 2, 3]
        assert viewer.refresh() is False

        log(tmp_path / "killed" / "vdl", 3, 6)

        assert viewer.refresh() is True
        assert steps(viewer, "./killed/vdl") == [1, 2, 3, 4, 5, 6]
    finally:
        viewer.stop()
    assert choose_port("127.0.0.1", viewer.port) == viewer.port  # it is free again


def test_viewer_serves_new_steps_when_run_goes_on(tmp_path: Path) -> None:
    sink = VisualDLSink(tmp_path / "run" / "vdl", name="run", config={}, replay=[])
    sink.scalars({"train/loss": 1.0}, 1)
    viewer = Viewer(tmp_path, "127.0.0.1", choose_port("127.0.0.1", 0))
    viewer.start()
    try:
        assert steps(viewer, "./run/vdl") == [1]
        sink.scalars({"train/loss": 0.5}, 2)
        deadline = time.monotonic() + 30
        while (shown := steps(viewer, "./run/vdl")) != [1, 2] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert shown == [1, 2]
        assert viewer.refresh() is False
    finally:
        viewer.stop()
        sink.close()


def test_viewer_says_port_in_use_when_it_was_taken_in_the_meantime(tmp_path: Path, busy_port: int) -> None:
    viewer = Viewer(tmp_path, "127.0.0.1", busy_port)
    with pytest.raises(BadInput, match=f"port {busy_port} on 127.0.0.1 is in use"):
        viewer.start()
    viewer.stop()


def test_choose_port_takes_the_next_when_the_default_is_busy(busy_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_PORT", busy_port)
    assert busy_port < choose_port("127.0.0.1", None) < busy_port + 50


def test_choose_port_raises_when_the_given_one_cannot_be_had(busy_port: int) -> None:
    with pytest.raises(BadInput, match=f"port {busy_port} .*in use"):
        choose_port("127.0.0.1", busy_port)
    with pytest.raises(BadInput, match="out of range"):
        choose_port("127.0.0.1", 70000)


def test_choose_port_finds_a_free_one_when_zero_is_given() -> None:
    assert choose_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.168.1.4", False),
     ("example.org", False)],
)  # fmt: skip
def test_is_loopback_holds_only_when_no_other_machine_can_connect(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_runs_under_names_folders_when_some_hold_records(tmp_path: Path) -> None:
    log(tmp_path / "a" / "vdl", 1, 1)
    (tmp_path / "b").mkdir()
    assert list(runs_under(tmp_path)) == ["a/vdl"]
    assert list(runs_under(tmp_path / "a")) == ["vdl"]
