"""Three uneven processes and one: the same training. All cases run in one job of three processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.rank_jobs import run_job
from tests.training.together_cases import CASES, SPLIT, train

Cases = dict[str, list[dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """What each of the three processes ended with, by case."""
    folder = tmp_path_factory.mktemp("together")
    for ended in run_job(len(SPLIT), [str(folder)], "tests.training.together_cases"):
        assert ended.code == 0, ended.output
    return {name: [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in range(len(SPLIT))] for name in CASES}


@pytest.mark.parametrize("name", [name for name in CASES if name != "apart"])
def test_training_equals_that_of_one_process_when_three_share_it_unevenly(name: str, shared: Cases) -> None:
    alone, found = train(name), shared[name][0]
    assert set(alone) == set(found)
    for key in alone:
        np.testing.assert_allclose(found[key], alone[key], rtol=2e-4, atol=2e-6, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_all_processes_end_with_the_same_bits_when_they_train_together(name: str, shared: Cases) -> None:
    first, *others = shared[name]
    for other in others:
        assert {k: v.tobytes() for k, v in other.items()} == {k: v.tobytes() for k, v in first.items()}


def test_batch_norm_differs_from_one_process_when_it_is_not_synchronised(shared: Cases) -> None:
    alone = train("apart")
    key = next(name for name in alone if name.endswith("_mean"))
    # Each process normalises by its own images: close to one process with all of them, but not equal.
    assert not np.allclose(shared["apart"][0][key], alone[key], rtol=1e-4)
    np.testing.assert_allclose(shared["apart"][0][key], alone[key], atol=0.2)
