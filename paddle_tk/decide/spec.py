"""INITIAL.md: what is to be built, with which versions and memory, on which evidence, and what is still open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from paddle_tk.decide.acceptance import Check, Subject, acceptance
from paddle_tk.decide.contradictions import wanted_versions
from paddle_tk.decide.markdown import Link, bullets, code, md, quote, table
from paddle_tk.decide.memory_needs import MARGIN, MemoryNeed, memory_needs
from paddle_tk.decide.project import front_matter
from paddle_tk.decide.requirements import CREATE, PLANNING, Requirements
from paddle_tk.environment.version_matrix import VersionRow, version_matrix
from paddle_tk.environment.version_table import Framework, Stage
from paddle_tk.evidence import Evidence, Option
from paddle_tk.types import Decision

SCHEMA = 1
_STAGES: Mapping[Stage, str] = {"venv": "CPU, virtual environment", "docker": "GPU, Docker image"}
_LABELS = {"paddle": "PaddlePaddle", "torch": "PyTorch"}
_MEASURE = "python tools/compare.py -c configs/compare/resnet18.yaml --output outputs/compare"
_NO_PROSE = "Nothing was written below the front matter."


@dataclass(frozen=True)
class Spec:
    """The technical specification.

    Attributes:
        text: INITIAL.md.
        checks: The acceptance checklist.
        memory: The memory needed.
    """

    text: str
    checks: tuple[Check, ...]
    memory: tuple[MemoryNeed, ...]


def write_spec(
    requirements: Requirements,
    decision: Decision,
    evidence: Evidence | None,
    options: Sequence[Option],
    *,
    commands: Sequence[str],
    measurements_sha256: str,
) -> Spec:
    """Writes INITIAL.md's text.

    Args:
        requirements: CREATE.md and PLANNING.md.
        decision: The weighted matrix.
        evidence: What was measured; None: nothing.
        options: What was weighed.
        commands: What repeats it.
        measurements_sha256: Of the file of measurements; "" where there was none.
    """
    chosen = next((option for option in options if option.name == decision.choice), None)
    subject = Subject(requirements.create, requirements.planning, evidence, decision, chosen)
    frameworks = [chosen.framework] if chosen is not None else list(requirements.frameworks)
    matrices = _matrices(requirements, frameworks)
    checks, memory = acceptance(subject), memory_needs(subject)
    hashes = {CREATE: requirements.create_file.sha256, PLANNING: requirements.planning_file.sha256}
    if measurements_sha256:
        hashes["measurements.json"] = measurements_sha256
    sections = [
        f"# {md(requirements.create.project.name)}: technical specification",
        _summary(requirements, decision, chosen),
        _matrix(decision),
        _versions(matrices),
        _hardware(requirements, memory),
        _benchmarks(evidence, options),
        _checklist(checks),
        _plans(requirements),
        _words(requirements),
        _repeat(commands, hashes),
    ]
    head = front_matter(_head(requirements, decision, chosen, matrices, hashes))
    return Spec(head + "\n" + "\n\n".join(sections) + "\n", tuple(checks), tuple(memory))


def _matrices(requirements: Requirements, frameworks: Sequence[str]) -> dict[tuple[Framework, Stage], list[VersionRow]]:
    wanted = wanted_versions(requirements.planning)
    known = [cast(Framework, framework) for framework in frameworks]
    return {(f, stage): version_matrix(f, stage, wanted=wanted) for f in known for stage in _STAGES}


def _head(
    requirements: Requirements,
    decision: Decision,
    chosen: Option | None,
    matrices: Mapping[tuple[Framework, Stage], Sequence[VersionRow]],
    hashes: Mapping[str, str],
) -> dict[str, Any]:
    create, planning = requirements.create, requirements.planning
    versions = {s: _pins(rows) for (f, s), rows in matrices.items() if chosen is not None and f == chosen.framework}
    return {
        "schema": SCHEMA,
        "project": {
            "name": create.project.name,
            "task": create.task.kind,
            "framework": chosen.framework if chosen is not None else None,
            "model": planning.models[0].name,
            "dataset": {
                "name": create.data.name,
                "num_classes": create.data.classes,
                "image_size": list(create.data.size),
            },
            "batch_size": planning.training.batch_size,
            "epochs": planning.training.epochs,
            "learning_rate": planning.training.learning_rate,
            "versions": versions,
            "team": create.team.name,
        },
        "choice": decision.choice,
        "sha256": dict(hashes),
    }


def _pins(rows: Sequence[VersionRow]) -> dict[str, str]:
    """Returns versions by component; of the driver its least version."""
    return {row.component: row.version.removeprefix(">=") for row in rows if row.component != "driver (full)"}


def _summary(requirements: Requirements, decision: Decision, chosen: Option | None) -> str:
    create, planning = requirements.create, requirements.planning
    verdict = f"**{md(chosen.label)}**" if chosen is not None else "**No choice yet.**"
    sums = "; ".join(f"{o.label} {_sum(o.score, o.low, o.high)}" for o in decision.options)
    facts = [
        ("task", f"{create.task.kind}: {create.task.goal}"),
        ("data", f"{create.data.name}: {create.data.images} images, {create.data.classes} classes, "
                 f"network input {create.data.image_size} px"),
        ("model", ", ".join(model.name for model in planning.models) + " (the first is built)"),
        ("training", f"{planning.training.epochs} epochs, batch {planning.training.batch_size}, "
                     f"{planning.training.optimizer}, learning rate {planning.training.learning_rate:g}"),
        ("runs on", ", ".join(create.devices)),
        ("team", f"{create.team.name}, {create.team.size} people"),
        ("budget", f"{create.budget.hours:g} h of computing, {create.budget.debug_hours:g} h of debugging, "
                   f"{create.budget.amount:g} {create.budget.currency}, {planning.start} to {create.budget.deadline}"),
    ]  # fmt: skip
    missing = f"\n\nMissing:\n\n{bullets(decision.missing)}" if decision.missing else ""
    return (
        f"## Summary and choice\n\nFramework: {verdict} {md(decision.reason)}\n\n"
        f"Weighted sums, of 5, threshold {decision.threshold:g}: {md(sums)}.\n\n{table(('', 'what'), facts)}{missing}"
    )


def _sum(score: float | None, low: float, high: float) -> str:
    return f"{score:.3f}" if score is not None else f"{low:.3f} to {high:.3f} (scores are missing)"


def _matrix(decision: Decision) -> str:
    cells = {(score.option, score.criterion): score for score in decision.scores}
    rows = []
    for criterion in decision.criteria:
        found = [cells[option.name, criterion] for option in decision.options]
        shown = (f"{s.value:.3g}" if s.value is not None else f"{s.low:.3g} to {s.high:.3g}" for s in found)
        rows.append((criterion, f"{decision.weights[criterion]:g}", *shown))
    sums = (_sum(o.score, o.low, o.high) for o in decision.options)
    rows.append(("weighted sum", "", *sums))
    columns = ("criterion", "weight", *(o.label for o in decision.options))
    formulas = [(s.option, s.criterion, s.formula) for s in decision.scores]
    return (
        f"## Options and scores\n\n{table(columns, rows)}\n\n"
        f"How each score follows:\n\n{table(('option', 'criterion', 'formula'), formulas)}"
    )


def _versions(matrices: Mapping[tuple[Framework, Stage], Sequence[VersionRow]]) -> str:
    parts = ["## Framework and versions"]
    for (framework, stage), rows in matrices.items():
        cells = [(row.component, row.version, row.note or "-", _source(row.source)) for row in rows]
        title = f"### {_LABELS[framework]}: {_STAGES[stage]}"
        parts.append(f"{title}\n\n{table(('component', 'version', 'note', 'source'), cells)}")
    parts.append("These go together: no rule of paddle\\_tk/environment/versions.yaml is broken.")
    return "\n\n".join(parts)


def _source(text: str) -> str:
    return Link(text) if text.startswith("https://") else text


def _hardware(requirements: Requirements, memory: Sequence[MemoryNeed]) -> str:
    resources = requirements.planning.resources
    rows = [
        (n.use, _mb(n.peak_mb), _mb(n.margin_mb), _mb(n.total_mb), n.origin, n.basis)
        for n in memory
    ]  # fmt: skip
    columns = ("memory for", "peak", f"{MARGIN:.0%} margin", "with margin", "origin", "basis")
    gpus = [f"{g.count} x {g.name}, {g.memory_gb * 1024:.0f} MB each" for g in resources.gpus]
    there = [
        ("RAM", f"{resources.ram_gb * 1024:.0f} MB"),
        ("GPUs", "; ".join(gpus) or "none"),
        ("CUDA wanted", resources.cuda or "not stated"),
        ("NVIDIA driver", resources.driver or "not stated"),
    ]
    return (
        "## Hardware\n\nMegabytes of 2^20 bytes, rounded up. What was not measured or stated is not made up.\n\n"
        f"{table(columns, rows)}\n\nThere is (stated by the user):\n\n{table(('', 'what'), there)}"
    )


def _mb(value: int | None) -> str:
    return "not measured" if value is None else f"{value} MB"


def _benchmarks(evidence: Evidence | None, options: Sequence[Option]) -> str:
    names = [option.name for option in options]
    figures = [f for f in evidence.figures if f.option in names] if evidence is not None else []
    if evidence is None or not figures:
        return (
            "## Benchmarks\n\nNot measured: no measurements were given. Measure with\n\n"
            f"{code([_MEASURE])}\n\nand run tools/decide.py again with "
            "--measurements outputs/compare/measurements.json."
        )
    rows = [
        (f.option, f.measurement.name, f"{f.measurement.value:.4g}", f.measurement.unit, f.measurement.n,
         f.measurement.origin, f.measurement.device or "-")
        for f in figures
    ]  # fmt: skip
    parts = [
        f"## Benchmarks\n\nMeasured {md(evidence.created or 'at a time that is not stated')}{md(_with(evidence))}.",
        table(("option", "figure", "value", "unit", "n", "origin", "device"), rows),
    ]
    left = [(n.option, n.name, n.reason) for n in evidence.not_measured if n.option in names]
    if left:
        parts.append(f"Not measured:\n\n{table(('option', 'figure', 'reason'), left)}")
    return "\n\n".join(parts)


def _with(evidence: Evidence) -> str:
    found = {
        f"{c['model']} on {c['dataset']}"
        for c in (figure.measurement.conditions for figure in evidence.figures)
        if "model" in c and "dataset" in c
    }
    return f", {', '.join(sorted(found))}" if found else ""


def _checklist(checks: Sequence[Check]) -> str:
    count = {status: sum(c.status == status for c in checks) for status in ("pass", "fail", "not measured")}
    rows = [(c.requirement, c.wanted, c.found, c.status, c.evidence) for c in checks]
    told = ", ".join(f"{n} {status}" for status, n in count.items())
    return (
        f"## Acceptance checklist\n\n{told}. A figure counts only for the model, the data and the device it was "
        f"measured with.\n\n{table(('requirement', 'wanted', 'found', 'status', 'evidence'), rows)}"
    )


def _plans(requirements: Requirements) -> str:
    planning = requirements.planning
    risks = [(r.risk, r.likelihood, r.action) for r in planning.risks]
    people = f"{planning.resources.people} of {requirements.create.team.size} people work on it."
    return (
        f"## Risks\n\n{table(('risk', 'likelihood', 'what is done'), risks)}\n\n"
        f"## Resources\n\n{people} Machines: see Hardware.\n\n"
        f"## Decisions\n\n{bullets(planning.decisions)}"
    )


def _words(requirements: Requirements) -> str:
    parts = ["## In the team's words"]
    for name, file in ((CREATE, requirements.create_file), (PLANNING, requirements.planning_file)):
        parts.append(f"From {name}:\n\n{quote(file.prose) if file.prose else _NO_PROSE}")
    return "\n\n".join(parts)


def _repeat(commands: Sequence[str], hashes: Mapping[str, str]) -> str:
    return f"## How to repeat it\n\n{code(commands)}\n\n{table(('file', 'sha256'), hashes.items())}"
