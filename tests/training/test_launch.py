from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from paddle_tk.console import Output
from paddle_tk.environment.ranks import Rank, own_rank
from paddle_tk.training.batch_choice import AGAIN_CODE
from paddle_tk.training.launch import LOGS, run_job

WHO = "import os, pathlib, sys, time; rank = int(os.environ['PADDLE_TRAINER_ID']); place = pathlib.Path(sys.argv[1]); "


def _job(code: str, folder: Path, processes: int = 3, grace: float = 1.0, threads: int | None = None) -> int:
    command = [sys.executable, "-c", WHO + code, str(folder)]
    return run_job(command, processes, folder, threads=threads, output=Output(), grace_seconds=grace)


def test_job_gives_every_process_its_place_when_it_starts(tmp_path: Path) -> None:
    code = "(place / f'env-{rank}').write_text('\\n'.join(f'{k}={v}' for k, v in os.environ.items()))"
    assert _job(code, tmp_path, threads=1) == 0
    found = []
    for rank in range(3):
        lines = (tmp_path / f"env-{rank}").read_text().splitlines()
        environment = dict(line.split("=", 1) for line in lines if "=" in line)
        assert environment["OMP_NUM_THREADS"] == "1"
        assert len(set(environment["PADDLE_TRAINER_ENDPOINTS"].split(","))) == 3
        found.append(own_rank(environment))
    assert found == [Rank(rank, 3, rank, 3) for rank in range(3)]


def test_job_ends_all_and_says_so_when_one_process_is_killed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    code = _job("time.sleep(0.2); rank == 1 and os.kill(os.getpid(), 9); time.sleep(600)", tmp_path)
    assert code == 70
    assert time.monotonic() - began < 60
    said = capfd.readouterr().err
    assert "process 2 of 3 (rank 1" in said
    assert "was killed by SIGKILL" in said
    assert f"--resume {tmp_path}" in said
    assert said.count("\n") == 1


def test_job_names_the_cause_when_the_others_only_lost_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "rank == 2 and (print('error: no room', file=sys.stderr), sys.exit(1)); time.sleep(0.3); sys.exit(70)"
    assert _job(code, tmp_path) == 1
    assert capfd.readouterr().err.strip() == "error: no room"


def test_job_shows_the_last_lines_of_a_process_when_it_crashes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _job("rank == 1 and sys.exit('first\\nboom') or time.sleep(600)", tmp_path, processes=2) == 1
    assert "boom" in capfd.readouterr().err
    assert (tmp_path / LOGS / "rank-1.log").read_text().splitlines() == ["first", "boom"]


def test_job_starts_anew_when_a_process_asks_for_it(tmp_path: Path) -> None:
    code = f"was = place / 'was'; first = not was.exists(); was.touch(); first and sys.exit({AGAIN_CODE})"
    assert _job(code, tmp_path, processes=1) == 0
    assert (tmp_path / "was").exists()


def test_job_hands_signals_on_and_returns_what_they_end_with(tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, lambda n, f: sys.exit(143)); "
    code += "(place / f'up-{rank}').touch(); time.sleep(60)"

    def stop() -> None:
        while not all((tmp_path / f"up-{rank}").exists() for rank in range(2)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert _job(code, tmp_path, processes=2) == 143
