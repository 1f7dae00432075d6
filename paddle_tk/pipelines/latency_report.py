"""What the latency mode says: latency.json, a table, and the published targets held against the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from paddle_tk.environment.processor import cpu_model
from paddle_tk.files import MIB
from paddle_tk.measure.memory import ProcessFigures
from paddle_tk.pipelines.latency_bench import Accuracy, Times
from paddle_tk.pipelines.latency_candidates import Settings
from paddle_tk.pipelines.latency_choice import Choice
from paddle_tk.pipelines.latency_limits import LatencyLimits
from paddle_tk.pipelines.latency_trial import Trial

SCHEMA_VERSION = 1
COVERS = "predict(batch): the network, without reading, scaling and post-processing of images"
_GB_MIB = 1e9 / MIB
_SHOWN = 12  # candidates in the table
_FIGURES_WIDTH = 80  # characters of the table before the candidate's name


@dataclass(frozen=True)
class Finals:
    """What is measured of the chosen candidate besides.

    Attributes:
        rates: Samples of images/s, with one batch in flight and with several, and how it is run then.
        baseline: FP32 in ONNX Runtime with as many threads and default settings, timed in turn with ``paired``; None:
            there is no FP32 file.
        paired: The chosen candidate in those rounds.
        model_bytes: Of the chosen model file.
        float_bytes: Of the FP32 ONNX file; None: there is none.
    """

    rates: Sequence[tuple[Settings, tuple[float, ...]]]
    baseline: Times | None
    paired: Times | None
    model_bytes: int
    float_bytes: int | None


@dataclass(frozen=True)
class Facts:
    """What a report says besides.

    Attributes:
        model: Path of the chosen model, relative to the file.
        metric: Name of the main metric.
        given_precision: "fp32" or "int8": of the given model.
        test_name: What the labelled images are called, "" where there are none.
        warmup: Batches before the first that counts.
        left_out: What was not made or cannot be used, and why.
    """

    model: str
    metric: str
    given_precision: str
    test_name: str
    warmup: int
    left_out: Mapping[str, str]


def runner_settings(settings: Settings, warmup: int) -> dict[str, Any]:
    """Returns the options that a runner is started with, of JSON types."""
    return {**{key: value for key, value in settings.to_dict().items() if key != "input_size"}, "warmup": warmup}


def report(choice: Choice, limits: LatencyLimits, finals: Finals, facts: Facts) -> dict[str, Any]:
    """Returns what latency.json holds.

    Args:
        choice: What was found.
        limits: What was asked for.
        finals: What was measured of the chosen candidate besides.
        facts: What else is said.
    """
    chosen = choice.chosen
    own = chosen.candidate.settings
    return {
        "schema_version": SCHEMA_VERSION,
        "chosen": chosen.told,
        "model": facts.model,
        "model_sha256": chosen.candidate.model.source.sha256,
        "settings": {**own.to_dict(), "computes_in": chosen.times.arithmetic},
        "options": own.options(),
        "runner": runner_settings(own, facts.warmup),
        "limits": limits.to_dict(),
        **_chosen_figures(chosen, limits),
        "throughput": [_rate(run, samples) for run, samples in finals.rates],
        "accuracy": {
            "metric": facts.metric, facts.given_precision: choice.reference.value, "chosen": _value(chosen.accuracy),
            "n": choice.reference.n, "images": facts.test_name or "none with labels",
        },
        "published_targets": published_targets(choice, finals, limits),
        "candidates": [_entry(trial, trial is chosen, limits) for trial in choice.trials],
        "left_out": dict(facts.left_out),
        "cpu": cpu_model(),
        "origin": "measured",
    }  # fmt: skip


def _chosen_figures(chosen: Trial, limits: LatencyLimits) -> dict[str, Any]:
    assert chosen.alone is not None
    assert chosen.process is not None
    latency, judged = chosen.alone.latency, chosen.figures(limits.percentile)
    return {
        "judged": {
            "percentile": limits.percentile, "latency_ms": judged.latency_ms, "n": judged.n,
            "images_per_second": judged.images_per_second, "cpu_share": judged.cpu_share, "peak_mib": judged.peak_mib,
        },
        "p50_ms": latency.p50_ms,
        "p95_ms": latency.p95_ms,
        "p99_ms": latency.p99_ms,
        "n": latency.n,
        "latency": latency.to_dict(),
        "covers": COVERS,
        "peak_memory_mib": judged.peak_mib,
        "cold_start_seconds": chosen.process.cold_start_seconds,
        "first_inference_ms": chosen.process.first_inference_ms,
        "cpu_share": judged.cpu_share,
        "process": chosen.process.to_dict(),
    }  # fmt: skip


def published_targets(choice: Choice, finals: Finals, limits: LatencyLimits) -> list[dict[str, Any]]:
    """Returns the published targets, each "met", "not met" or "not measured", with the figure."""
    chosen = choice.chosen
    judged = chosen.figures(limits.percentile)
    size = None if finals.float_bytes is None else finals.model_bytes / finals.float_bytes
    ratio = _latency_ratio(finals)
    rate = max((median(samples) for _, samples in finals.rates), default=None)
    name = f"p{limits.percentile} of a batch of {chosen.candidate.settings.batch_size}"
    rows: list[tuple[str, str, float | None, str, float, bool]] = [
        ("size / 4", "model file / FP32 ONNX file", size, "ratio", 0.25, True),
        ("latency / 4", "p50 per image / that of FP32 in ONNX Runtime on as many threads", ratio, "ratio", 0.25, True),
        ("latency < 50 ms", name, judged.latency_ms, "ms", 50.0, True),
        ("throughput > 100 FPS", "the best of the rates above", rate, "images/s", 100.0, False),
        ("memory < 1 GB", "peak of a process that runs nothing else", judged.peak_mib, "MiB", _GB_MIB, True),
    ]
    return [
        {"target": target, "figure": figure, "unit": unit, "bound": bound, "what": what,
         "verdict": _verdict(figure, bound, at_most)}
        for target, what, figure, unit, bound, at_most in rows
    ]  # fmt: skip


def _verdict(figure: float | None, bound: float, at_most: bool) -> str:
    if figure is None:
        return "not measured"
    return "met" if (figure <= bound if at_most else figure >= bound) else "not met"


def _latency_ratio(finals: Finals) -> float | None:
    if finals.baseline is None or finals.paired is None:
        return None
    return finals.paired.latency.ratio(finals.baseline.latency) / finals.paired.latency.batch_size


def _rate(settings: Settings, samples: Sequence[float]) -> dict[str, Any]:
    return {
        "images_per_second": median(samples), "unit": "images/s", "n": len(samples), "samples": list(samples),
        "mode": "sync" if settings.in_flight == 1 else "async", "settings": settings.to_dict(),
    }  # fmt: skip


def _value(found: Accuracy | None) -> float | None:
    return None if found is None else found.value


def _entry(trial: Trial, chosen: bool, limits: LatencyLimits) -> dict[str, Any]:
    found = None if trial.screening is None else trial.figures(limits.percentile)
    return {
        "candidate": trial.told,
        "settings": trial.candidate.settings.to_dict(),
        "chosen": chosen,
        "reason": trial.reason
        or "the most accurate candidate inside all limits, the quickest of equally accurate ones",
        "screening": _times(trial.screening),
        "careful": _times(trial.careful),
        "alone": _times(trial.alone),
        "accuracy": _value(trial.accuracy),
        "accuracy_n": 0 if trial.accuracy is None else trial.accuracy.n,
        "peak_mib": None if found is None else found.peak_mib,
        "cold_start_seconds": _cold(trial.process),
    }


def _cold(process: ProcessFigures | None) -> float | None:
    return None if process is None else process.cold_start_seconds


def _times(times: Times | None) -> dict[str, Any] | None:
    if times is None:
        return None
    latency = times.latency
    return {
        "p50_ms": latency.p50_ms, "p95_ms": latency.p95_ms, "p99_ms": latency.p99_ms, "n": latency.n,
        "rounds": len(latency.per_round_median_ms), "images_per_second": times.images_per_second,
        "cpu_share": times.cpu_share, "peak_mib": times.peak_mib, "computes_in": times.arithmetic,
    }  # fmt: skip


def table(trials: Sequence[Trial], chosen: Trial | None) -> Table:
    """Returns the candidates for a human: the chosen one, then those measured with care, then the quickest."""
    shown = _shown(trials, chosen)
    made = Table("p50", "p95", "p99 ms", "n", "images/s", "MiB", "CPU", "accuracy", box=None, pad_edge=False)
    made.add_column("candidate", no_wrap=True)
    made.width = _FIGURES_WIDTH + max((len(trial.told) for trial in shown), default=0)  # also where the terminal is not
    for trial in shown:
        latency, times, worth = trial.times.latency, trial.times, _value(trial.accuracy)
        made.add_row(
            f"{latency.p50_ms:.2f}", f"{latency.p95_ms:.2f}", f"{latency.p99_ms:.2f}", str(latency.n),
            f"{times.images_per_second:.0f}", f"{times.peak_mib:.0f}", f"{100 * times.cpu_share:.0f} %",
            "" if worth is None else f"{worth:.4f}", trial.told + (" (chosen)" if trial is chosen else ""),
        )  # fmt: skip
    return made


def losers(trials: Sequence[Trial], chosen: Trial | None) -> list[str]:
    """Returns why the candidates of the table lost, line by line, and how many candidates there are besides."""
    shown = _shown(trials, chosen)
    found = [f"lost: {trial.told}: {trial.reason}" for trial in shown if trial is not chosen]
    hidden = len(trials) - len(shown)
    return [*found, *([f"{hidden} more candidates are in latency.json"] if hidden and chosen is not None else [])]


def _shown(trials: Sequence[Trial], chosen: Trial | None) -> list[Trial]:
    timed = [trial for trial in trials if trial.screening is not None]
    return sorted(timed, key=lambda trial: (trial is not chosen, trial.careful is None, trial.p50_ms))[:_SHOWN]


def lines(said: Mapping[str, Any]) -> list[str]:
    """Returns the rest of a report for a human, line by line.

    Args:
        said: What latency.json holds.
    """
    found = [
        f"p50 {said['p50_ms']:.2f}, p95 {said['p95_ms']:.2f}, p99 {said['p99_ms']:.2f} ms (n={said['n']}, alone in a "
        f"fresh process; {said['covers']})"
    ]
    for rate in said["throughput"]:
        flying = rate["settings"]["in_flight"]
        found.append(f"{rate['images_per_second']:.0f} images/s {rate['mode']}, {flying} in flight (n={rate['n']})")
    found.append(
        f"peak memory {said['peak_memory_mib']:.0f} MiB, cold start {said['cold_start_seconds']:.2f} s (n=1 each), CPU "
        f"{100 * said['cpu_share']:.0f} %"
    )
    for target in said["published_targets"]:
        figure = "" if target["figure"] is None else f": {target['figure']:.4g} {target['unit']}"
        found.append(f"published target {target['target']}: {target['verdict']}{figure}")
    found += [f"left out: {name}: {reason}" for name, reason in said["left_out"].items() if reason != "not asked for"]
    return found
