from __future__ import annotations

import pytest

from paddle_tk.environment.ranks import Rank, own_rank, rank_environment
from paddle_tk.errors import BadInput


def test_own_rank_is_none_when_the_process_is_alone() -> None:
    assert own_rank({}) is None
    assert own_rank({"PADDLE_TRAINERS_NUM": "1", "PADDLE_TRAINER_ID": "0"}) is None


def test_own_rank_counts_the_processes_of_its_machine_when_there_are_two() -> None:
    endpoints = "10.0.0.1:6170,10.0.0.1:6171,10.0.0.2:6170,10.0.0.2:6171"
    environment = {"PADDLE_TRAINERS_NUM": "4", "PADDLE_TRAINER_ID": "3", "PADDLE_CURRENT_ENDPOINT": "10.0.0.2:6171",
                   "PADDLE_TRAINER_ENDPOINTS": endpoints}  # fmt: skip
    assert own_rank(environment) == Rank(3, 4, 1, 2)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"PADDLE_TRAINERS_NUM": "two"}, "PADDLE_TRAINERS_NUM is 'two'"),
        ({"PADDLE_TRAINERS_NUM": "2"}, "PADDLE_TRAINER_ID=None of PADDLE_TRAINERS_NUM=2"),
        ({"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "2"}, "from 0 to 1"),
    ],
)
def test_own_rank_refuses_when_the_variables_contradict_each_other(environment: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        own_rank(environment)


def test_rank_environment_leaves_threads_when_none_are_given() -> None:
    endpoints = ["127.0.0.1:1", "127.0.0.1:2"]
    assert own_rank(rank_environment(1, endpoints, None)) == Rank(1, 2, 1, 2)
    assert "OMP_NUM_THREADS" not in rank_environment(1, endpoints, None)
    assert rank_environment(1, endpoints, 3)["OMP_NUM_THREADS"] == "3"
