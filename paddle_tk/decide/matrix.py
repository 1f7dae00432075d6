"""The weighted decision matrix: scores of every option for every criterion, their sums, and what they allow to say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from paddle_tk.decide.answers import (
    FAMILIARITY,
    check_stated,
    familiarity_scores,
    missing_score,
    stated_score,
    unknown_name,
)
from paddle_tk.decide.community import CRITERION as COMMUNITY
from paddle_tk.decide.community import Community, community_scores
from paddle_tk.decide.formulas import TABLES, TOP
from paddle_tk.decide.parts import interval, number
from paddle_tk.decide.scores import measured_scores
from paddle_tk.decide.sensitivity import TIE, sensitivity
from paddle_tk.errors import BadInput
from paddle_tk.evidence import Evidence, Option
from paddle_tk.types import Decision, OptionScore, Score, Sensitivity

CRITERIA = (FAMILIARITY, "deployment_ease", "performance", COMMUNITY)
_SUM_TOLERANCE = 1e-6
_SHOWN = 3


def build_scores(
    evidence: Evidence | None,
    *,
    options: Sequence[Option],
    familiarity: Mapping[str, float],
    community: Community | None,
    stated: Mapping[str, Mapping[str, float]],
    criteria: Sequence[str] = CRITERIA,
) -> tuple[Score, ...]:
    """Scores every option for every criterion, as far as the evidence goes.

    Args:
        evidence: What was measured; None: nothing.
        options: What is compared.
        familiarity: The team's answers by option or framework, 0..5.
        community: Figures of the frameworks' communities; None: none.
        stated: Scores that the user gives outright, by option and criterion; they win over what was measured.
        criteria: What is scored; one that is none of ``CRITERIA`` must be stated, else it is missing.

    Raises:
        BadInput: An answer or a stated score for something that is not compared, or outside 0..5.
    """
    check_stated(stated, options, criteria)
    given = {(o, c): stated_score(o, c, float(v), o) for o, row in stated.items() for c, v in row.items()}
    found = {(s.option, s.criterion): s for s in familiarity_scores(familiarity, options)}
    if community is not None:
        found.update({(s.option, s.criterion): s for s in community_scores(community, options)})
    if evidence is not None:
        for criterion in TABLES:
            scored = measured_scores(evidence, criterion, [o.name for o in options])
            found.update({(s.option, s.criterion): s for s in scored})
    found.update(given)
    return tuple(found.get((o.name, c)) or missing_score(o.name, c, _why(c)) for o in options for c in criteria)


def _why(criterion: str) -> str:
    if criterion in TABLES:
        return "nothing was measured"
    return "no figures were given" if criterion == COMMUNITY else "it must be stated"


def decide(
    options: Sequence[tuple[str, str]],
    scores: Sequence[Score],
    *,
    weights: Mapping[str, float],
    threshold: float,
    samples: int = 10000,
    seed: int = 0,
    margin: float = 0.0,
) -> Decision:
    """Weighs the scores and chooses, where the evidence allows it.

    Args:
        options: Name and label of each.
        scores: One of each option for each criterion.
        weights: By criterion; they sum to 1.
        threshold: Sum from which an option may be adopted, 0..5.
        samples: Weights sampled for the sensitivity.
        seed: Of that sampling.
        margin: Least lead in the sum that counts; below it there is no choice. An exact tie has a rule of its own.

    Raises:
        BadInput: Weights that do not sum to 1, a score that is missing or given twice, an unknown option.
    """
    labels = _labels(options)
    weights = _checked_weights(weights)
    if not 0 <= threshold <= TOP:
        raise BadInput(f"the threshold is {threshold}", "set decide.threshold to a number from 0 to 5")
    table = _table(labels, scores, weights)
    sums = sorted((_sum(o, labels[o], table, weights, threshold) for o in labels), key=_order)
    choice, reason = _choose(sums, table, weights, threshold)
    if choice is not None and (near := _too_near(sums, choice, margin)):
        choice, reason = None, near
    missing = tuple(dict.fromkeys(f"{s.label}: {m}" for s in sums for c in weights for m in table[s.name, c].missing))
    firm = None
    if choice is not None:
        firm = _sensitivity([s.name for s in sums], table, weights, choice, threshold, samples, seed)
        reason += "" if firm else " How firm that is was not worked out, as scores are missing."
    ordered = tuple(table[s.name, c] for s in sums for c in weights)
    return Decision(tuple(sums), tuple(weights), weights, threshold, ordered, choice, reason, firm, missing)


def _labels(options: Sequence[tuple[str, str]]) -> dict[str, str]:
    labels = {name: label or name for name, label in options}
    if len(options) < 2 or len(labels) < len(options):
        names = ", ".join(name for name, _ in options) or "none"
        raise BadInput(f"a choice needs at least two options of different names, got {names}", "name them")
    return labels


def _checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    wrong = {c: w for c, w in weights.items() if not 0 <= w < math.inf}
    if wrong or not weights:
        shown = ", ".join(f"{c} {w}" for c, w in wrong.items()) or "none"
        raise BadInput(f"decide.weights must be numbers from 0, got {shown}", "give each criterion its share of 1")
    whole = math.fsum(weights.values())
    if abs(whole - 1) > _SUM_TOLERANCE:
        raise BadInput(f"decide.weights sum to {whole:g}", "change them so that they sum to 1")
    return {c: w / whole for c, w in weights.items()}


def _table(
    labels: Mapping[str, str], scores: Sequence[Score], weights: Mapping[str, float]
) -> dict[tuple[str, str], Score]:
    table: dict[tuple[str, str], Score] = {}
    for score in scores:
        key = score.option, score.criterion
        if score.option not in labels:
            raise unknown_name("scores", "option", score.option, labels)
        if score.criterion not in weights:
            raise unknown_name("scores", "criterion", score.criterion, weights)
        if key in table:
            raise BadInput(f"{score.option} has two scores for {score.criterion}", "give one")
        table[key] = score
    for option in labels:
        for criterion in weights:
            if (option, criterion) not in table:
                raise BadInput(f"{option} has no score for {criterion}", "give one, from 0 to 5")
    return table


def _sum(
    name: str, label: str, table: Mapping[tuple[str, str], Score], weights: Mapping[str, float], threshold: float
) -> OptionScore:
    """Adds up an option's scores; one without weight may be missing."""
    counted = [(w, table[name, c]) for c, w in weights.items() if w > 0]
    low = min(TOP, math.fsum(w * s.low for w, s in counted))
    high = min(TOP, math.fsum(w * s.high for w, s in counted))
    known = all(s.value is not None for _, s in counted)
    if known:
        low = high = min(TOP, math.fsum(w * (s.value or 0.0) for w, s in counted))
    passes = True if low >= threshold - TIE else False if high < threshold - TIE else None
    return OptionScore(name, label, low if known else None, low, high, passes)


