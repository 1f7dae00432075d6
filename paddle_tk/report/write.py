"""Evidence and decision -> report.html, report.md, report.json and plots/*.svg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paddle_tk.evidence import Evidence
from paddle_tk.files import write_bytes_atomic, write_json
from paddle_tk.report.figures import all_figures
from paddle_tk.report.html import render_html
from paddle_tk.report.markdown import render_markdown
from paddle_tk.report.names import Language
from paddle_tk.report.raw import json_types, raw_data
from paddle_tk.report.section import Section
from paddle_tk.report.svg import standalone
from paddle_tk.report.templating import plot_style
from paddle_tk.report.texts import Texts
from paddle_tk.report.view import View, make_view
from paddle_tk.types import Decision

_SCHEMA = 1


@dataclass(frozen=True)
class ReportFiles:
    """What was written."""

    html: Path
    markdown: Path
    json: Path
    plots: tuple[Path, ...]


def write_report(
    folder: Path,
    evidence: Evidence | None,
    decision: Decision | None,
    *,
    language: Language,
    title: str,
    team: str = "",
    extra: Sequence[Section] = (),
) -> ReportFiles:
    """Writes the report into an existing folder.

    Args:
        folder: Where; plots go to its folder ``plots``.
        evidence: What was measured; None: nothing was.
        decision: What follows from it; None: nothing was decided, and no verdict is told.
        language: "en" or "zh", of the report's own sentences. Formulas and reasons stay as they came.
        title: Its heading; "": a general one.
        team: Whose decision it is, "" where nobody is named.
        extra: Facts that stand after the verdict.

    Returns:
        The files.

    Raises:
        BadInput: The disk is full or the folder cannot be written to.
    """
    t = Texts(language)
    view = make_view(evidence, decision, t, title=title, team=team, extra=extra)
    done = ReportFiles(
        folder / "report.html",
        folder / "report.md",
        folder / "report.json",
        tuple(folder / "plots" / f"{plot.name}.svg" for plot in view.plots),
    )
    for path, plot in zip(done.plots, view.plots, strict=True):
        write_bytes_atomic(path, standalone(plot.wide, plot_style()).encode())
    write_bytes_atomic(done.html, render_html(view, raw_data(evidence), t).encode())
    write_bytes_atomic(done.markdown, render_markdown(view, t).encode())
    write_json(done.json, json_types(report_dict(view, evidence, decision, language)))
    return done


def report_dict(view: View, evidence: Evidence | None, decision: Decision | None, language: str) -> dict[str, Any]:
    """Returns what report.json holds: everything the page shows but drawings and raw samples."""
    told = decision.to_dict() if decision else {}
    figures = [
        {"option": option, **{k: v for k, v in asdict(m).items() if k != "samples"}}
        for option, m in all_figures(evidence, decision)
    ]
    return {
        "schema": _SCHEMA,
        "title": view.title,
        "team": view.team,
        "language": language,
        "created": view.created,
        "command": view.command,
        "verdict": _verdict(view, decision),
        "sections": [asdict(section) for section in view.extra],
        "matrix": _matrix(told) if told else None,
        "comparisons": [asdict(c) for c in evidence.comparisons] if evidence else [],
        "sensitivity": told.get("sensitivity"),
        "figures": figures,
        "not_measured": [asdict(n) for n in evidence.not_measured] if evidence else [],
        "parity": evidence.parity if evidence else {},
        "environment": evidence.environment if evidence else {},
        "settings": evidence.settings if evidence else {},
        "raw_samples": "measurements.json" if evidence else None,
    }


def _verdict(view: View, decision: Decision | None) -> dict[str, Any]:
    return {
        "choice": decision.choice if decision else None,
        "headline": view.verdict.headline,
        "sentences": [*view.verdict.lead, *view.verdict.sentences],
        "reason": view.verdict.reason,
        "missing": view.verdict.missing,
        "options": [asdict(option) for option in decision.options] if decision else [],
    }


def _matrix(told: dict[str, Any]) -> dict[str, Any]:
    scores = [{**s, "evidence": [m["name"] for m in s["evidence"]]} for s in told["scores"]]
    return {"criteria": told["criteria"], "weights": told["weights"], "threshold": told["threshold"], "scores": scores}
