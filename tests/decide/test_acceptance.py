from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddle_tk.decide.acceptance import Check, Subject, acceptance
from paddle_tk.decide.matrix import build_scores, decide
from paddle_tk.decide.memory_needs import memory_needs
from paddle_tk.evidence import Evidence
from tests.decide.examples import SAID, evidence, example

WEIGHTS = {"team_familiarity": 0.3, "deployment_ease": 0.25, "performance": 0.25, "community": 0.2}


def subject(folder: Path, found: Evidence | None, chosen: str | None = "paddle", **changes: Any) -> Subject:
    requirements = example(folder, **changes)
    options = evidence().options
    scores = build_scores(found, options=options, familiarity={"paddle": 3, "torch": 4}, community=None, stated={})
    decision = decide([(o.name, o.label) for o in options], scores, weights=WEIGHTS, threshold=3.5)
    option = next((o for o in options if o.name == chosen), None)
    return Subject(requirements.create, requirements.planning, found, decision, option)


def line(checks: list[Check], start: str) -> Check:
    return next(check for check in checks if check.requirement.startswith(start))


@pytest.mark.parametrize(("value", "status"), [(0.95, "pass"), (0.949, "fail")])
def test_accuracy_is_held_against_the_minimum_when_measured(value: float, status: str, tmp_path: Path) -> None:
    checks = acceptance(subject(tmp_path, evidence({"paddle.final_accuracy": value})))
    check = line(checks, "accuracy")
    assert (check.status, check.wanted, check.found) == (status, ">= 0.95", f"{value:.4f}")
    assert "final_accuracy, n=60, measured" in check.evidence


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"dataset": "cifar10"}, "dataset cifar10, wanted is digits"),
        ({"model": "resnet50"}, "model resnet50, wanted is resnet18"),
        ({"input_size": [32, 32]}, "input size 32x32, wanted is 16x16"),
    ],
)
def test_figure_counts_for_nothing_when_something_else_was_measured(
    said: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    checks = acceptance(subject(tmp_path, evidence(said=SAID | said)))
    for start in ("accuracy (", "latency on x86-cpu", "export to ONNX", "memory on x86-cpu"):
        check = line(checks, start)
        assert check.status == "not measured"
        assert reason in check.evidence


def test_latency_of_this_machine_does_not_pass_for_another_device_when_measured(tmp_path: Path) -> None:
    checks = acceptance(subject(tmp_path, evidence()))
    here = line(checks, "latency on x86-cpu")
    assert (here.status, here.found) == ("pass", "4 ms")  # p95 of the exported file
    for device in ("jetson-orin-nano", "raspberry-pi-5"):
        other = line(checks, f"latency on {device}")
        assert (other.status, other.found) == ("not measured", "not measured")
        assert f"not on {device}" in other.evidence
    assert line(checks, "memory on raspberry-pi-5").status == "not measured"


def test_latency_does_not_pass_for_x86_when_measured_on_arm(tmp_path: Path) -> None:
    checks = acceptance(subject(tmp_path, evidence(platform="Linux-6-aarch64")))
    assert line(checks, "latency on x86-cpu").status == "not measured"


def test_latency_fails_when_percentile_is_over_the_limit(tmp_path: Path) -> None:
    checks = acceptance(subject(tmp_path, evidence({"paddle.onnx_latency": 2.6})))
    assert (line(checks, "latency on x86-cpu").status, line(checks, "latency on x86-cpu").found) == ("fail", "5.2 ms")


def test_training_figures_of_a_cpu_do_not_count_when_a_gpu_is_planned(tmp_path: Path) -> None:
    checks = acceptance(subject(tmp_path, evidence()))
    for start in ("training fits", "hours of computing"):
        assert line(checks, start).status == "not measured"
        assert "planned on a GPU" in line(checks, start).evidence


def test_training_is_held_against_ram_and_hours_when_a_cpu_is_planned(tmp_path: Path) -> None:
    changes = {"planning__resources": {"gpus": [], "ram_gb": 0.5, "people": 2}}
    checks = acceptance(subject(tmp_path, evidence({"paddle.training_throughput": 10.0}), **changes))
    assert (line(checks, "training fits").status, line(checks, "training fits").found) == ("fail", "700 MB")
    hours = line(checks, "hours of computing")
    assert (hours.status, hours.found) == ("pass", "0.998 h")  # 1797 x 20 / 10 / 3600
    assert hours.evidence.startswith("estimated: 1797 images x 20 epochs / 10 images/s")


def test_int8_loss_is_held_against_the_limit_when_required(tmp_path: Path) -> None:
    found = evidence({"paddle-int8.int8_accuracy": 0.95})
    lost = line(acceptance(subject(tmp_path, found, "paddle-int8")), "accuracy lost to INT8")
    assert (lost.status, lost.found) == ("fail", "0.0200")
    without = subject(tmp_path, found, create__int8={"required": False})
    assert not [check for check in acceptance(without) if "INT8" in check.requirement]


@pytest.mark.parametrize(
    ("name", "value", "start"),
    [("onnx_export", 0.0, "export to ONNX"), ("onnx_parity", 0.01, "exported file"), ("int8_available", 0.0, "INT8")],
)
def test_export_fails_when_it_does_not_hold(name: str, value: float, start: str, tmp_path: Path) -> None:
    assert line(acceptance(subject(tmp_path, evidence({f"paddle.{name}": value}))), start).status == "fail"


@pytest.mark.parametrize(("found", "chosen"), [(None, "paddle"), (evidence(), None)])
def test_nothing_passes_when_there_is_no_evidence_or_no_choice(
    found: Evidence | None, chosen: str | None, tmp_path: Path
) -> None:
    checks = acceptance(subject(tmp_path, found, chosen))
    measured = [c for c in checks if c.status != "not measured" and not c.requirement.startswith("weighted sum")]
    assert measured == []


def test_memory_is_measured_stated_or_estimated_with_a_margin_apart(tmp_path: Path) -> None:
    needs = {need.use: need for need in memory_needs(subject(tmp_path, evidence()))}
    training = needs["training, cpu"]
    assert (training.peak_mb, training.margin_mb, training.total_mb) == (701, 351, 1052)
    assert training.origin == "measured"
    assert (needs["training, gpu"].peak_mb, needs["training, gpu"].origin) == (1900, "stated by the user")
    part = needs["weights, gradients and optimizer (part of training)"]
    assert (part.peak_mb, part.origin) == (171, "estimated")  # 11173962 x 4 x 4 / 2**20 = 170.5
    assert "11173962 parameters x 4 bytes x 4" in part.basis


def test_memory_is_not_measured_when_nothing_is_known(tmp_path: Path) -> None:
    changes = {"planning__memory": ..., "planning__models": [{"name": "resnet18"}]}
    needs = memory_needs(subject(tmp_path, None, **changes))
    assert [(n.peak_mb, n.total_mb, n.origin) for n in needs] == [(None, None, "not measured")] * 3
    assert all(need.basis for need in needs)
