from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddle_tk.commands.monitor import main
from paddle_tk.training.loggers.visualdl_sink import VisualDLSink

MONITOR = Path(__file__).resolve().parents[2] / "tools" / "monitor.py"


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def started(root: Path) -> tuple[subprocess.Popen[str], int, str]:
    """Starts the monitor on any free port; returns it, the port, and what it said up to its address."""
    command = [sys.executable, str(MONITOR), "--port", "0", "--runs", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
            return process, int(found[1]), said
    raise AssertionError(said)


def test_monitor_exits_2_when_folder_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none is not a folder" in error


def test_monitor_exits_2_and_warns_when_given_port_is_busy_on_an_open_host(
    busy_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--runs", str(tmp_path), "--port", str(busy_port)]) == 2
    first = capsys.readouterr().err
    assert first.count("\n") == 1
    assert f"port {busy_port} on 127.0.0.1 is in use" in first

    assert main(["--runs", str(tmp_path), "--port", str(busy_port), "--host", "0.0.0.0"]) == 2
    assert "warning: 0.0.0.0 is reachable from the network" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--port", "many"], ["--port", "99999"], ["--host", "no.such.host.invalid"]])
def test_monitor_exits_2_when_address_makes_no_sense(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--runs", str(tmp_path), *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_monitor_ends_the_server_and_exits_0_when_stopped(number: signal.Signals, tmp_path: Path) -> None:
    sink = VisualDLSink(tmp_path / "digits" / "vdl", name="digits", config={}, replay=[])
    sink.scalars({"train/loss": 1.0}, 1)
    sink.close()
    process, port, said = started(tmp_path)
    assert "1 run(s)" in said
    assert "digits/vdl" in said
    assert listening(port)

    process.send_signal(number)

    assert process.wait(20) == 0
    assert not listening(port)


def test_monitor_leaves_no_server_behind_when_killed(tmp_path: Path) -> None:
    process, port, said = started(tmp_path)
    assert "no run under" in said
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while listening(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not listening(port)