def _order(option: OptionScore) -> tuple[float, float, str]:
    """Sorts by what is certain, then by what is possible; equal sums by name."""
    return -round(option.low, 9), -round(option.high, 9), option.name


def _choose(
    sums: Sequence[OptionScore],
    table: Mapping[tuple[str, str], Score],
    weights: Mapping[str, float],
    threshold: float,
) -> tuple[str | None, str]:
    """Returns the choice, or None, and why."""
    if all(s.passes is False for s in sums):
        best = max(sums, key=lambda s: s.high)
        return None, (
            f"No option reaches the threshold of {number(threshold)}: the highest sum, of {best.label}, is "
            f"{interval(best.low, best.high)}."
        )
    leaders = [a for a in sums if all(a.low >= b.high - TIE for b in sums if b is not a)]
    if not leaders:
        return None, _open(sums, table, weights)
    if len(leaders) > 1:
        return _tie(leaders, table, weights)
    first = leaders[0]
    if first.passes is None:
        return None, (
            f"{first.label} has the highest sum, {interval(first.low, first.high)}, but whether it reaches the "
            f"threshold of {number(threshold)} depends on what is missing. {_settle([first], table, weights)}"
        )
    return first.name, _verdict(first, [s for s in sums if s is not first], threshold)


def _too_near(sums: Sequence[OptionScore], choice: str, margin: float) -> str:
    """Returns why a lead is no difference; "" where it is one, or an exact tie that the rule for ties decided."""
    first = next(s for s in sums if s.name == choice)
    second = max((s for s in sums if s is not first), key=lambda s: s.high)
    lead = first.low - second.high
    if not TIE < lead < margin:
        return ""
    return (
        f"No difference: {first.label} is {number(lead)} of 5 ahead of {second.label}, less than the margin of "
        f"{number(margin)} from which a lead counts."
    )


