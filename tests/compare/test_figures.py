from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paddle_tk.compare.figures import (
    compare_pairs,
    round_figures,
    speed_of_training,
    training_curves,
    training_figures,
)
from paddle_tk.compare.rounds import Effort
from paddle_tk.compare.statistics import NO_DIFFERENCE, Rule
from paddle_tk.evidence import Figure

EFFORT = Effort(
    rounds=3, warmup=1, train_steps=2, inference_repeats=4, throughput_batch=8, throughput_repeats=2, epochs=2,
    curve_steps=10, threads=2, device="cpu", timeout_seconds=10,
)  # fmt: skip


def _answer(factor: float = 1.0, peak: float | None = 500.0) -> dict[str, Any]:
    steps = {
        "step_ms": [100 * factor, 102 * factor],
        "images_per_step": 16,
        "peak_mib": peak,
        "gpu": {"reason": "no GPU"},
    }
    return {
        "import_seconds": 1.0 * factor,
        "inference": {
            "cold_start_seconds": 2.0 * factor, "latency_ms": [4 * factor] * 4, "throughput_ms": [20 * factor] * 2,
            "peak_mib": peak,
        },
        "bare": steps,
        "fit": {**steps, "step_ms": [110 * factor, 112 * factor]},
    }  # fmt: skip


def _rounds(option: str, factor: float, peak: float | None = 500.0) -> list[Figure]:
    answers = [_answer(factor * noise, peak) for noise in (1.0, 1.01, 0.99)]
    return round_figures(option, answers, EFFORT, {"model": "resnet18"})


def test_round_figures_keep_every_sample_and_each_rounds_median() -> None:
    by = {f.measurement.name: f.measurement for f in _rounds("paddle", 1.0)}
    latency = by["inference_latency"]
    assert latency.n == len(latency.samples) == 12
    assert latency.value == pytest.approx(4.0)
    assert latency.conditions["per_round_median"] == pytest.approx([4.0, 4.04, 3.96])
    assert latency.conditions["p99_ms"] <= 4.04 + 1e-9
    assert by["training_throughput"].value == pytest.approx(16e3 / 111, rel=0.02)
    assert by["training_throughput_bare"].value > by["training_throughput"].value
    assert by["fit_overhead"].value == pytest.approx(111 / 101)
    assert by["fit_overhead"].n == 3
    assert all(m.origin == "measured" for m in by.values())


def test_round_figures_keep_each_turns_median_and_compare_by_it_when_processes_took_turns() -> None:
    effort = replace(EFFORT, turns=2)
    machine = [(1.0, 3.0), (2.0, 1.0), (1.0, 1.5)]  # in the turns of each round

    def figures(option: str, factor: float) -> list[Figure]:
        answers = [_answer(factor) for _ in machine]
        for answer, (early, late) in zip(answers, machine, strict=True):
            answer["fit"]["step_ms"] = [factor * 100 * early, factor * 100 * late]
        return round_figures(option, answers, effort, {})

    both = figures("paddle", 1.0) + figures("torch", 2.0)
    speed = next(f.measurement for f in both if f.measurement.name == "training_throughput")
    assert speed.conditions["per_turn_median"] == pytest.approx(
        np.array([[160 / e, 160 / late] for e, late in machine])
    )
    found = {c.name: c for c in compare_pairs(["paddle", "torch"], both, Rule())}
    assert (found["training_throughput"].ratio, found["training_throughput"].low) == pytest.approx((2, 2))
    assert found["import_time"].ratio == pytest.approx(0.5)
    on_gpu = round_figures("paddle", [_answer()] * 2, replace(effort, device="gpu:0"), {})
    assert all("per_turn_median" not in f.measurement.conditions for f in on_gpu)


def test_round_figures_leave_out_peak_memory_when_the_system_does_not_tell() -> None:
    names = {f.measurement.name for f in _rounds("paddle", 1.0, None)}
    assert "peak_memory_inference" not in names
    assert "inference_latency" in names


def test_compare_pairs_names_the_quicker_option_and_no_difference_when_equal() -> None:
    figures = _rounds("paddle", 2.0) + _rounds("torch", 1.0)
    found = {c.name: c for c in compare_pairs(["paddle", "torch"], figures, Rule())}
    assert found["inference_latency"].verdict == "torch"
    assert found["inference_latency"].ratio == pytest.approx(2.0)
    assert found["training_throughput"].verdict == "torch"
    assert found["training_throughput"].ratio == pytest.approx(0.5)
    assert found["peak_memory_inference"].verdict == NO_DIFFERENCE


def test_compare_pairs_leaves_out_figures_that_are_one_measurement() -> None:
    figures = _rounds("paddle", 1.0)
    copies = [Figure("paddle-int8", f.measurement) for f in figures]
    assert compare_pairs(["paddle", "paddle-int8"], [*figures, *copies], Rule()) == []


