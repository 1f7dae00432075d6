"""Evidence and decision -> what HTML, Markdown and JSON show, in one language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paddle_tk.evidence import Comparison, Evidence
from paddle_tk.report.figures import FigureGroup, Owned, all_figures, anchor, figure_groups, flat
from paddle_tk.report.keys import Key, Keys
from paddle_tk.report.numbers import between, percent, ratio, score
from paddle_tk.report.plots import Plot, make_plots, score_or_range, winner
from paddle_tk.report.section import Section
from paddle_tk.report.texts import Texts
from paddle_tk.report.verdict import Verdict, amount, make_verdict, ordered_flips
from paddle_tk.types import Decision, Flip, Score

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ScoreCell:
    """One score: what it is, how it follows, the figures it stands on (title, anchor); ``best``: highest in its row."""

    key: Key
    criterion: str
    told: str
    between: str
    formula: str
    evidence: Pairs
    missing: tuple[str, ...]
    id: str
    best: bool


@dataclass(frozen=True)
class CriterionRow:
    """A criterion, its weight and a score of every option; None where there is no score."""

    name: str
    title: str
    weight: str
    cells: tuple[ScoreCell | None, ...]


@dataclass(frozen=True)
class ComparisonRow:
    """A comparison in words. ``at`` numbers the pairs; ``better`` is None where there is no difference."""

    at: int
    pair: str
    title: str
    ratio: str
    interval: str
    rounds: int
    finding: str
    better: Key | None
    note: str


@dataclass(frozen=True)
class FlipRow:
    """A change of one weight or score, and what it leads to."""

    change: str
    now: str
    needed: str
    then: str


@dataclass(frozen=True)
class View:
    """Everything a report shows."""

    title: str
    team: str
    keys: tuple[Key, ...]
    verdict: Verdict
    extra: tuple[Section, ...]
    criteria: tuple[CriterionRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    confidence: str
    flips: tuple[FlipRow, ...]
    pareto: tuple[tuple[Key, str], ...]
    groups: tuple[FigureGroup, ...]
    not_measured: tuple[tuple[str, str, str], ...]
    parity: Pairs
    environment: Pairs
    settings: Pairs
    command: str
    created: str
    plots: tuple[Plot, ...]

    def plots_of(self, section: str) -> tuple[Plot, ...]:
        """Returns the drawings below a heading."""
        return tuple(plot for plot in self.plots if plot.section == section)


def make_view(
    evidence: Evidence | None, decision: Decision | None, t: Texts, *, title: str, team: str, extra: Sequence[Section]
) -> View:
    """Returns everything a report shows."""
    keys = Keys(evidence, decision)
    figures = all_figures(evidence, decision)
    told = evidence or Evidence((), ())
    sensitivity = decision.sensitivity if decision else None
    return View(
        title=title or t("title"),
        team=team,
        keys=keys.all,
        verdict=make_verdict(decision, keys, t),
        extra=tuple(extra),
        criteria=_criteria(decision, figures, keys, t) if decision else (),
        comparisons=_comparisons(told.comparisons, keys, t),
        confidence=", ".join(dict.fromkeys(percent(c.confidence, 0) for c in told.comparisons)),
        flips=tuple(_flip(f, keys, t) for f in ordered_flips(sensitivity.flips)) if sensitivity else (),
        pareto=_pareto(decision, keys, t) if decision else (),
        groups=figure_groups(figures, keys, t),
        not_measured=_not_measured(told, keys, t),
        parity=tuple(flat(told.parity)),
        environment=tuple(flat(told.environment)),
        settings=tuple(flat(told.settings)),
        command=told.command,
        created=told.created,
        plots=make_plots(evidence, decision, t),
    )


def _criteria(decision: Decision, figures: Sequence[Owned], keys: Keys, t: Texts) -> tuple[CriterionRow, ...]:
    by_pair = {(s.criterion, s.option): s for s in decision.scores}
    rows = []
    for number, name in enumerate(decision.criteria, start=1):
        found = [by_pair.get((name, key.name)) for key in keys.all]
        known = {s.value for s in found if s is not None and s.value is not None}
        best = max(known) if len(known) > 1 else None
        cells = tuple(None if s is None else _cell(s, f"{number}-{keys[s.option].series}", best, figures, keys, t)
                      for s in found)  # fmt: skip
        rows.append(CriterionRow(name, t.criterion(name), percent(decision.weights[name], 0), cells))
    return tuple(rows)


def _cell(found: Score, id_: str, best: float | None, figures: Sequence[Owned], keys: Keys, t: Texts) -> ScoreCell:
    links = tuple((t.figure(m.name), anchor(figures, found.option, m)) for m in found.evidence)
    told = t("unknown") if found.value is None else score(found.value)
    possible = score_or_range(None, found.low, found.high) if found.low < found.high else ""
    is_best = best is not None and found.value == best
    title = t.criterion(found.criterion)
    return ScoreCell(keys[found.option], title, told, possible, found.formula, links, found.missing, id_, is_best)


def _comparisons(found: Sequence[Comparison], keys: Keys, t: Texts) -> tuple[ComparisonRow, ...]:
    pairs = list(dict.fromkeys((c.a, c.b) for c in found))
    return tuple(_comparison(c, pairs.index((c.a, c.b)), keys, t) for c in found)


def _comparison(one: Comparison, at: int, keys: Keys, t: Texts) -> ComparisonRow:
    best = winner(one)
    key = None if best is None else keys[best]
    if key is not None:
        finding = t("is_better", label=key.label)
    else:
        finding = {"no difference": t("no_difference"), "undecided": t("undecided")}.get(one.verdict, one.verdict)
    return ComparisonRow(
        at, t("pair", a=keys.label(one.a), b=keys.label(one.b)), t.figure(one.name), ratio(one.ratio),
        between(ratio(one.low), ratio(one.high)), one.n, finding, key, one.note,
    )  # fmt: skip


def _flip(flip: Flip, keys: Keys, t: Texts) -> FlipRow:
    change = t(f"change_{flip.kind}", criterion=t.criterion(flip.criterion), option=keys.label(flip.option))
    needed = t("never") if flip.needed is None else amount(flip, flip.needed)
    return FlipRow(change, amount(flip, flip.current), needed, keys.label(flip.to) if flip.to else "")


def _pareto(decision: Decision, keys: Keys, t: Texts) -> tuple[tuple[Key, str], ...]:
    if decision.sensitivity is None:
        return ()
    dominated = decision.sensitivity.dominated
    return tuple(
        (key, t("dominated", label=keys.label(dominated[key.name])) if key.name in dominated else t("on_front"))
        for key in keys.all
        if key.name in dominated or key.name in decision.sensitivity.pareto
    )


def _not_measured(evidence: Evidence, keys: Keys, t: Texts) -> tuple[tuple[str, str, str], ...]:
    """Returns figure, options and reason; options that lack a figure for the same reason share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for one in evidence.not_measured:
        rows.setdefault((t.figure(one.name), one.reason), []).append(keys.label(one.option))
    return tuple((title, t("comma").join(labels), reason) for (title, reason), labels in rows.items())