def _verdict(first: OptionScore, others: Sequence[OptionScore], threshold: float) -> str:
    second = max(others, key=lambda s: s.high)
    reaches = f"and reaches the threshold of {number(threshold)}"
    if any(s.score is None for s in (first, *others)):
        return (
            f"{first.label} has the highest sum whatever the missing scores are: at least {number(first.low)} of 5, "
            f"against at most {number(second.high)} of {second.label}, {reaches}."
        )
    also = [s.label for s in others if s.passes]
    more = f" So {'does' if len(also) == 1 else 'do'} {', '.join(also)}." if also else " No other option does."
    lead = number(first.low - second.low)
    return (
        f"{first.label} has the highest sum, {number(first.low)} of 5, {lead} ahead of {second.label}, {reaches}.{more}"
    )


def _tie(
    leaders: Sequence[OptionScore], table: Mapping[tuple[str, str], Score], weights: Mapping[str, float]
) -> tuple[str | None, str]:
    """Decides between equal sums by the heaviest criterion in which they differ."""
    names = " and ".join(s.label for s in leaders)
    left = list(leaders)
    for criterion in sorted((c for c in weights if weights[c] > 0), key=lambda c: -weights[c]):
        best = max(table[s.name, criterion].low for s in left)
        left = [s for s in left if table[s.name, criterion].low >= best - TIE]
        if len(left) == 1:
            return left[0].name, (
                f"{names} have the same sum, {number(leaders[0].low)} of 5: a tie. {left[0].label} is chosen by the "
                f"rule for ties, the higher score in the criterion of the largest weight in which they differ: "
                f"{criterion}."
            )
    names = " and ".join(s.label for s in left)
    return None, f"{names} are equal in every criterion that has a weight: no difference, so no choice between them."


def _open(sums: Sequence[OptionScore], table: Mapping[tuple[str, str], Score], weights: Mapping[str, float]) -> str:
    """Says between which options the evidence does not decide."""
    sure = max(s.low for s in sums)
    rivals = [s for s in sums if s.high > sure - TIE]
    spans = ", ".join(f"{s.label} {interval(s.low, s.high)}" for s in rivals)
    return f"The evidence does not allow a choice; the sums overlap: {spans}. {_settle(rivals, table, weights)}"


def _settle(rivals: Sequence[OptionScore], table: Mapping[tuple[str, str], Score], weights: Mapping[str, float]) -> str:
    """Names the missing scores that leave the most open, in points of the sum."""
    gaps = [(w * (s.high - s.low), r.label, c) for r in rivals for c, w in weights.items() for s in [table[r.name, c]]]
    gaps = sorted((g for g in gaps if g[0] > TIE), key=lambda g: (-g[0], g[1], g[2]))
    shown = ", ".join(f"{c} of {label} ({number(points)} points open)" for points, label, c in gaps[:_SHOWN])
    more = f" and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
    return f"What would settle it, the largest first: {shown}{more}."


def _sensitivity(
    names: Sequence[str],
    table: Mapping[tuple[str, str], Score],
    weights: Mapping[str, float],
    choice: str,
    threshold: float,
    samples: int,
    seed: int,
) -> Sensitivity | None:
    """Works the sensitivity out where every score is known."""
    known = {o: {c: v for c in weights if (v := table[o, c].value) is not None} for o in names}
    if any(len(row) < len(weights) for row in known.values()):
        return None
    return sensitivity(known, weights, choice=choice, threshold=threshold, samples=samples, seed=seed)
