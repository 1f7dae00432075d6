"""Starts the processes of one job on this machine and watches them: where one dies, the job ends.

The processes meet in every step, so one that is gone would leave the others waiting. Imports no framework.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from paddle_tk.console import Output
from paddle_tk.environment.ranks import free_endpoints, rank_environment
from paddle_tk.errors import LostProcess
from paddle_tk.training.batch_choice import AGAIN_CODE
from paddle_tk.training.supervise import FINAL_CODES, child_environment, forwarded_signals

LOGS = "logs"
# For the others to see that one is gone and to say so; then they are ended.
_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.05
_CRASH = 70
_TAIL_LINES = 5


def run_job(
    command: Sequence[str],
    processes: int,
    folder: Path,
    *,
    threads: int | None,
    output: Output,
    grace_seconds: float = _GRACE_SECONDS,
) -> int:
    """Runs ``command`` in several processes until all have ended.

    The first process writes and talks; what the others say goes to ``logs/rank-N.log`` in the run folder.

    Args:
        command: The training command of one process.
        processes: How many.
        folder: The run folder.
        threads: CPU threads of each process; None: leave what is set.
        output: Where a lost process is told.
        grace_seconds: From the failure of one process until the others are ended by force.

    Returns:
        The exit code of the process that failed first, 0 where none did; 70 where a signal killed it.
    """
    asked_to_stop: list[int] = []
    code = AGAIN_CODE  # said by a process that has noted a smaller batch, which it does once
    while code == AGAIN_CODE and not asked_to_stop:
        code = _attempt(command, processes, folder, threads, output, grace_seconds, asked_to_stop)
    return code


def _attempt(
    command: Sequence[str],
    processes: int,
    folder: Path,
    threads: int | None,
    output: Output,
    grace_seconds: float,
    asked_to_stop: list[int],
) -> int:
    endpoints = free_endpoints(processes)
    children: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for rank in range(processes):
            said = stack.enter_context(_log(folder, rank).open("wb")) if rank else None
            environment = {**child_environment(), **rank_environment(rank, endpoints, threads)}
            quiet = ["--quiet"] if rank else []
            child = subprocess.Popen([*command, *quiet], env=environment, stdout=said, stderr=said)
            stack.callback(_end, child)
            children.append(child)
        with forwarded_signals(children, asked_to_stop):
            first = _watch(children, grace_seconds)
    return 0 if first is None else _told(first, children, folder, output)


def _log(folder: Path, rank: int) -> Path:
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    return folder / LOGS / f"rank-{rank}.log"


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()


def _watch(children: Sequence[subprocess.Popen[bytes]], grace_seconds: float) -> int | None:
    """Waits for all; returns the rank that failed first and is not just the victim of another, None where none did."""
    failed: list[int] = []
    deadline = float("inf")
    running = True
    while running and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        codes = [child.poll() for child in children]  # of all: what is not polled is not known to have ended
        running = None in codes
        new = [rank for rank, code in enumerate(codes) if code and rank not in failed]
        if new and not failed:
            deadline = time.monotonic() + grace_seconds
        failed += new
    causes = [r for r in failed if children[r].returncode != LostProcess.exit_code]
    return next(iter(causes or failed), None)


def _told(rank: int, children: Sequence[subprocess.Popen[bytes]], folder: Path, output: Output) -> int:
    code = int(children[rank].returncode)
    which = f"process {rank + 1} of {len(children)} (rank {rank}, pid {children[rank].pid})"
    if code in FINAL_CODES or code == AGAIN_CODE:
        if rank and children[0].returncode != code:
            output.errors.print(_tail(_log(folder, rank)))
        return code
    reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"crashed (exit code {code})"
    if code > 0 and rank:
        output.errors.print(_tail(_log(folder, rank)))
    output.errors.print(
        f"error: {which} {reason}; the job has ended, its other processes with it. "
        f"Fix: go on from the last checkpoint with: python tools/train.py --resume {folder}",
        style="red",
    )
    return code if code > 0 else _CRASH


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
