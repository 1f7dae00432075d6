from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.measure.fresh_process import peak_mib, reset_peak, run_fresh

HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({path!r}, "w").write(str(child.pid))
time.sleep(600)
"""


def _running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.is_file() and "State:\tZ" not in status.read_text()


def test_a_process_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text(HANGS.format(path=str(tmp_path / "pid")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckFailed, match=r"the torch option gave no answer within 5 s .*ended.*more time"):
        run_fresh("hangs", {}, threads=1, what="the torch option", timeout_seconds=5)
    child, end = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while _running(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _running(child)


def test_another_interpreter_is_used_when_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "says.py").write_text('import json, sys\nprint("MEASURED " + json.dumps({"python": sys.argv[0]}))')
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho used > {tmp_path / "used"}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run_fresh("says", {}, threads=1, what="it", timeout_seconds=60, python=str(python))
    assert (tmp_path / "used").is_file()
    with pytest.raises(BadInput, match="nowhere/python cannot be started: No such file"):
        run_fresh("says", {}, threads=1, what="it", timeout_seconds=60, python="nowhere/python")


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system keeps the peak")
def test_the_peak_forgets_what_was_freed_when_it_is_reset() -> None:
    block = np.ones(2**25)  # 256 MiB
    high = peak_mib()
    del block
    assert reset_peak()
    assert peak_mib() < high - 200
