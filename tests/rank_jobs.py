"""Starts jobs of several training processes and waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddle_tk.environment.ranks import free_endpoints, rank_environment

ROOT = Path(__file__).resolve().parents[1]
WORKER = "tests.rank_worker"


@dataclass(frozen=True)
class Ended:
    """How one process ended.

    Attributes:
        code: Exit code.
        output: What it said, on both streams.
    """

    code: int
    output: str


def start_job(processes: int, arguments: Sequence[str], module: str = WORKER) -> list[subprocess.Popen[str]]:
    """Starts the processes of a job, each with the same arguments; one alone is no job."""
    endpoints = free_endpoints(processes)
    threads = {"OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **threads, **(rank_environment(rank, endpoints, 1) if processes > 1 else {})},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip


def finish(job: Sequence[subprocess.Popen[str]], seconds: float = 120) -> list[Ended]:
    """Waits for the processes of a job; ends those that do not end by themselves."""
    try:
        said = [process.communicate(timeout=seconds)[0] for process in job]
    finally:
        for process in job:
            process.kill()
    return [Ended(process.returncode, output) for process, output in zip(job, said, strict=True)]


def run_job(processes: int, arguments: Sequence[str], module: str = WORKER) -> list[Ended]:
    """Starts a job and waits for it."""
    return finish(start_job(processes, arguments, module))
