"""The workers' answers -> figures with their samples, curves, and comparisons of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, combinations, pairwise
from statistics import median
from typing import Any

import numpy as np

from paddle_tk.compare.rounds import Answer, Effort
from paddle_tk.compare.statistics import Rule, compare_rounds, compare_shares
from paddle_tk.compare.turns import TRAINING_TURN
from paddle_tk.evidence import Comparison, Curve, Figure
from paddle_tk.runtime.timing import turn_sizes
from paddle_tk.types import Measurement

PER_ROUND = "per_round_median"
PER_TURN = "per_turn_median"
# Compared round by round; whether more is better.
ROUNDED = {
    "training_throughput": True,
    "training_throughput_bare": True,
    "inference_latency": False,
    "inference_throughput": True,
    "onnx_latency": False,
    "onnx_throughput": True,
    "peak_memory_inference": False,
    "import_time": False,
    "cold_start": False,
}


def round_figures(
    option: str, answers: Sequence[Answer], effort: Effort, conditions: Mapping[str, Any]
) -> list[Figure]:
    """Returns what the timed rounds of an option say.

    Args:
        option: Its name.
        answers: One of each round.
        effort: How much was measured.
        conditions: What else matters, told with every figure.
    """
    device, turns = effort.device, effort.turns_taken
    shared = {**conditions, "threads": effort.threads, "rounds": len(answers), "warmup": effort.warmup}

    def figure(name: str, unit: str, rounds: Sequence[Sequence[float]], **more: Any) -> Figure:
        return Figure(option, rounds_measurement(name, unit, rounds, device, {**shared, **more}, turns))

    found = [
        *(_loops(figure, answers) if effort.loops else ()),
        latency_figure(
            option, "inference_latency", [a["inference"]["latency_ms"] for a in answers], device, shared, turns
        ),
        figure(
            "inference_throughput",
            "images/s",
            [[1e3 * effort.throughput_batch / ms for ms in a["inference"]["throughput_ms"]] for a in answers],
            batch_size=effort.throughput_batch,
        ),
        figure("import_time", "s", [[a["import_seconds"]] for a in answers]),
        figure("cold_start", "s", [[a["inference"]["cold_start_seconds"]] for a in answers]),
    ]
    peaks = [a["inference"]["peak_mib"] for a in answers]
    if None not in peaks:
        found.append(figure("peak_memory_inference", "MiB", [[float(peak)] for peak in peaks], process="fresh, whole"))
    if effort.loops:
        found += gpu_figures(option, [a["fit"].get("gpu") for a in answers], device, shared)
    return found


def rounds_measurement(
    name: str,
    unit: str,
    rounds: Sequence[Sequence[float]],
    device: str,
    conditions: Mapping[str, Any],
    turns: int = 1,
) -> Measurement:
    """Returns the median of all samples, with the median of each round, and of its turns, in the conditions."""
    samples = tuple(float(value) for values in rounds for value in values)
    spread = {"lowest": min(samples), "highest": max(samples)}
    per_round = [float(median(values)) for values in rounds]
    said = {**conditions, **spread, PER_ROUND: per_round}
    if turns > 1 and min(len(values) for values in rounds) > 1:
        said[PER_TURN] = [_turn_medians(values, turns) for values in rounds]
    return Measurement(name, float(median(samples)), unit, len(samples), "measured", samples, device, said)


def _turn_medians(values: Sequence[float], turns: int) -> list[float]:
    ends = list(accumulate(turn_sizes(len(values), turns), initial=0))
    return [float(median(values[begin:end])) for begin, end in pairwise(ends)]


def latency_figure(
    option: str,
    name: str,
    rounds: Sequence[Sequence[float]],
    device: str,
    conditions: Mapping[str, Any],
    turns: int = 1,
) -> Figure:
    """Returns the latency of one image, with p95 and p99 in the conditions."""
    flat = np.array([value for values in rounds for value in values])
    tails = {f"p{share}_ms": float(np.percentile(flat, share)) for share in (50, 95, 99)}
    said = {**conditions, "batch_size": 1, **tails}
    return Figure(option, rounds_measurement(name, "ms", rounds, device, said, turns))


def _training(figure: Any, name: str, phase: str, answers: Sequence[Answer], how: str) -> Figure:
    rounds = [[1e3 * a[phase]["images_per_step"] / ms for ms in a[phase]["step_ms"]] for a in answers]
    made: Figure = figure(name, "images/s", rounds, batch_size=answers[0][phase]["images_per_step"], loop=how)
    return made


def _loops(figure: Any, answers: Sequence[Answer]) -> list[Figure]:
    ratios = [[median(a["fit"]["step_ms"]) / median(a["bare"]["step_ms"])] for a in answers]
    return [
        _training(figure, "training_throughput", "fit", answers, "high-level API"),
        _training(figure, "training_throughput_bare", "bare", answers, "bare loop"),
        figure("fit_overhead", "ratio", ratios),
    ]


def gpu_figures(
    option: str, watched: Sequence[Mapping[str, Any] | None], device: str, conditions: Mapping[str, Any]
) -> list[Figure]:
    """Returns utilisation and memory share of the GPU where every process that was watched has them."""
    found = []
    for name, key, bound in (
        ("gpu_utilisation", "utilisation", "> 0.90"),
        ("gpu_memory_share", "memory_share", "< 0.80"),
    ):
        rounds = [entry[key] for entry in watched if entry and entry.get(key)]
        if len(rounds) == len(watched):
            said = {**conditions, "bound": bound}
            found.append(Figure(option, rounds_measurement(name, "share", rounds, device, said)))
    return found


def speed_of_training(option: str, answer: Answer, effort: Effort, conditions: Mapping[str, Any]) -> Figure:
    """Returns images/s of the steps of one training to the end, in as many parts as there would be rounds.

    The first turn is warm-up. What differs from one start of a process to the next is not in the spread of the parts.

    Args:
        option: Its name.
        answer: Of the phase "train".
        effort: How much was measured.
        conditions: What else matters.
    """
    rates = [1e3 * images / ms for images, ms in zip(answer["step_images"], answer["step_ms"], strict=True)]
    turns = (len(rates) // TRAINING_TURN - 1) // effort.rounds  # in each part
    size = turns * TRAINING_TURN
    parts = [rates[TRAINING_TURN + i * size : TRAINING_TURN + (i + 1) * size] for i in range(effort.rounds)]
    said = {
        **conditions, "threads": effort.threads, "batch_size": max(answer["step_images"]), "loop": "high-level API",
        "process": "one, trained to the end", "warmup": TRAINING_TURN,
    }  # fmt: skip
    rounds = parts if turns >= 1 else [rates[1:] or rates]
    shown = rounds_measurement(
        "training_throughput", "images/s", rounds, effort.device, said, turns if effort.takes_turns else 1
    )
    return Figure(option, shown)


def training_figures(option: str, answer: Answer, target: float, conditions: Mapping[str, Any]) -> list[Figure]:
    """Returns what a training to the end says: accuracy, peak memory and, where it got there, the time to the target.

    Args:
        option: Its name.
        answer: Of the phase "train".
        target: Of the validation metric.
        conditions: What else matters.
    """
    said = {**conditions, "metric": answer["metric"], "epochs": len(answer["epochs"])}
    found = [
        Figure(option, Measurement("final_accuracy", answer["test_metric"], "share", answer["test_n"], "measured",
                                   (answer["test_metric"],), conditions={**said, "split": "test"})),
    ]  # fmt: skip
    peak = answer["peak_mib"]
    if peak is not None:
        more = {**said, "process": "fresh, whole"}
        measurement = Measurement("peak_memory_training", peak, "MiB", 1, "measured", (peak,), conditions=more)
        found.append(Figure(option, measurement))
    reached = next((e for e in answer["epochs"] if e["val_metric"] >= target), None)
    if reached is not None:
        more = {**said, "target": target, "reached_in_epoch": reached["epoch"], "split": "validation"}
        seconds = float(reached["seconds"])
        measurement = Measurement("time_to_target", seconds, "s", 1, "measured", (seconds,), conditions=more)
        found.append(Figure(option, measurement))
    return found


def training_curves(option: str, answer: Answer) -> list[Curve]:
    """Returns the training loss by update and the validation metric by epoch and by time."""
    losses, epochs = answer["losses"], answer["epochs"]
    values = tuple(float(e["val_metric"]) for e in epochs)
    metric = f"val_{answer['metric']}"
    return [
        Curve(option, "train_loss", tuple(float(i + 1) for i in range(len(losses))), tuple(losses), "update", "loss"),
        Curve(option, metric, tuple(float(e["epoch"]) for e in epochs), values, "epoch", answer["metric"]),
        Curve(option, f"{metric}_by_time", tuple(float(e["seconds"]) for e in epochs), values, "time (s)",
              answer["metric"]),
    ]  # fmt: skip


def compare_pairs(names: Sequence[str], figures: Sequence[Figure], rule: Rule) -> list[Comparison]:
    """Compares every two options in every figure that both have in the same number of rounds, and in accuracy.

    A measurement that stands for two options (a training that serves FP32 and INT8) is compared under the first only.
    """
    order = sorted(figures, key=lambda f: names.index(f.option) if f.option in names else len(names))
    owner = {id(f.measurement): f.option for f in reversed(order)}
    by = {(f.option, f.measurement.name): f.measurement for f in order if owner[id(f.measurement)] == f.option}
    found = []
    for a, b in combinations(names, 2):
        for name, higher in ROUNDED.items():
            one, other = by.get((a, name)), by.get((b, name))
            if one is None or other is None:
                continue
            rounds = _paired(one.conditions, other.conditions)
            if len(rounds[0]) == len(rounds[1]) >= 2 and min(v for r in rounds for turns in r for v in turns) > 0:
                found.append(compare_rounds(name, a, b, *rounds, rule, higher_is_better=higher))
        one, other = by.get((a, "final_accuracy")), by.get((b, "final_accuracy"))
        # An mAP is no share of the images: it has no such interval.
        if one is not None and other is not None and one.n == other.n and one.conditions.get("metric") == "top1":
            found.append(compare_shares("final_accuracy", a, b, one.value, other.value, one.n, rule))
    return found


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[list[float]], list[list[float]]]:
    """Returns both sides' rounds, by turns where both took the same."""
    by_turn = one.get(PER_TURN, []), other.get(PER_TURN, [])
    if by_turn[0] and [len(turns) for turns in by_turn[0]] == [len(turns) for turns in by_turn[1]]:
        return by_turn
    return [[value] for value in one.get(PER_ROUND, [])], [[value] for value in other.get(PER_ROUND, [])]
