"""Requirement for requirement: met, not met or not measured, and on what evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paddle_tk.decide.needs import Create, LatencyNeeds, MemoryNeeds, Planning
from paddle_tk.evidence import Evidence, Option
from paddle_tk.types import Decision, Measurement

Status = Literal["pass", "fail", "not measured"]
NOT_MEASURED: Status = "not measured"
_X86 = "x86-cpu"
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Check:
    """One line of the acceptance checklist.

    Attributes:
        requirement: What is asked for.
        wanted: The bound, with its unit.
        found: The figure, with its unit; "not measured" where there is none that counts.
        status: "pass", "fail" or "not measured".
        evidence: The figure's name, sample count, origin and conditions, or why there is none.
    """

    requirement: str
    wanted: str
    found: str
    status: Status
    evidence: str


@dataclass(frozen=True)
class Subject:
    """What is held against the requirements.

    Attributes:
        create: What is needed.
        planning: What is planned.
        evidence: What was measured; None: nothing.
        decision: The weighted matrix.
        option: The chosen option; None where there is no choice.
    """

    create: Create
    planning: Planning
    evidence: Evidence | None
    decision: Decision
    option: Option | None

    def find(self, name: str, option: str = "") -> tuple[Measurement | None, str]:
        """Returns a figure of the chosen option, or None and why there is none that counts for this project."""
        if self.option is None:
            return None, "no option was chosen"
        if self.evidence is None:
            return None, "no measurements were given"
        whose = option or self.option.name
        found = self.evidence.find(whose, name)
        if found is None:
            return None, f"{name} of {whose}: {self.evidence.reason(whose, name)}"
        other = _other_than_planned(self, found.conditions)
        return (None, f"{name} was measured with {other}") if other else (found, "")


def _other_than_planned(subject: Subject, conditions: Mapping[str, Any]) -> str:
    """Returns in what a measurement differs from the project, "" where it does not."""
    data = subject.create.data
    wanted = {
        "model": subject.planning.models[0].name,
        "dataset": data.name,
        "input_size": list(data.size),
        "metric": subject.create.accuracy.metric,
    }
    differing = []
    for key, want in wanted.items():
        found = conditions.get(key, want)
        found = list(found) if isinstance(found, tuple) else found
        if found != want:
            differing.append(f"{key.replace('_', ' ')} {_plain(found)}, wanted is {_plain(want)}")
    return "; ".join(differing)


def _plain(value: Any) -> str:
    return "x".join(str(v) for v in value) if isinstance(value, list) else str(value)


def acceptance(subject: Subject) -> list[Check]:
    """Returns the whole checklist; a figure of another machine, model or dataset counts for nothing."""
    create = subject.create
    return [
        _score(subject),
        _accuracy(subject),
        *(_latency(subject, limit) for limit in create.latency),
        *(_memory(subject, limit) for limit in create.memory),
        _training_memory(subject),
        _hours(subject),
        _export(subject),
        _parity(subject),
        *_int8(subject),
        *_not_in_software(subject),
    ]


def _score(subject: Subject) -> Check:
    threshold = subject.decision.threshold
    chosen = next((o for o in subject.decision.options if subject.option and o.name == subject.option.name), None)
    wanted = f">= {threshold:g} of 5"
    if chosen is None:
        return Check("weighted sum of the chosen option", wanted, NOT_MEASURED, NOT_MEASURED, subject.decision.reason)
    found = f"{chosen.score:.3f}" if chosen.score is not None else f"{chosen.low:.3f} to {chosen.high:.3f}"
    status: Status = NOT_MEASURED if chosen.passes is None else "pass" if chosen.passes else "fail"
    return Check("weighted sum of the chosen option", wanted, found, status, "decision.json")


def _accuracy(subject: Subject) -> Check:
    need = subject.create.accuracy
    name, wanted = f"accuracy ({need.metric}, test images)", f">= {need.minimum:g}"
    found, why = subject.find("final_accuracy")
    if found is None:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why)
    return Check(name, wanted, f"{found.value:.4f}", _met(found.value >= need.minimum), told(found))


def _latency(subject: Subject, limit: LatencyNeeds) -> Check:
    name = f"latency on {limit.device}, p{limit.percentile}, one image"
    wanted = f"<= {limit.maximum_ms:g} ms"
    found, why = subject.find("onnx_latency")
    if found is None:
        native, _ = subject.find("inference_latency")
        found = native
    if found is None:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why)
    elsewhere = _other_place(subject, found, limit.device)
    if elsewhere:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, elsewhere)
    value = _percentile(found, limit.percentile)
    if value is None:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, f"{found.name} has no p{limit.percentile}")
    return Check(name, wanted, f"{value:.3g} ms", _met(value <= limit.maximum_ms), told(found))


def _percentile(measurement: Measurement, percentile: int) -> float | None:
    key = f"p{percentile}_ms"
    if key in measurement.conditions:
        return float(measurement.conditions[key])
    return measurement.value if percentile == 50 else None


def _other_place(subject: Subject, measurement: Measurement, device: str) -> str:
    """Returns where a figure was measured if that is not ``device``, else ""."""
    environment = subject.evidence.environment if subject.evidence is not None else {}
    platform = str(environment.get("platform", "")).lower()
    here = measurement.device
    if here == "cpu" and ("x86_64" in platform or "amd64" in platform):
        here = _X86
    if here == device:
        return ""
    return f"{measurement.name} was measured on {measurement.conditions.get('cpu', here)}, not on {device}"


def _memory(subject: Subject, limit: MemoryNeeds) -> Check:
    name, wanted = f"memory on {limit.device}, predicting", f"<= {limit.maximum_mb:g} MB"
    found, why = subject.find("peak_memory_inference")
    why = why if found is None else _other_place(subject, found, limit.device)
    if found is None or why:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why)
    return Check(name, wanted, f"{found.value:.0f} MB", _met(found.value <= limit.maximum_mb), told(found))


def _training_memory(subject: Subject) -> Check:
    resources = subject.planning.resources
    gpu = bool(resources.gpus)
    limit = min(g.memory_gb for g in resources.gpus) if gpu else resources.ram_gb
    name = f"training fits into {'one GPU' if gpu else 'the RAM'}"
    wanted = f"<= {limit * 1024:.0f} MB"
    found, why = subject.find("peak_memory_training")
    if found is not None and gpu != found.device.startswith("gpu"):
        why = f"peak_memory_training was measured on {found.device}, the training is planned on a {_place(gpu)}"
    if found is None or why:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why)
    return Check(name, wanted, f"{found.value:.0f} MB", _met(found.value <= limit * 1024), told(found))


def _place(gpu: bool) -> str:
    return "GPU" if gpu else "CPU"


def _hours(subject: Subject) -> Check:
    budget, plan = subject.create.budget, subject.planning
    name, wanted = "hours of computing for one training", f"<= {budget.hours:g} h"
    found, why = subject.find("training_throughput")
    gpu = bool(plan.resources.gpus)
    if found is not None and gpu != found.device.startswith("gpu"):
        why = f"training_throughput was measured on {found.device}, the training is planned on a {_place(gpu)}"
    if found is None or why:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why)
    images, epochs = subject.create.data.images, plan.training.epochs
    hours = images * epochs / found.value / _SECONDS_PER_HOUR
    sum_ = f"estimated: {images} images x {epochs} epochs / {found.value:.4g} images/s; {told(found)}"
    return Check(name, wanted, f"{hours:.3g} h", _met(hours <= budget.hours), sum_)


def _export(subject: Subject) -> Check:
    found, why = subject.find("onnx_export")
    if found is None:
        return Check("export to ONNX", "succeeds", NOT_MEASURED, NOT_MEASURED, why)
    succeeded = found.value > 0
    return Check("export to ONNX", "succeeds", "yes" if succeeded else "no", _met(succeeded), told(found))


def _parity(subject: Subject) -> Check:
    bound = subject.create.export.parity
    name, wanted = "exported file computes the same", f"differs by <= {bound:g}"
    found, why = subject.find("onnx_parity")
    if found is None:
        return Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why)
    return Check(name, wanted, f"{found.value:.2g}", _met(found.value <= bound), told(found))


def _int8(subject: Subject) -> Iterator[Check]:
    need = subject.create.int8
    if not need.required:
        return
    found, why = subject.find("int8_available")
    if found is None:
        yield Check("INT8 model", "available", NOT_MEASURED, NOT_MEASURED, why)
    else:
        there = found.value > 0
        yield Check("INT8 model", "available", "yes" if there else "no", _met(there), told(found))
    base = subject.option.framework if subject.option is not None else ""
    name, wanted = "accuracy lost to INT8", f"<= {need.maximum_accuracy_drop:g}"
    int8, why = subject.find("int8_accuracy")
    fp32, why_fp32 = subject.find("final_accuracy", base)
    if int8 is None or fp32 is None:
        yield Check(name, wanted, NOT_MEASURED, NOT_MEASURED, why or why_fp32)
        return
    drop = fp32.value - int8.value
    evidence = f"{fp32.value:.4f} - {int8.value:.4f}; {told(int8)}"
    yield Check(name, wanted, f"{drop:.4f}", _met(drop <= need.maximum_accuracy_drop), evidence)


def _not_in_software(subject: Subject) -> Iterator[Check]:
    budget, start = subject.create.budget, subject.planning.start
    money = "prices are not known here; enter what is spent"
    yield Check("cost", f"<= {budget.amount:g} {budget.currency}", NOT_MEASURED, NOT_MEASURED, money)
    days = (budget.deadline - start).days
    time = f"{days} days from the start on {start}"
    yield Check("done in time", f"by {budget.deadline}", NOT_MEASURED, NOT_MEASURED, time)
    debug = "enter what is spent"
    yield Check("hours of debugging", f"<= {budget.debug_hours:g} h", NOT_MEASURED, NOT_MEASURED, debug)


def _met(condition: bool) -> Status:
    return "pass" if condition else "fail"


def told(measurement: Measurement) -> str:
    """Returns a figure's name, count, origin and the conditions that matter."""
    shown = ("model", "dataset", "split", "batch_size", "threads", "engine", "cpu")
    said = [f"{key.replace('_', ' ')} {measurement.conditions[key]}" for key in shown if key in measurement.conditions]
    place = f" on {measurement.device}" if measurement.device else ""
    tail = f" ({', '.join(said)})" if said else ""
    return f"{measurement.name}, n={measurement.n}, {measurement.origin}{place}{tail}"
