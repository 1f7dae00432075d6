"""Evidence -> the weighted decision -> the report, in one folder."""

from __future__ import annotations

from pathlib import Path

from paddle_tk.config.schema import Config
from paddle_tk.decide.community import load_community
from paddle_tk.decide.matrix import build_scores, decide
from paddle_tk.evidence import NAME as MEASUREMENTS
from paddle_tk.evidence import Evidence, write_evidence
from paddle_tk.files import write_json
from paddle_tk.report import write_report
from paddle_tk.types import Decision

DECISION = "decision.json"


def decide_on(evidence: Evidence, config: Config) -> Decision:
    """Weighs what was measured by the config's criteria.

    Raises:
        BadInput: Answers, weights or the community's file cannot be used.
    """
    said = config.decide
    file = Path(said.community_file) if said.community_file is not None else None
    scores = build_scores(
        evidence, options=evidence.options, familiarity=said.familiarity, community=load_community(file), stated={},
        criteria=tuple(said.weights),
    )  # fmt: skip
    pairs = [(option.name, option.label) for option in evidence.options]
    return decide(
        pairs, scores, weights=said.weights, threshold=said.threshold, samples=said.samples, seed=said.seed,
        margin=said.margin,
    )  # fmt: skip


def write_comparison(folder: Path, evidence: Evidence, config: Config) -> Decision:
    """Writes measurements.json, decision.json and the report with its plots into an existing folder.

    Returns:
        The decision.
    """
    decision = decide_on(evidence, config)
    write_evidence(folder / MEASUREMENTS, evidence)
    write_json(folder / DECISION, decision.to_dict())
    model, data = config.model.name, config.data.name
    title = config.report.title or f"{model}, {data}"
    write_report(
        folder, evidence, decision, language=config.report.language, title=title, team=config.decide.team
    )  # fmt: skip
    return decision
