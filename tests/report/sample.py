"""Made-up evidence and decisions for the report's tests: no figure here was measured."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from paddle_tk.evidence import Comparison, Curve, Evidence, Figure, NotMeasured, Option
from paddle_tk.types import Decision, Flip, Measurement, OptionScore, Score, Sensitivity

OPTIONS = (
    Option("paddle", "PaddlePaddle 3.3.1", "paddle", "3.3.1"),
    Option("torch", "PyTorch 2.13.0", "torch", "2.13.0"),
    Option("paddle-int8", "PaddlePaddle 3.3.1 INT8", "paddle", "3.3.1", "int8"),
    Option("torch-int8", "PyTorch 2.13.0 INT8", "torch", "2.13.0", "int8"),
)
WEIGHTS = {"team_familiarity": 0.30, "deployment_ease": 0.25, "performance": 0.25, "community": 0.20}
MADE_UP = {"made_up": True, "threads": 2, "rounds": 5, "warmup": 4}
# Name, unit, and a value of each option above.
VALUES: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("training_throughput", "images/s", (150.0, 292.0, 150.0, 292.0)),
    ("training_throughput_bare", "images/s", (153.0, 301.0, 153.0, 301.0)),
    ("fit_overhead", "ratio", (1.021, 1.034, 1.021, 1.034)),
    ("time_to_target", "s", (38.2, 19.6, 38.2, 19.6)),
    ("final_accuracy", "share", (0.9722, 0.9750, 0.9694, 0.9722)),
    ("inference_latency", "ms", (6.9, 3.1, 1.4, 1.5)),
    ("inference_throughput", "images/s", (310.0, 640.0, 1490.0, 1400.0)),
    ("onnx_latency", "ms", (2.4, 2.41, 0.93, 0.95)),
    ("onnx_throughput", "images/s", (880.0, 874.0, 2280.0, 2200.0)),
    ("peak_memory_training", "MiB", (702.0, 655.0, 702.0, 655.0)),
    ("peak_memory_inference", "MiB", (421.0, 398.0, 233.0, 241.0)),
    ("import_time", "s", (1.12, 1.87, 0.21, 0.22)),
    ("cold_start", "s", (1.43, 2.05, 0.35, 0.36)),
    ("installed_size", "MiB", (612.0, 894.0, 96.0, 96.0)),
    ("onnx_export", "0/1", (1.0, 1.0, 1.0, 1.0)),
    ("onnx_parity", "difference", (4.2e-6, 3.1e-6, 0.031, 0.028)),
    ("int8_available", "0/1", (1.0, 0.0, 1.0, 1.0)),
    ("recipe_lines", "lines", (41.0, 47.0, 41.0, 47.0)),
)
SINGLE = {"time_to_target", "final_accuracy", "installed_size", "onnx_export", "onnx_parity", "int8_available",
          "recipe_lines"}  # fmt: skip


def make_evidence(options: Sequence[Option] = OPTIONS[:3], *, seed: int = 7) -> Evidence:
    """Returns evidence with everything in it, alike on every call."""
    draw = random.Random(seed)
    places = {option.name: n for n, option in enumerate(OPTIONS)}
    figures = tuple(
        Figure(option.name, _measurement(name, unit, values[places[option.name] % 4], draw))
        for name, unit, values in VALUES
        for option in options
    )
    return Evidence(
        options=tuple(options),
        figures=figures,
        not_measured=tuple(
            NotMeasured(option.name, name, "no GPU with NVML on this machine")
            for name in ("gpu_utilisation", "gpu_memory_share")
            for option in options
        ),
        curves=tuple(curve for option in options[:2] for curve in _curves(option, draw)),
        comparisons=tuple(_comparisons(options, figures)),
        parity={"passed": True, "outputs": {"logits": 2.4e-6}, "outputs_tolerance": 1e-5, "images": 16,
                "early": 3.2e-6, "early_tolerance": 1e-4, "steps": 50, "late": 1.4e-3, "late_tolerance": 1e-2},
        settings={"model": "resnet18", "data": "digits", "compare": {"rounds": 5, "same_within": 0.03,
                  "target_accuracy": 0.9}, "trainer": {"batch_size": 32, "optimizer": "adamw", "precision": "fp32"}},
        environment={"cpu": "a made-up processor", "cores": 2, "python": "3.11.9", "versions": {"paddlepaddle": "3.3.1",
                     "torch": "2.13.0", "onnxruntime": "1.32.0"}},
        command="python tools/compare.py -c configs/compare/resnet18.yaml --output DIR",
        created="2026-11-24T03:41:00+00:00",
    )  # fmt: skip


def _measurement(name: str, unit: str, value: float, draw: random.Random) -> Measurement:
    if name in SINGLE:
        samples: tuple[float, ...] = (value,)
    elif name.endswith("latency"):
        samples = tuple(value * draw.lognormvariate(0, 0.05) * (1.6 if draw.random() < 0.02 else 1) for _ in range(300))
    else:
        samples = tuple(value * draw.lognormvariate(0, 0.03) for _ in range(20))
    middle = sorted(samples)[len(samples) // 2]
    return Measurement(name, middle, unit, len(samples), "measured", samples, conditions=dict(MADE_UP))


def _curves(option: Option, draw: random.Random) -> list[Curve]:
    steps, epochs = range(1, 161), range(1, 6)
    pace = 7.6 if option.framework == "paddle" else 3.9
    loss = tuple(2.35 * math.exp(-s / 34) + 0.06 + abs(draw.gauss(0, 0.02)) for s in steps)
    top1 = tuple(0.978 - 0.62 * math.exp(-e / 1.1) + draw.gauss(0, 0.003) for e in epochs)
    return [
        Curve(option.name, "train_loss", tuple(float(s) for s in steps), loss, "update", "loss"),
        Curve(option.name, "val_top1", tuple(float(e) for e in epochs), top1, "epoch", "top1"),
        Curve(option.name, "val_top1_by_time", tuple(pace * e for e in epochs), top1, "time (s)", "top1"),
    ]


def _comparisons(options: Sequence[Option], figures: Sequence[Figure]) -> list[Comparison]:
    found = []
    by = {(f.option, f.measurement.name): f.measurement.value for f in figures}
    higher = {"training_throughput", "inference_throughput", "onnx_throughput"}
    names = ("training_throughput", "inference_latency", "inference_throughput", "onnx_latency", "peak_memory_training",
             "import_time", "cold_start")  # fmt: skip
    for other in options[1:]:
        first = options[0]
        for name in names:
            ratio = by[first.name, name] / by[other.name, name]
            a_wins = (ratio > 1) == (name in higher)
            verdict = "no difference" if abs(ratio - 1) < 0.03 else (first.name if a_wins else other.name)
            note = "the interval holds 1" if verdict == "no difference" else ""
            found.append(
                Comparison(name, first.name, other.name, ratio, ratio * 0.975, ratio * 1.021, 0.95, 5, verdict, note)
            )
    return found


def make_decision(evidence: Evidence | None = None, **changes: Any) -> Decision:
    """Returns the published example, with a third option whose familiarity nobody stated."""
    said = {
        "torch": (4.0, 3.5, 4.0, 5.0),
        "paddle": (3.0, 4.2, 4.0, 3.5),
        "paddle-int8": (None, 3.9, 4.6, 3.5),
    }
    scores = tuple(
        _score(option, criterion, value, evidence)
        for option, values in said.items()
        for criterion, value in zip(WEIGHTS, values, strict=True)
    )
    decision = Decision(
        options=(
            OptionScore("torch", "PyTorch 2.13.0", 4.075, 4.075, 4.075, True),
            OptionScore("paddle", "PaddlePaddle 3.3.1", 3.65, 3.65, 3.65, True),
            OptionScore("paddle-int8", "PaddlePaddle 3.3.1 INT8", None, 2.825, 4.325, None),
        ),
        criteria=tuple(WEIGHTS),
        weights=WEIGHTS,
        threshold=3.5,
        scores=scores,
        choice="torch",
        reason="PyTorch 2.13.0 has the highest sum of the options that are known in full.",
        sensitivity=Sensitivity(
            flips=(
                Flip("weight", "team_familiarity", "", 0.30, None),
                Flip("weight", "deployment_ease", "", 0.25, 0.55, "paddle"),
                Flip("score", "team_familiarity", "paddle", 3.0, 4.4167, "paddle"),
                Flip("score", "team_familiarity", "torch", 4.0, 2.5833, "paddle"),
            ),
            win_shares={"torch": 0.781, "paddle": 0.109, "paddle-int8": 0.11},
            samples=10000,
            seed=0,
            pareto=("torch", "paddle-int8"),
            dominated={"paddle": "paddle-int8"},
        ),
        missing=("team familiarity of PaddlePaddle 3.3.1 INT8: nobody stated it",),
    )
    return replace(decision, **changes)


def _score(option: str, criterion: str, value: float | None, evidence: Evidence | None) -> Score:
    if value is None:
        return Score(option, criterion, None, 0.0, 5.0, "the team's own answer", missing=("the team's answer",))
    return Score(option, criterion, value, value, value, _formula(criterion, value),
                 _evidence(option, criterion, value, evidence))  # fmt: skip


def _formula(criterion: str, value: float) -> str:
    if criterion == "performance":
        return f"5 - log2 of the ratio to the best, mean of training throughput and latency = {value:g}"
    return f"stated: {value:g}"


def _evidence(option: str, criterion: str, value: float, evidence: Evidence | None) -> tuple[Measurement, ...]:
    if criterion == "performance" and evidence is not None:
        names = ("training_throughput", "inference_latency", "peak_memory_inference")
        return tuple(m for m in (evidence.find(option, name) for name in names) if m is not None)
    if criterion == "community":
        conditions = {"source": "https://github.com/PaddlePaddle/Paddle", "date": "2026-11-01", "made_up": True}
        return (Measurement("github_stars", 23000.0, "stars", 1, "cited", device="", conditions=conditions),)
    return (Measurement(criterion, value, "score", 1, "stated by the user", device=""),)


def no_decision(reason: str = "No option reaches the threshold with what is known.") -> Decision:
    """Returns a decision without a choice."""
    return make_decision(choice=None, sensitivity=None, reason=reason)
