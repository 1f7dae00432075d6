"""Whole training jobs of several processes: one writer, a lost process, stops and resumes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from paddle_tk.files import sha256_file
from paddle_tk.training.checkpoint import CheckpointStore, position
from tests.rank_jobs import Ended, finish, run_job, start_job

STEPS = 30
SETTINGS = (
    "model=lenet", "data.image_size=28", "trainer.max_epochs=2", f"trainer.limit_train_batches={STEPS}",
    "trainer.learning_rate=0.01", "trainer.warmup_epochs=0", "trainer.limit_val_batches=2", "trainer.loggers=[]",
    "trainer.log_every_n_steps=1", "trainer.save_every_n_steps=5", "trainer.early_stopping_patience=5",
    "trainer.leak_watch=off",
)  # fmt: skip
TWO = (*SETTINGS, "data.batch_size=16")
UNEVEN = (*SETTINGS, "data.batch_size=16", "trainer.rank_batch_sizes=[8,4,20]")


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Returns a run's shipped weights."""
    found: dict[str, np.ndarray] = load_file(folder / "model" / "model.safetensors")
    return found


def largest_difference(folder: Path, other: Path) -> float:
    """Returns the largest difference of a weight of two runs."""
    one, two = weights(folder), weights(other)
    return max(float(np.abs(one[name] - two[name]).max()) for name in one)


def records(folder: Path) -> list[dict[str, Any]]:
    """Returns a run's history."""
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def wait_for_checkpoint(job: list[subprocess.Popen[str]], folder: Path) -> None:
    """Waits until the run in the folder has saved in the middle of its first epoch."""
    end = time.monotonic() + 60
    while not list((folder / "checkpoints").glob("epoch-0000-*")):
        assert time.monotonic() < end, finish(job, 1)
        time.sleep(0.01)


def hold_and_end(folder: Path, processes: int, settings: tuple[str, ...], number: int, rank: int) -> list[Ended]:
    """Starts a job and sends a signal to one of its processes once it has saved."""
    job = start_job(processes, [str(folder), *settings])
    wait_for_checkpoint(job, folder)
    job[rank].send_signal(number)
    return finish(job, 30)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of one process with batches of 32."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended = run_job(1, [str(folder), *SETTINGS, "data.batch_size=32"])
    assert ended[0].code == 0, ended[0].output
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Ended]]:
    """A run of three uneven processes, the second of which was killed after a checkpoint, and how they ended."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    return folder, hold_and_end(folder, 3, UNEVEN, signal.SIGKILL, rank=1)


def test_others_end_with_one_line_when_a_process_is_killed(killed: tuple[Path, list[Ended]]) -> None:
    ended = killed[1]
    assert [one.code for one in ended] == [70, -signal.SIGKILL, 70]
    for one in (ended[0], ended[2]):
        assert re.search(r"^error: another process of the job is gone \(.*--resume", one.output, re.MULTILINE)
        assert "Traceback" not in one.output


def test_run_ends_as_that_of_one_process_when_it_was_killed_and_goes_on_with_two(
    killed: tuple[Path, list[Ended]], alone: Path
) -> None:
    folder = killed[0]
    saved = CheckpointStore(folder / "checkpoints").newest()
    assert saved is not None
    ended = run_job(2, [str(folder), *UNEVEN])
    assert [one.code for one in ended] == [0, 0], ended
    assert "the batch stays at 32 images: 8 + 4 + 20 in 3 processes before, 16 + 16 in 2" in ended[0].output
    epoch, step = position(saved.folder)
    assert f"resumed from {saved.folder.name}: epoch {epoch + 1}, batch {step + 1}" in ended[0].output
    assert largest_difference(folder, alone) < 1e-5
    ours, theirs = records(folder), records(alone)
    assert [(r["kind"], r["step"]) for r in ours] == [(r["kind"], r["step"]) for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for key in {"loss", "train_loss", "train_top1", "val_loss", "val_top1", "val_n"} & set(one):
            assert one[key] == pytest.approx(other[key], abs=1e-4)
    final, other = (json.loads((run / "result.json").read_text())["final"] for run in (folder, alone))
    assert final["n"] == other["n"]
    assert final["loss"] == pytest.approx(other["loss"], abs=1e-4)


def test_only_the_first_process_talks_when_several_train(killed: tuple[Path, list[Ended]]) -> None:
    assert "dataset digits" in killed[1][0].output
    assert "dataset digits" not in killed[1][2].output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("rank", [0, 1])
def test_all_stop_after_the_same_update_and_go_on_with_the_same_bits_when_one_is_asked_to_stop(
    number: int, rank: int, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert [one.code for one in run_job(2, [str(whole), *TWO])] == [0, 0]
    ended = hold_and_end(stopped, 2, TWO, number, rank)
    assert [one.code for one in ended] == [128 + number] * 2, ended
    assert [one.code for one in run_job(2, [str(stopped), *TWO])] == [0, 0]
    assert sha256_file(whole / "model" / "model.safetensors") == sha256_file(stopped / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_run_of_one_process_goes_on_when_others_take_it_up(processes: int, alone: Path, tmp_path: Path) -> None:
    settings = (*SETTINGS, "data.batch_size=32")
    assert hold_and_end(tmp_path / "run", 1, settings, signal.SIGTERM, 0)[0].code == 143
    ended = run_job(processes, [str(tmp_path / "run"), *settings])
    assert [one.code for one in ended] == [0] * processes, ended
    assert largest_difference(tmp_path / "run", alone) < 1e-5


@pytest.mark.slow
def test_all_end_with_the_same_check_when_the_loss_of_one_is_no_number(tmp_path: Path) -> None:
    ended = run_job(2, [str(tmp_path / "run"), *TWO, "trainer.learning_rate=100", "trainer.optimizer=sgd"])
    assert [one.code for one in ended] == [1, 1], ended
    assert all("training diverged: the loss is" in one.output for one in ended)


@pytest.mark.slow
def test_all_refuse_with_one_line_when_the_sizes_are_of_other_processes(tmp_path: Path) -> None:
    ended = run_job(3, [str(tmp_path / "run"), *SETTINGS, "trainer.rank_batch_sizes=[1,1]"])
    assert [one.code for one in ended] == [2, 2, 2]
    assert all("names 2 process(es), the job has 3" in one.output for one in ended)
