# ruff: noqa: RUF001 (Chinese punctuation)
"""CREATE.md, PLANNING.md and measurements -> the decision, INITIAL.md and the report, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddle_tk.decide.community import load_community
from paddle_tk.decide.contradictions import wanted_versions
from paddle_tk.decide.matrix import build_scores, decide
from paddle_tk.decide.project import INITIAL
from paddle_tk.decide.requirements import Requirements
from paddle_tk.decide.spec import Spec, write_spec
from paddle_tk.environment.version_matrix import version_matrix
from paddle_tk.environment.version_table import Framework
from paddle_tk.evidence import NAME as MEASUREMENTS
from paddle_tk.evidence import Evidence, Option, option_label, read_evidence
from paddle_tk.files import sha256_bytes, write_bytes_atomic, write_json
from paddle_tk.report import Section, write_report
from paddle_tk.types import Decision

DECISION = "decision.json"
FILES = (INITIAL, DECISION, MEASUREMENTS, "report.html", "report.md", "report.json")


@dataclass(frozen=True)
class Measured:
    """A file of measurements that is what was written.

    Attributes:
        evidence: Its contents.
        payload: The file, byte for byte.
    """

    evidence: Evidence
    payload: bytes


def read_measured(path: Path) -> Measured:
    """Reads a file of measurements.

    Raises:
        ArtifactError: It is missing, of another kind or was changed after it was measured.
    """
    evidence = read_evidence(path)
    return Measured(evidence, path.read_bytes())


@dataclass(frozen=True)
class Weighing:
    """How scores become a choice.

    Attributes:
        weights: By criterion; they sum to 1.
        threshold: Sum from which an option may be adopted, 0..5.
        familiarity: The team's answers by framework or option, 0..5, beside those in CREATE.md, which they replace.
        community_file: Figures of the communities; None: the shipped ones.
        samples: Weights sampled for the sensitivity.
        seed: Of that sampling.
        margin: Least lead that counts.
    """

    weights: Mapping[str, float]
    threshold: float
    familiarity: Mapping[str, float]
    community_file: Path | None
    samples: int
    seed: int
    margin: float = 0.0


def considered(requirements: Requirements, evidence: Evidence | None) -> list[Option]:
    """Returns the options of PLANNING.md: as they were measured, else as they would be installed."""
    measured = {option.name: option for option in evidence.options} if evidence is not None else {}
    return [measured.get(name) or _planned(requirements, name) for name in requirements.planning.options]


def _planned(requirements: Requirements, name: str) -> Option:
    framework: Framework = "paddle" if name.startswith("paddle") else "torch"
    package = "paddlepaddle" if framework == "paddle" else "torch"
    precision = "int8" if name.endswith("-int8") else "fp32"
    rows = version_matrix(framework, "venv", wanted=wanted_versions(requirements.planning))
    version = next(row.version for row in rows if row.component == package)
    return Option(name, option_label(framework, version, precision), framework, version, precision)


def weigh(requirements: Requirements, evidence: Evidence | None, how: Weighing) -> Decision:
    """Weighs the options of PLANNING.md.

    Raises:
        BadInput: Answers, weights or the community's file cannot be used.
    """
    options = considered(requirements, evidence)
    answers = {name: points for name, points in requirements.create.team.familiarity.items() if points is not None}
    asked = {f: p for f, p in answers.items() if f in requirements.frameworks}
    scores = build_scores(
        evidence,
        options=options,
        familiarity={**asked, **how.familiarity},
        community=load_community(how.community_file),
        stated=requirements.planning.scores,
        criteria=tuple(how.weights),
    )
    pairs = [(option.name, option.label) for option in options]
    return decide(
        pairs, scores, weights=how.weights, threshold=how.threshold, samples=how.samples, seed=how.seed,
        margin=how.margin,
    )  # fmt: skip


def write_decision(
    folder: Path,
    requirements: Requirements,
    measured: Measured | None,
    how: Weighing,
    *,
    language: Literal["en", "zh"],
    title: str,
    commands: Sequence[str],
) -> tuple[Decision, Spec]:
    """Writes INITIAL.md, decision.json, the report and a copy of the measurements into an existing folder.

    Args:
        folder: Where.
        requirements: CREATE.md and PLANNING.md.
        measured: What was measured; None: nothing.
        how: Weights, threshold, answers.
        language: Of the report.
        title: Of the report; "": from the project's name.
        commands: What repeats it.

    Returns:
        The decision and the specification.

    Raises:
        BadInput: What is stated cannot be used, or the folder cannot be written to.
    """
    evidence = measured.evidence if measured is not None else None
    decision = weigh(requirements, evidence, how)
    spec = write_spec(
        requirements,
        decision,
        evidence,
        considered(requirements, evidence),
        commands=commands,
        measurements_sha256=sha256_bytes(measured.payload) if measured is not None else "",
    )
    write_bytes_atomic(folder / INITIAL, spec.text.encode())
    write_json(folder / DECISION, decision.to_dict())
    if measured is not None:
        write_bytes_atomic(folder / MEASUREMENTS, measured.payload)
    create = requirements.create
    write_report(
        folder,
        evidence,
        decision,
        language=language,
        title=title or create.project.name,
        team=create.team.name,
        extra=_sections(spec, language),
    )
    return decision, spec


def _sections(spec: Spec, language: Literal["en", "zh"]) -> list[Section]:
    words = _WORDS[language]
    checks = tuple((c.requirement, c.wanted, c.found, c.status, c.evidence) for c in spec.checks)
    none = words["none"]
    memory = tuple(
        (n.use, *(none if mb is None else f"{mb} MB" for mb in (n.peak_mb, n.margin_mb, n.total_mb)), n.origin, n.basis)
        for n in spec.memory
    )
    return [
        Section(words["acceptance"], (words["counts"],), tuple(words["checks"].split("|")), checks),
        Section(words["memory"], (words["megabytes"],), tuple(words["needs"].split("|")), memory),
    ]


_WORDS = {
    "en": {
        "acceptance": "Acceptance checklist",
        "counts": "A figure counts only for the model, the data and the device it was measured with.",
        "checks": "requirement|wanted|found|status|evidence",
        "memory": "Memory",
        "megabytes": "Megabytes of 2^20 bytes, rounded up, with a safety margin of 50 %.",
        "needs": "memory for|peak|margin|with margin|origin|basis",
        "none": "not measured",
    },
    "zh": {
        "acceptance": "验收清单",
        "counts": "测量值只对测量时所用的模型、数据和设备有效。",
        "checks": "要求|期望|实际|状态|依据",
        "memory": "内存",
        "megabytes": "单位为 2^20 字节（向上取整）。安全余量为 50 %。",
        "needs": "用途|峰值|余量|含余量|来源|依据",
        "none": "未测量",
    },
}
