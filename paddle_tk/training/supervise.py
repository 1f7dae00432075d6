"""Runs a training in a child process and restarts it from its last checkpoint when it crashes.

A child process, because what kills a training (a segmentation fault, the kernel's out-of-memory killer) leaves no
Python exception to catch. Imports no framework.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from paddle_tk.console import Output
from paddle_tk.training.batch_choice import AGAIN_CODE

# Done, refused by a check, bad input, stopped by Ctrl-C or SIGTERM: to try again would change nothing.
FINAL_CODES = frozenset({0, 1, 2, 130, 143})
_PR_SET_PDEATHSIG = 1


def supervise(
    command: Sequence[str],
    *,
    max_retries: int,
    retry_delay: float,
    output: Output,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Runs ``command`` until it ends well, ends for good, or has crashed ``max_retries`` times more.

    Args:
        command: The training command; it must resume by itself.
        max_retries: Restarts after the first attempt.
        retry_delay: Seconds before the first restart; doubled for each further one.
        output: Where crashes are told.
        sleep: Replaced in tests.

    Returns:
        The exit code of the last attempt; 70 where a signal killed it.
    """
    asked_to_stop: list[int] = []
    for attempt in range(max_retries + 1):
        code = _run_settled(command, asked_to_stop)
        if code in FINAL_CODES or asked_to_stop:
            return code if code >= 0 else 128 - code
        reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"crashed (exit code {code})"
        if attempt == max_retries:
            output.warn(f"training {reason}; gave up after {max_retries} restart(s) (trainer.max_retries)")
            return code if code > 0 else 70
        delay = retry_delay * 2**attempt
        output.warn(f"training {reason}; restart {attempt + 1} of {max_retries} in {delay:g} s")
        sleep(delay)
    raise AssertionError("unreachable: the last attempt returns")


def _run_settled(command: Sequence[str], asked_to_stop: list[int]) -> int:
    """Runs the command, and again at once where it has noted a smaller batch, which it does once."""
    code = AGAIN_CODE
    while code == AGAIN_CODE and not asked_to_stop:
        child = subprocess.Popen(list(command), env=child_environment())
        with forwarded_signals([child], asked_to_stop):
            code = child.wait()
    return code


def child_environment() -> dict[str, str]:
    """Returns the variables of a training process that this one watches."""
    # The package may be used from a checkout without being installed.
    places = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(p for p in places if p)
    return {**os.environ, "PADDLE_TK_PARENT": str(os.getpid()), "PYTHONPATH": path}


@contextmanager
def forwarded_signals(children: Sequence[subprocess.Popen[bytes]], asked_to_stop: list[int]) -> Iterator[None]:
    """Hands SIGINT and SIGTERM on to the children within the block, and notes them in ``asked_to_stop``."""

    def forward(number: int, frame: FrameType | None) -> None:
        asked_to_stop.append(number)
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_parent() -> None:
    """Makes the kernel kill this process when its supervisor is killed: a run must never be trained in twice."""
    parent = os.environ.get("PADDLE_TK_PARENT")
    if parent is None:
        return
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)
