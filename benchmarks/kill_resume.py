"""Kills a training with SIGKILL at random moments, resumes it each time, and compares the final weights bit for bit.

Variants: SGD; AdamW with EMA, accumulation, clipping and mixup; a detector with mosaic, mixup and sizes that change
from batch to batch. Damage: the newest checkpoint truncated, one byte flipped, and
a kill in the middle of a checkpoint write. After every resume the run must go on from the newest checkpoint that was
good at that moment, and the history must hold every step once.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Claim, finish, parser
from paddle_tk.errors import ArtifactError
from paddle_tk.files import sha256_file
from paddle_tk.training.checkpoint import load_checkpoint, position

COMMON = (
    "trainer.max_epochs=3", "trainer.save_every_n_steps=4", "trainer.log_every_n_steps=1", "trainer.retry_delay=0",
    "trainer.keep_last=3",
)  # fmt: skip
# This network draws dropout masks, too.
CLASSIFIER = (*COMMON, "model=mobilenet_v3_small", "data=digits", "data.image_size=16")
# A start takes about three seconds, five for the detector, so most kills hit training, saving or evaluation and some
# the start itself.
LONGEST_SECONDS = 10.0
VARIANTS = {
    "sgd": (*CLASSIFIER, "trainer.optimizer=sgd"),
    "adamw_ema_accumulation": (
        *CLASSIFIER, "trainer.optimizer=adamw", "trainer.learning_rate=0.001", "trainer.ema_decay=0.99",
        "trainer.accumulate_grad_batches=3", "trainer.gradient_clip_val=1.0", "trainer.mixup_alpha=0.2",
    ),
    "detection": (
        *COMMON, "-c", str(ROOT / "configs" / "yolov10n.yaml"), "data.image_size=64", "data.batch_size=8",
        "data.mosaic=0.5", "data.mixup=0.5", "data.mosaic_off_epochs=1", "data.multi_scale=[1.0,1.5]",
        "trainer.limit_train_batches=14", "trainer.limit_val_batches=2",
    ),
}  # fmt: skip


@dataclass
class Report:
    """What happened to one run that was killed again and again.

    Attributes:
        kills: Kills that hit a living process.
        seconds_to_kill: When each hit, after the start of its process.
        wrong_resumes: Resumes from another place than the newest good checkpoint.
        repeated_steps: Steps that the final history holds more than once, or not at all.
        same: Whether the weights equal the uninterrupted run's.
    """

    kills: int = 0
    seconds_to_kill: list[float] = field(default_factory=list)
    wrong_resumes: list[str] = field(default_factory=list)
    repeated_steps: int = 0
    same: bool = False


def command(folder: Path, settings: Sequence[str]) -> list[str]:
    """Returns the command a user would type."""
    return [sys.executable, str(ROOT / "tools" / "train.py"), *settings, "--run-dir", str(folder), "--resume", "auto"]


def newest_good(folder: Path) -> tuple[int, int]:
    """Returns the position of the newest checkpoint that verifies; (0, 0) where there is none."""
    for path in sorted((folder / "checkpoints").glob("epoch-*"), key=position, reverse=True):
        try:
            load_checkpoint(path)
        except ArtifactError:
            continue
        return position(path)
    return 0, 0


def _start(folder: Path, settings: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ.copy()
    )


def _check_resume(report: Report, output: str, expected: tuple[int, int]) -> None:
    found = re.search(r"resumed from epoch-(\d+)-step-(\d+)", output)
    went_on = (int(found[1]), int(found[2])) if found else (0, 0)
    # A process killed before it loaded anything says nothing, which is no wrong resume.
    if (found and went_on != expected) or (not found and expected != (0, 0) and "epoch 1/" in output):
        report.wrong_resumes.append(f"expected {expected}, went on from {went_on}")


def kill_after(seconds: float) -> Callable[[Path], bool]:
    """Returns a moment: so many seconds after the start."""
    deadline = time.monotonic() + seconds
    return lambda folder: time.monotonic() >= deadline


def kill_in_write(folder: Path) -> bool:
    """A moment: a checkpoint is being written."""
    return any((folder / "checkpoints").glob(".tmp-epoch-*"))


def run_and_kill(folder: Path, settings: Sequence[str], moment: Callable[[Path], bool], report: Report) -> bool:
    """Starts or resumes the run and kills it at the moment; returns whether it was still running."""
    expected = newest_good(folder)
    began = time.monotonic()
    process = _start(folder, settings)
    while process.poll() is None and not moment(folder):
        time.sleep(0.002)
    alive = process.poll() is None
    process.kill()
    output = process.communicate()[0]
    _check_resume(report, output, expected)
    if alive:
        report.kills += 1
        report.seconds_to_kill.append(round(time.monotonic() - began, 3))
    return alive


def finish_run(folder: Path, settings: Sequence[str], report: Report | None = None) -> str:
    """Runs to the end and returns the SHA-256 of the weights.

    Raises:
        RuntimeError: The run failed.
    """
    expected = newest_good(folder)
    process = _start(folder, settings)
    output = process.communicate()[0]
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {output[-2000:]}")
    if report is not None:
        _check_resume(report, output, expected)
    return sha256_file(folder / "model" / "model.safetensors")


def count_repeated(folder: Path, whole: Path) -> int:
    """Returns how many step or epoch records differ from the uninterrupted run's, each being there once."""

    def keys(path: Path) -> list[tuple[str, int, float]]:
        records = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
        return [(r["kind"], r["step"], r["loss" if r["kind"] == "step" else "val_loss"]) for r in records]

    ours, theirs = keys(folder), keys(whole)
    return abs(len(ours) - len(theirs)) + sum(a != b for a, b in zip(ours, theirs, strict=False))


