"""Kills one process of a training job with SIGKILL: does the job end, with a message, and go on from the same step?

    python benchmarks/lost_process.py [--launchers own paddle]

The job of two processes is started by ``trainer.devices=2`` and by ``python -m paddle.distributed.launch``. After the
kill the run is copied and resumed with 1, 2 and 3 processes, each to the end; the steps of their histories and their
final weights are compared. The network has no batch norm and no dropout, so all of them compute the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Claim, finish, parser
from paddle_tk.environment.ranks import RANK
from paddle_tk.training.callbacks.history import read_history

SETTINGS = (
    "model=lenet", "data=digits", "data.image_size=28", "data.num_workers=0", "trainer.max_epochs=2",
    "trainer.save_every_n_steps=1", "trainer.log_every_n_steps=1", "trainer.keep_last=50", "trainer.optimizer=sgd",
    "trainer.learning_rate=0.01", "trainer.warmup_epochs=0", "trainer.loggers=[]",
)  # fmt: skip
BATCH, PROCESSES, KILL_AFTER_UPDATES = 30, 2, 6
END_WITHIN_SECONDS, EQUAL = 30.0, 1e-5
PADDLE = ("-m", "paddle.distributed.launch", "--nproc_per_node", str(PROCESSES), "--log_dir")


def _command(launcher: str, folder: Path, processes: int, *more: str) -> list[str]:
    head = [sys.executable]
    settings = [*SETTINGS, f"data.batch_size={BATCH}", "--run-dir", str(folder), *more]
    if launcher == "own":
        return [*head, "tools/train.py", *settings, f"trainer.devices={processes}"]
    return [*head, *PADDLE, str(folder.parent / "log"), "tools/train.py", *settings, "trainer.accelerator=cpu"]


def _updates(folder: Path) -> int:
    return max((r["step"] for r in read_history(folder / "history.jsonl")), default=0)


def _pid_of_rank(rank: int, job: int) -> int:
    for process in psutil.Process(job).children(recursive=True):
        try:
            if process.environ().get(RANK) == str(rank) and "launch" not in process.cmdline():
                return int(process.pid)
        except psutil.Error:
            continue
    raise RuntimeError(f"no process of rank {rank} was found")


def _kill(launcher: str, folder: Path) -> tuple[float, int, str]:
    """Returns seconds from the kill to the job's end, its exit code, and what it said."""
    command = _command(launcher, folder, PROCESSES)
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while _updates(folder) < KILL_AFTER_UPDATES:
        if job.poll() is not None:
            raise RuntimeError(job.communicate()[0])
        time.sleep(0.01)
    os.kill(_pid_of_rank(1, job.pid), signal.SIGKILL)
    began = time.monotonic()
    try:
        said = job.communicate(timeout=10 * END_WITHIN_SECONDS)[0]
    except subprocess.TimeoutExpired:
        job.kill()
        said = "did not end"
    return time.monotonic() - began, int(job.returncode or 0), said


def _clear(launcher: str, folder: Path, said: str) -> bool:
    """Whether a line tells the user that a process is gone and how to go on."""
    logs = "".join(log.read_text(errors="replace") for log in folder.parent.glob("log/workerlog.*"))
    return bool(re.search(r"(process|rank).*\n?.*--resume", said + (logs if launcher == "paddle" else "")))


def _resume(folder: Path, processes: int) -> tuple[int, list[int]]:
    """Resumes to the end; returns the step of the checkpoint it went on from and the steps of the history."""
    command = _command("own", folder, processes, "--resume", str(folder))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    found = re.search(r"resumed from epoch-(\d+)-step-(\d+)", done.stdout)
    if found is None:
        raise RuntimeError(f"no resume: {done.stdout}")
    steps = [r["step"] for r in read_history(folder / "history.jsonl") if r["kind"] == "step"]
    return int(found[2]), steps


def _measure(launcher: str, base: Path) -> tuple[list[Claim], dict[str, list[float]]]:
    folder = base / "run"
    seconds, code, said = _kill(launcher, folder)
    told = _clear(launcher, folder, said)
    print(f"{launcher}: ended {seconds:.1f} s after the kill, exit code {code}: {said.strip().splitlines()[-1][:160]}")
    newest = max(int(p.name.rsplit("-", 1)[1]) for p in (folder / "checkpoints").glob("epoch-0000-step-*"))
    wrong, weights, final = 0, [], []
    for processes in (1, 2, 3):
        copy = base / f"resumed-{processes}"
        shutil.copytree(folder, copy)
        at, steps = _resume(copy, processes)
        wrong += at != newest or steps != list(range(1, len(steps) + 1))
        weights.append(load_file(copy / "model" / "model.safetensors"))
        final.append(json.loads((copy / "result.json").read_text())["final"]["top1"])
        print(
            f"  {processes} process(es): resumed at step {at} of {newest}, {len(steps)} updates, top-1 {final[-1]:.4f}"
        )
    apart = max(float(abs(w[k] - weights[1][k]).max()) for w in weights for k in w)
    name = f"lost_process ({launcher})"
    return [
        Claim(f"{name}, kill to the job's end", seconds, "s", END_WITHIN_SECONDS),
        Claim(f"{name}, exit code", float(code != 0), "not 0", 1.0, at_most=False),
        Claim(f"{name}, clear message", float(told), "said", 1.0, at_most=False),
        Claim(f"{name}, resumes at another step or with a gap", float(wrong), "resumes", 0.0),
        Claim(f"{name}, weights after 1, 2 and 3 processes", apart, "absolute", EQUAL),
    ], {f"{launcher} seconds": [seconds], f"{launcher} top1": final}


def main() -> int:
    """Kills and compares."""
    arguments = parser(__doc__ or "", "lost_process")
    arguments.add_argument("--launchers", nargs="+", choices=("own", "paddle"), default=["own", "paddle"])
    given = arguments.parse_args()
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for launcher in given.launchers:
        with tempfile.TemporaryDirectory(prefix="lost_process-") as base:
            found, figures = _measure(launcher, Path(base))
        claims += found
        samples |= figures
    return finish(claims, samples, given.json, {"settings": list(SETTINGS)})


if __name__ == "__main__":
    sys.exit(main())
