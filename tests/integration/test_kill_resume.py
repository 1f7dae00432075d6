"""A killed run, resumed, ends with the same bits. Twenty kills for each variant: benchmarks/kill_resume.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kill_resume import VARIANTS, damaged, finish_run, random_kills

SMALL = ("model=mobilenet_v3_small", "trainer.limit_train_batches=12", "trainer.limit_val_batches=2")


@pytest.mark.parametrize("name", VARIANTS)
def test_final_weights_are_the_same_when_a_run_is_killed_and_resumed(name: str, tmp_path: Path) -> None:
    settings = (*VARIANTS[name], *SMALL)
    whole = tmp_path / "whole"
    sha256 = finish_run(whole, settings)
    report = random_kills(tmp_path, name, settings, kills=2, seed=3, whole=whole, sha256=sha256)
    assert report.same
    assert report.kills == 2
    assert report.wrong_resumes == []
    assert report.repeated_steps == 0


@pytest.mark.parametrize("kind", ["truncated", "byte flipped", "torn write"])
def test_final_weights_are_the_same_when_the_newest_checkpoint_is_damaged(kind: str, tmp_path: Path) -> None:
    settings = (*VARIANTS["sgd"], *SMALL)
    whole = tmp_path / "whole"
    report = damaged(tmp_path, "sgd", settings, kind, whole, finish_run(whole, settings))
    assert report.same
    assert report.kills == 1
    assert report.wrong_resumes == []
    assert report.repeated_steps == 0