def damage_newest(folder: Path, kind: str) -> None:
    """Truncates or flips one byte of the newest checkpoint's weights."""
    newest = max((folder / "checkpoints").glob("epoch-*"), key=position)
    file = newest / "model.safetensors"
    payload = bytearray(file.read_bytes())
    if kind == "truncated":
        del payload[len(payload) // 2 :]
    else:
        payload[len(payload) // 3] ^= 0x10
    file.write_bytes(bytes(payload))


def random_kills(
    work: Path, name: str, settings: Sequence[str], kills: int, seed: int, whole: Path, sha256: str
) -> Report:
    """Kills at random moments, the later ones spread over start-up, training, saving and evaluation."""
    rng, report, folder = random.Random(seed), Report(), work / f"{name}-random"
    while report.kills < kills:
        # Longer than a start takes, mostly: a run that never gets to train would never end.
        alive = run_and_kill(folder, settings, kill_after(rng.uniform(1.0, LONGEST_SECONDS)), report)
        if not alive and (folder / "result.json").is_file():
            (folder / "result.json").unlink()  # finished before the last kills: they hit its closing phase
    report.same = finish_run(folder, settings, report) == sha256
    report.repeated_steps = count_repeated(folder, whole)
    return report


def damaged(work: Path, name: str, settings: Sequence[str], kind: str, whole: Path, sha256: str) -> Report:
    """Kills once in mid-run, damages the newest checkpoint (or has it torn by the kill), and finishes."""
    report, folder = Report(), work / f"{name}-{kind}"

    def three_checkpoints(run: Path) -> bool:
        return len(list((run / "checkpoints").glob("epoch-*"))) >= 3 and (kind != "torn write" or kill_in_write(run))

    run_and_kill(folder, settings, three_checkpoints, report)
    if kind != "torn write":
        damage_newest(folder, kind)
    report.same = finish_run(folder, settings, report) == sha256
    report.repeated_steps = count_repeated(folder, whole)
    return report


def run_variant(work: Path, name: str, settings: Sequence[str], kills: int, seed: int) -> dict[str, Report]:
    """Returns the reports of one variant: random kills and the three kinds of damage."""
    whole = work / f"{name}-whole"
    sha256 = finish_run(whole, settings)
    reports = {f"{name}, {kills} kills": random_kills(work, name, settings, kills, seed, whole, sha256)}
    for kind in ("truncated", "byte flipped", "torn write"):
        reports[f"{name}, {kind}"] = damaged(work, name, settings, kind, whole, sha256)
    return reports


def main() -> int:
    """Runs every variant and prints what was killed, and whether anything differed."""
    arguments = parser(__doc__ or "", "kill_resume")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    given = arguments.parse_args()
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.variants:
            for label, report in run_variant(Path(folder), name, VARIANTS[name], given.kills, given.seed).items():
                reports[label] = report
                verdict = "same" if report.same else "DIFFERENT"
                print(
                    f"{label:<42} weights {verdict:<10} kills {report.kills:>3}  "
                    f"wrong resumes {len(report.wrong_resumes)}  differing records {report.repeated_steps}", flush=True,
                )  # fmt: skip
    different = sum(not r.same for r in reports.values())
    wrong = sum(len(r.wrong_resumes) + r.repeated_steps for r in reports.values())
    claims = [
        Claim("kill_resume runs with other weights", different, "runs", 0),
        Claim("kill_resume wrong resumes and differing records", wrong, "events", 0),
    ]
    samples = {label: report.seconds_to_kill for label, report in reports.items()}
    return finish(claims, samples, given.json, {"unit": "seconds from start to kill"})


if __name__ == "__main__":
    sys.exit(main())
