from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from paddle_tk.compare.inputs import SharedInputs
from paddle_tk.compare.phases import Clock
from paddle_tk.compare.rounds import Effort, Workers, interleaved_rounds, run_side_by_side
from paddle_tk.compare.turns import Turns, run_in_turns
from paddle_tk.errors import CheckFailed

from .small_plan import inputs

__all__ = ["inputs"]


class Stage:
    """Notes who works, and that nobody else does."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.busy = threading.Lock()

    def work(self, name: str) -> None:
        assert self.busy.acquire(blocking=False), f"{name} works while another does"
        time.sleep(0.01)
        self.seen.append(name)
        self.busy.release()


def _worker(stage: Stage, name: str, turns: int, fails: bool, link: socket.socket) -> str:
    mine = Turns(os.dup(link.fileno()), turns)
    link.close()
    stage.work(name)
    for _ in mine.blocks(turns):
        mine.hand_over()
        stage.work(name)
    del mine  # as the end of a process closes it
    if fails:
        raise CheckFailed(f"{name} broke", "mend it")
    return name.upper()


def _starts(stage: Stage, turns: dict[str, int], fails: str = "") -> list[Callable[[socket.socket], str]]:
    return [partial(_worker, stage, name, count, name == fails) for name, count in turns.items()]


def test_one_works_at_a_time_and_the_order_turns_round_every_time() -> None:
    stage, ended = Stage(), []
    found = run_in_turns(_starts(stage, {"a": 3, "b": 3}), lambda: ended.append(1))
    assert found == ["A", "B"]
    assert stage.seen == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert len(ended) == 2


def test_one_that_takes_fewer_turns_leaves_the_others_theirs() -> None:
    stage = Stage()
    assert run_in_turns(_starts(stage, {"a": 1, "b": 4, "c": 2})) == ["A", "B", "C"]
    assert [stage.seen.count(name) for name in "abc"] == [2, 5, 3]


def test_the_first_failure_is_told_and_ends_those_that_wait() -> None:
    stage = Stage()
    with pytest.raises(CheckFailed, match="b broke"):
        run_in_turns(_starts(stage, {"a": 50, "b": 2}, fails="b"))
    assert stage.seen.count("a") < 6


def test_one_that_is_alone_never_waits() -> None:
    alone = Turns(None, 8)
    assert alone.blocks(16) == [16]
    alone.hand_over()


def test_the_wait_for_a_turn_is_in_no_step() -> None:
    class Slow(Turns):
        waits = 0

        def hand_over(self) -> None:
            Slow.waits += 1
            time.sleep(0.2)

    clock = Clock(Slow(), (1, 3))
    clock.began()
    for _ in range(5):
        clock.batch_ended(0.0)
    clock.epoch_ended(0.5, 1.0)
    assert Slow.waits == 2
    assert len(clock.step_seconds) == 5
    assert max(clock.step_seconds) < 0.1
    assert clock.epochs[0]["seconds"] < 0.1


def test_an_evaluation_is_in_the_time_of_an_epoch_and_in_no_step() -> None:
    clock = Clock()
    clock.began()
    clock.batch_ended(0.0)
    time.sleep(0.2)
    clock.epoch_ended(0.5, 1.0)
    clock.batch_ended(0.0)
    assert max(clock.step_seconds) < 0.1
    assert clock.epochs[0]["seconds"] >= 0.2


def test_two_processes_that_take_turns_answer_as_one_alone_does(inputs: SharedInputs, tmp_path: Path) -> None:
    effort = Effort(
        rounds=1, warmup=1, train_steps=4, inference_repeats=5, throughput_batch=4, throughput_repeats=3, epochs=1,
        curve_steps=2, threads=1, device="cpu", timeout_seconds=300, turns=3,
    )  # fmt: skip
    workers = Workers(inputs.folder, tmp_path, effort)
    together = interleaved_rounds(workers, {"paddle": "paddle", "torch": "torch"})
    alone = workers.run("paddle", ("bare",), name="alone")
    for (answer,) in together.values():
        assert (len(answer["inference"]["latency_ms"]), len(answer["inference"]["throughput_ms"])) == (5, 3)
        for phase in ("bare", "fit"):
            assert (len(answer[phase]["step_ms"]), len(answer[phase]["losses"])) == (4, 5)
    assert together["paddle"][0]["bare"]["losses"] == alone["bare"]["losses"]


def test_trainings_to_the_end_that_take_turns_learn_what_one_alone_learns(inputs: SharedInputs, tmp_path: Path) -> None:
    effort = Effort(
        rounds=1, warmup=1, train_steps=2, inference_repeats=5, throughput_batch=4, throughput_repeats=2, epochs=2,
        curve_steps=2, threads=1, device="cpu", timeout_seconds=300, turns=2,
    )  # fmt: skip
    workers, advanced = Workers(inputs.folder, tmp_path, effort), []
    frameworks = {"paddle": "paddle", "torch": "torch"}
    together = run_side_by_side(workers, frameworks, ("train", "trained_outputs"), advanced.append)
    alone = workers.run("paddle", ("train",), name="alone")["train"]
    assert list(together) == ["paddle", "torch"]
    assert advanced == [1, 1]
    for answer in together.values():
        train = answer["train"]
        assert len(train["step_ms"]) == len(train["step_images"]) == len(train["losses"])
        assert [epoch["epoch"] for epoch in train["epochs"]] == [1, 2]
        assert train["gpu"]["reason"]
    assert together["paddle"]["train"]["losses"] == alone["losses"]
    assert together["paddle"]["train"]["test_metric"] == alone["test_metric"]


def test_a_process_out_of_time_ends_the_round(inputs: SharedInputs, tmp_path: Path) -> None:
    effort = Effort(
        rounds=2, warmup=1, train_steps=2, inference_repeats=5, throughput_batch=4, throughput_repeats=2, epochs=1,
        curve_steps=2, threads=1, device="cpu", timeout_seconds=0.1, turns=2,
    )  # fmt: skip
    workers = Workers(inputs.folder, tmp_path, effort)
    with pytest.raises(CheckFailed, match="gave no answer within"):
        interleaved_rounds(workers, {"a": "paddle", "b": "paddle"})
