from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from paddle_tk.errors import ArtifactError, BadInput, CheckFailed
from paddle_tk.training.batch_choice import (
    BATCH_FILE,
    BatchChoice,
    StartAgain,
    back_off,
    candidates,
    change,
    is_out_of_memory,
    memory_watched,
    read_choice,
    write_choice,
)

CHOICE = BatchChoice(
    picked=48, reason="it fits", limit="free RAM", limit_mb=1000.0, predicted_mb=600.0, margin=0.5, global_batch=96,
    origin={"limit_mb": "measured"}, predictions={"24": 350.0, "48": 600.0}, first_picked=48,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_choice(tmp_path, CHOICE)
    return tmp_path


def test_candidates_grow_by_at_most_two_and_divide_the_target_when_one_is_given() -> None:
    assert candidates(100) == [1, 2, 4, 8, 16, 24, 32, 48, 64, 96]
    assert candidates(100, dividing=96) == [1, 2, 4, 8, 16, 24, 32, 48, 96]
    assert candidates(0) == []
    assert max(candidates(10**6)) == 512


def test_choice_reads_back_as_written_and_is_none_when_absent(
    run: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert read_choice(run) == CHOICE
    assert read_choice(tmp_path_factory.mktemp("empty")) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({**dataclasses.asdict(CHOICE), "picked": 0})])
def test_choice_is_refused_when_the_file_is_damaged(text: str, tmp_path: Path) -> None:
    (tmp_path / BATCH_FILE).write_text(text)
    with pytest.raises(ArtifactError, match="batch"):
        read_choice(tmp_path)


def test_back_off_halves_once_and_keeps_the_accumulation(run: Path) -> None:
    smaller = back_off(run, CHOICE, "memory ran out")
    assert (smaller.picked, smaller.global_batch, smaller.predicted_mb, smaller.first_picked) == (24, 48, 350.0, 48)
    assert read_choice(run) == smaller
    with pytest.raises(CheckFailed, match="a batch of 24, and before that with 48"):
        back_off(run, smaller, "memory ran out")


def test_back_off_refuses_when_the_batch_had_trained_before(run: Path) -> None:
    with pytest.raises(CheckFailed, match="which had trained before"):
        back_off(run, dataclasses.replace(CHOICE, confirmed=True), "memory ran out")
    (run / "checkpoints" / "epoch-0000-step-000002").mkdir(parents=True)
    with pytest.raises(CheckFailed, match="which had trained before"):
        back_off(run, CHOICE, "memory ran out")
    assert read_choice(run) == CHOICE


def test_back_off_refuses_when_the_batch_is_one(run: Path) -> None:
    with pytest.raises(CheckFailed, match=r"with a batch of 1\b"):
        back_off(run, dataclasses.replace(CHOICE, picked=1), "memory ran out")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("ResourceExhaustedError: Fail to alloc memory of 123 size"), True),
        (RuntimeError("(External) CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Out of memory error on GPU 0"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (ImportError("no module"), False),
        (RuntimeError("shape mismatch"), False),
        (BadInput("out of memory", ""), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (type("PanicException", (BaseException,), {})("PyObject pointer is null"), True),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
)
def test_out_of_memory_is_told_from_other_failures(error: BaseException | None, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_out_of_memory_is_found_when_it_is_the_cause_of_another_failure() -> None:
    error = RuntimeError("loader failed")
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)


def test_memory_watched_halves_and_asks_to_start_again_when_memory_runs_out(run: Path) -> None:
    def train() -> None:
        assert read_choice(run) == dataclasses.replace(CHOICE, running=True)
        raise MemoryError

    with pytest.raises(StartAgain, match="starts again with 24"), memory_watched(run, 48):
        train()
    after = read_choice(run)
    assert after is not None
    assert (after.picked, after.running, after.backed_off) == (24, False, True)


def test_memory_watched_does_not_halve_again_when_another_process_already_did(run: Path) -> None:
    def train() -> None:
        back_off(run, CHOICE, "memory ran out")
        raise MemoryError

    with pytest.raises(StartAgain, match="starts again with 24"), memory_watched(run, 48, main_process=False):
        train()
    after = read_choice(run)
    assert after is not None
    assert after.picked == 24


def test_memory_watched_names_the_users_own_batch_when_memory_runs_out(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"data\.batch_size=640"), memory_watched(tmp_path, 640):
        raise MemoryError
    assert not list(tmp_path.iterdir())


def test_memory_watched_lets_other_failures_through_and_leaves_the_choice(run: Path) -> None:
    with pytest.raises(ZeroDivisionError), memory_watched(run, 48):
        raise ZeroDivisionError
    assert read_choice(run) == CHOICE


def test_change_does_nothing_when_the_run_has_no_choice(tmp_path: Path) -> None:
    change(tmp_path, confirmed=True)
    assert not list(tmp_path.iterdir())
