"""A job in a Python process of its own: handed over as JSON, answered by one line of JSON, failures told as usual."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import paddle_tk
from paddle_tk.errors import ArtifactError, BadInput, CheckFailed, PaddleTkError

_ANSWER = "MEASURED "
_KIB_PER_MIB = 1024
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # Linux documentation, filesystems/proc: sets VmHWM back to what is resident now


def run_fresh(
    module: str,
    job: Mapping[str, Any],
    *,
    threads: int,
    what: str,
    timeout_seconds: float,
    python: str | None = None,
    link: socket.socket | None = None,
) -> Any:
    """Runs a module that calls ``answer`` in a fresh process.

    Args:
        module: Its name, as for ``python -m``.
        job: Of JSON types.
        threads: CPU threads of the libraries that read them from the environment, whatever this process runs with.
        what: What is measured, for messages.
        timeout_seconds: After which the process is ended, and with it all that it has started.
        python: The interpreter; None: this one.
        link: Its end of a connection, which it finds under the same number; closed here once the process has it.

    Returns:
        What the module answered.

    Raises:
        BadInput, ArtifactError, CheckFailed: What the job raised.
        BadInput: The interpreter cannot be started.
        CheckFailed: The process ended without an answer.
    """
    above = str(Path(paddle_tk.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (above, os.environ.get("PYTHONPATH"))))}
    environment.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    try:
        done = _run([python or sys.executable, "-m", module], json.dumps(job), environment, timeout_seconds, link)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(
            f"{what} gave no answer within {timeout_seconds:.0f} s in a process of its own, which was ended",
            "use a smaller model, or allow more time",
        ) from error
    except OSError as error:
        raise BadInput(f"{python or sys.executable} cannot be started: {error.strerror}", "name a Python") from error
    for line in done.stdout.splitlines():
        if line.startswith(_ANSWER):
            return _answered(json.loads(line.removeprefix(_ANSWER)))
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise CheckFailed(f"{what} could not be measured in a process of its own: {ended}, {said}", "try another engine")


def _run(
    command: list[str],
    text: str,
    environment: Mapping[str, str],
    timeout_seconds: float,
    link: socket.socket | None,
) -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE
    # A session of its own, so that loaders and launchers that it starts can be ended with it.
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment), text=True, errors="replace",
        start_new_session=True, pass_fds=() if link is None else (link.fileno(),),
    )  # fmt: skip
    if link is not None:
        link.close()
    try:
        out, err = process.communicate(text, timeout=timeout_seconds)
    except BaseException:  # also where the user stops the parent, whose signal does not reach another session
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def answer(measure: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> int:
    """Reads the job from the standard input, measures, writes the answer; returns the exit code."""
    job = json.load(sys.stdin)
    found: Mapping[str, Any]
    try:
        found = measure(job)
    except PaddleTkError as error:
        found = {"kind": type(error).__name__, "problem": error.problem, "fix": error.fix}
    print(_ANSWER + json.dumps(found), flush=True)
    return 0


def peak_mib() -> float:
    """Returns the largest resident memory that this process has had, in MiB.

    Raises:
        CheckFailed: The system does not tell.
    """
    # Not ru_maxrss, which begins with what the parent had when it forked.
    for line in _STATUS.read_text(encoding="utf-8").splitlines() if _STATUS.is_file() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / _KIB_PER_MIB
    raise CheckFailed(f"the peak memory is read from {_STATUS}, which is not there", "measure on Linux")


def reset_peak() -> bool:
    """Lets ``peak_mib`` forget what was resident before; returns whether the system allows that."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _answered(found: dict[str, Any]) -> dict[str, Any]:
    if "problem" in found:
        kind = {"ArtifactError": ArtifactError, "BadInput": BadInput}.get(found["kind"], CheckFailed)
        raise kind(found["problem"], found["fix"])
    return found