def _training(values: list[float]) -> dict[str, Any]:
    epochs = [
        {"epoch": i + 1, "seconds": 10.0 * (i + 1), "train_loss": 1.0, "val_metric": v} for i, v in enumerate(values)
    ]
    return {
        "epochs": epochs,
        "losses": [2.0, 1.0],
        "metric": "top1",
        "test_metric": 0.97,
        "test_n": 359,
        "peak_mib": 700.0,
    }


def test_training_figures_take_the_first_epoch_that_reached_the_target() -> None:
    by = {f.measurement.name: f.measurement for f in training_figures("torch", _training([0.5, 0.92, 0.95]), 0.9, {})}
    assert by["time_to_target"].value == 20.0
    assert by["time_to_target"].conditions["reached_in_epoch"] == 2
    assert (by["final_accuracy"].value, by["final_accuracy"].n) == (0.97, 359)


def test_training_figures_have_no_time_when_the_target_was_not_reached() -> None:
    names = {f.measurement.name for f in training_figures("torch", _training([0.5, 0.6]), 0.9, {})}
    assert names == {"final_accuracy", "peak_memory_training"}


def test_training_curves_run_over_updates_epochs_and_time() -> None:
    curves = {c.name: c for c in training_curves("torch", _training([0.5, 0.6]))}
    assert curves["train_loss"].x == (1.0, 2.0)
    assert curves["val_top1"].x == (1.0, 2.0)
    assert curves["val_top1_by_time"].x == (10.0, 20.0)
    assert curves["val_top1"].y == (0.5, 0.6)


def _steps(ms: list[float], images: list[int] | None = None) -> dict[str, Any]:
    return {"step_ms": ms, "step_images": images or [16] * len(ms)}


def test_speed_of_training_leaves_out_the_first_turn_and_has_as_many_parts_as_rounds() -> None:
    # 7 turns of 4 steps and one step more: the first is warm-up, three parts of two turns follow.
    ms = [999.0] * 4 + [100.0] * 8 + [200.0] * 8 + [400.0] * 8 + [1.0]
    found = speed_of_training("paddle", _steps(ms), replace(EFFORT, turns=4), {"model": "resnet18"}).measurement
    assert found.conditions["per_round_median"] == pytest.approx([160.0, 80.0, 40.0])
    assert found.conditions["per_turn_median"] == [pytest.approx([v, v]) for v in (160.0, 80.0, 40.0)]
    assert found.n == len(found.samples) == 24
    assert found.conditions["process"] == "one, trained to the end"


def test_speed_of_training_counts_the_images_of_each_step() -> None:
    images = [16, 16, 16, 16, *[16, 16, 16, 4] * 3]
    found = speed_of_training("paddle", _steps([100.0, 100.0, 100.0, 25.0] * 4, images), EFFORT, {}).measurement
    assert found.samples == pytest.approx((160.0,) * 12)


@pytest.mark.parametrize(("steps", "n"), [(1, 1), (3, 2), (15, 14)])
def test_speed_of_a_short_training_is_one_part_without_the_first_step(steps: int, n: int) -> None:
    found = speed_of_training("paddle", _steps([100.0] * steps), EFFORT, {}).measurement
    assert (found.n, len(found.conditions["per_round_median"])) == (n, 1)


def test_two_trainings_are_compared_by_the_turns_of_their_parts() -> None:
    # The machine slows down for a while: both halves of a pair are slow then.
    slow = [1.0, 1.3, 0.9, 2.0, 1.1, 1.0, 1.4]
    ours = [100 * factor for factor in slow for _ in range(4)]
    theirs = [90 * factor for factor in slow for _ in range(4)]
    effort = replace(EFFORT, turns=4)
    figures = [speed_of_training(name, _steps(ms), effort, {}) for name, ms in (("paddle", ours), ("torch", theirs))]
    (found,) = compare_pairs(["paddle", "torch"], figures, Rule())
    assert (found.name, found.n, found.verdict) == ("training_throughput", 3, "torch")
    assert found.ratio == pytest.approx(0.9)


def test_round_figures_tell_nothing_of_loops_that_no_round_timed() -> None:
    answers = [{k: v for k, v in _answer(f).items() if k not in ("bare", "fit")} for f in (1.0, 1.01, 0.99)]
    names = {f.measurement.name for f in round_figures("paddle", answers, replace(EFFORT, loops=False), {})}
    assert not names & {"training_throughput", "training_throughput_bare", "fit_overhead"}
    assert {"inference_latency", "inference_throughput", "cold_start"} <= names


@pytest.mark.parametrize(("metric", "compared"), [("top1", True), ("map50_95", False)])
def test_compare_pairs_gives_an_interval_to_accuracies_and_none_to_map(metric: str, compared: bool) -> None:
    answer = {**_training([0.9]), "metric": metric}
    figures = training_figures("paddle", answer, 0.5, {}) + training_figures("torch", answer, 0.5, {})
    found = [c.name for c in compare_pairs(["paddle", "torch"], figures, Rule())]
    assert found == (["final_accuracy"] if compared else [])
