from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddle_tk.console import Output
from paddle_tk.training.supervise import supervise

COUNT = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); n = int(p.read_text() or 0) if p.exists() else 0; "
COUNT += "p.write_text(str(n + 1)); "


def _supervise(code: str, counter: Path, retries: int = 3) -> tuple[int, list[float]]:
    waited: list[float] = []
    command = [sys.executable, "-c", COUNT + code, str(counter)]
    result = supervise(command, max_retries=retries, retry_delay=2.0, output=Output(quiet=True), sleep=waited.append)
    return result, waited


def test_supervise_restarts_with_growing_delay_until_it_works(tmp_path: Path) -> None:
    code, waited = _supervise("sys.exit(0 if n == 2 else 70)", tmp_path / "n")
    assert (code, waited) == (0, [2.0, 4.0])


def test_supervise_restarts_when_the_child_is_killed_by_a_signal(tmp_path: Path) -> None:
    code, waited = _supervise("import os; n or os.kill(os.getpid(), 11)", tmp_path / "n")
    assert (code, len(waited)) == (0, 1)


def test_supervise_gives_up_after_max_retries(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, waited = _supervise("sys.exit(70)", tmp_path / "n", retries=2)
    assert (code, len(waited)) == (70, 2)
    assert "gave up after 2 restart(s)" in capfd.readouterr().err


@pytest.mark.parametrize("final", [1, 2])
def test_supervise_does_not_restart_when_the_child_said_why(final: int, tmp_path: Path) -> None:
    assert _supervise(f"sys.exit({final})", tmp_path / "n") == (final, [])


_PARENT = """
import sys
from paddle_tk.console import Output
from paddle_tk.training.supervise import supervise
child = '''
import os, sys, time
from paddle_tk.training.supervise import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
'''
sys.exit(supervise([sys.executable, "-c", child], max_retries=3, retry_delay=0, output=Output()))
"""


def _start() -> tuple[subprocess.Popen[str], int]:
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if status == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal is Linux's")
def test_child_dies_with_its_supervisor_when_that_is_killed() -> None:
    parent, child = _start()
    parent.kill()
    parent.wait()
    assert _gone(child)


def test_supervise_forwards_sigterm_and_does_not_restart() -> None:
    parent, child = _start()
    os.kill(parent.pid, signal.SIGTERM)
    assert parent.wait(timeout=20) == 128 + signal.SIGTERM
    assert _gone(child)
