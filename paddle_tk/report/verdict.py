"""The decision in sentences: what is chosen, against which threshold, and what would change it."""

from __future__ import annotations

from dataclasses import dataclass

from paddle_tk.report.keys import Key, Keys
from paddle_tk.report.numbers import percent, score
from paddle_tk.report.plots import passes, score_or_range
from paddle_tk.report.texts import Texts
from paddle_tk.types import Decision, Flip, OptionScore

_FULL = {"score": 5.0, "weight": 1.0}  # what a change is held against, to find the smallest


@dataclass(frozen=True)
class SumRow:
    """An option's weighted sum: "4.075", "3.9 - 4.2", "✓ passes"."""

    key: Key
    total: str
    between: str
    passed: bool | None
    told: str
    chosen: bool


@dataclass(frozen=True)
class Verdict:
    """What stands first.

    Attributes:
        choice: The chosen option; None: there is no verdict.
        headline: In a few words.
        lead: Its sum against the threshold, and how far it is ahead.
        sentences: What would flip the choice, and how firm it is.
        reason: The decision's own words, in English.
        missing: What is missing, in words.
        sums: Every option's, the best first.
        threshold: Sum from which an option may be adopted; "" where nothing was decided.
    """

    choice: Key | None
    headline: str
    lead: tuple[str, ...]
    sentences: tuple[str, ...]
    reason: str
    missing: tuple[str, ...]
    sums: tuple[SumRow, ...]
    threshold: str


def make_verdict(decision: Decision | None, keys: Keys, t: Texts) -> Verdict:
    """Returns the verdict; a decision without a choice, or none at all, gives none."""
    if decision is None:
        return Verdict(None, t("only_measured"), (t("only_measured_why"),), (), "", (), (), "")
    sums = tuple(_sum_row(o, decision, keys, t) for o in decision.options)
    chosen = next((o for o in decision.options if o.name == decision.choice), None)
    if chosen is None:
        lead = (t("nothing_follows"),)
        return Verdict(
            None, t("no_verdict"), lead, (), decision.reason, decision.missing, sums, score(decision.threshold)
        )  # fmt: skip
    key = keys[chosen.name]
    return Verdict(
        key, t("choose", label=key.label), _lead(chosen, decision, keys, t), _firmness(chosen, decision, keys, t),
        decision.reason, decision.missing, sums, score(decision.threshold),
    )  # fmt: skip


def _sum_row(option: OptionScore, decision: Decision, keys: Keys, t: Texts) -> SumRow:
    total = t("unknown") if option.score is None else score(option.score)
    between = score_or_range(None, option.low, option.high) if option.low < option.high else ""
    chosen = option.name == decision.choice
    return SumRow(keys[option.name], total, between, option.passes, passes(option.passes, t), chosen)


def _lead(chosen: OptionScore, decision: Decision, keys: Keys, t: Texts) -> tuple[str, ...]:
    label, threshold = keys.label(chosen.name), score(decision.threshold)
    if chosen.score is None:
        said = [t("sum_range", label=label, low=score(chosen.low), high=score(chosen.high), threshold=threshold)]
    else:
        key = "sum_passes" if chosen.score >= decision.threshold else "sum_fails"
        said = [t(key, label=label, score=score(chosen.score), threshold=threshold)]
        others = [(o.score, o.name) for o in decision.options if o.name != chosen.name and o.score is not None]
        if others and len(others) == len(decision.options) - 1 and chosen.score > max(others)[0]:
            second, name = max(others)
            said.append(t("lead", gap=score(chosen.score - second), label=keys.label(name)))
    return tuple(said)


def _firmness(chosen: OptionScore, decision: Decision, keys: Keys, t: Texts) -> tuple[str, ...]:
    told = decision.sensitivity
    if told is None:
        return ()
    said = []
    by_weight, by_score = _smallest(told.flips, "weight"), _smallest(told.flips, "score")
    if by_score is not None:
        said.append(flip_sentence(by_score, keys, t))
    if by_weight is not None:
        said.append(flip_sentence(by_weight, keys, t))
    elif by_score is not None:
        said.append(t("flip_no_weight"))
    elif len(decision.options) > 1:
        said.append(t("flip_never"))
    if chosen.name in told.win_shares and len(told.win_shares) > 1:
        said.append(t("firm", share=percent(told.win_shares[chosen.name]), samples=f"{told.samples:,}"))
    return tuple(said)


def _smallest(flips: tuple[Flip, ...], kind: str) -> Flip | None:
    """Returns the possible flip of a kind with the smallest change."""
    possible = [(abs(f.needed - f.current), n) for n, f in enumerate(flips) if f.kind == kind and f.needed is not None]
    return flips[min(possible)[1]] if possible else None


def flip_sentence(flip: Flip, keys: Keys, t: Texts) -> str:
    """Returns a flip that is possible, in a sentence."""
    needed = flip.current if flip.needed is None else flip.needed
    return t(
        f"flip_{flip.kind}", criterion=t.criterion(flip.criterion), option=keys.label(flip.option),
        current=amount(flip, flip.current), needed=amount(flip, needed), to=keys.label(flip.to),
    )  # fmt: skip


def amount(flip: Flip, value: float) -> str:
    """Returns a score, or a weight in percent."""
    return score(value) if flip.kind == "score" else percent(value)


def ordered_flips(flips: tuple[Flip, ...]) -> list[Flip]:
    """Returns the possible ones first, the smallest change (as a share of what can be) before larger ones."""

    def change(flip: Flip) -> tuple[bool, float]:
        return flip.needed is None, abs((flip.needed or 0.0) - flip.current) / _FULL[flip.kind]

    return sorted(flips, key=change)
