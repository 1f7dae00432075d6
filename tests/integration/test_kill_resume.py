"""A killed run, resumed, ends with the same bits. Twenty kills for each variant: benchmarks/kill_resume.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.kill_resume import VARIANTS, Report, damaged, finish_run, random_kills

SMALL = ("trainer.limit_train_batches=12", "trainer.limit_val_batches=2")
Whole = Callable[[str], tuple[Path, str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Returns a variant's uninterrupted run and the hash of its weights; each is trained once."""
    done: dict[str, tuple[Path, str]] = {}

    def get(name: str) -> tuple[Path, str]:
        if name not in done:
            folder = tmp_path_factory.mktemp("whole") / name
            done[name] = folder, finish_run(folder, (*VARIANTS[name], *SMALL))
        return done[name]

    return get


def _assert_clean(report: Report, kills: int) -> None:
    assert report.same
    assert report.kills == kills
    assert report.wrong_resumes == []
    assert report.repeated_steps == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_final_weights_are_the_same_when_a_run_is_killed_and_resumed(name: str, whole: Whole, tmp_path: Path) -> None:
    folder, sha256 = whole(name)
    settings = (*VARIANTS[name], *SMALL)
    report = random_kills(tmp_path, name, settings, kills=2, seed=3, whole=folder, sha256=sha256)
    _assert_clean(report, 2)


@pytest.mark.parametrize("kind", ["truncated", "byte flipped", "torn write"])
def test_final_weights_are_the_same_when_the_newest_checkpoint_is_damaged(
    kind: str, whole: Whole, tmp_path: Path
) -> None:
    folder, sha256 = whole("sgd")
    report = damaged(tmp_path, "sgd", (*VARIANTS["sgd"], *SMALL), kind, folder, sha256)
    _assert_clean(report, 1)
