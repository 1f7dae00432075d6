"""How firm a choice is: what would flip it, how often random weights lead to it, what dominates what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from paddle_tk.decide.formulas import TOP
from paddle_tk.types import Flip, Sensitivity

TIE = 1e-9  # sums this close are the same
_EDGE = 1e-12
_STEP = 1e-6  # how far beyond a flip it is looked who wins
_BLOCK = 2**17  # weights sampled at once: about 10 MB
_Table = Mapping[str, Mapping[str, float]]
_Array = npt.NDArray[np.float64]


def sensitivity(
    scores: _Table, weights: Mapping[str, float], *, choice: str, threshold: float, samples: int, seed: int
) -> Sensitivity:
    """Works out how firm a choice is, from scores that are all known.

    Args:
        scores: By option and criterion, 0..5.
        weights: By criterion; they sum to 1.
        choice: The option with the highest sum, which reaches the threshold.
        threshold: Sum from which an option may be adopted.
        samples: How many weights are sampled.
        seed: Of the sampling.
    """
    dominated = dominated_options(scores, weights)
    flips = [f for c in weights for f in _weight_flips(scores, weights, c, choice, threshold)]
    flips += [_score_flip(scores, weights, o, c, choice, threshold) for c in weights for o in _first(choice, scores)]
    return Sensitivity(
        flips=tuple(flips),
        win_shares=_win_shares(scores, weights, set(dominated), samples, seed),
        samples=samples,
        seed=seed,
        pareto=tuple(o for o in scores if o not in dominated),
        dominated=dominated,
    )


def _first(choice: str, scores: _Table) -> list[str]:
    return [choice, *(o for o in scores if o != choice)]


def total(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Returns the weighted sum, rounded once."""
    return math.fsum(weights[c] * scores[c] for c in weights)


def rescaled(weights: Mapping[str, float], criterion: str, value: float) -> dict[str, float]:
    """Returns the weights with one set to ``value`` and the others in their old proportion, summing to 1.

    Where the others are all 0, they share what is left equally.
    """
    others = [c for c in weights if c != criterion]
    rest = math.fsum(weights[c] for c in others)
    share = {c: weights[c] / rest if rest > _EDGE else 1 / len(others) for c in others}
    return {c: value if c == criterion else (1 - value) * share[c] for c in weights}


def _weight_flips(
    scores: _Table, weights: Mapping[str, float], criterion: str, choice: str, threshold: float
) -> Iterator[Flip]:
    """Yields the nearest flip below the present weight and the nearest above; one without a value if there is none.

    With weight t for the criterion, score s in it and weighted mean r of the other criteria, the sum is
    t s + (1 - t) r. The lead over another option, or over the threshold, is linear in t: it has one root at most.
    """
    current = weights[criterion]
    rest = rescaled(weights, criterion, 0.0) if len(weights) > 1 else {criterion: 0.0}
    means = {o: total(scores[o], rest) for o in scores}
    own, mean = scores[choice][criterion], means[choice]
    leads = [(mean - means[o], own - scores[o][criterion]) for o in scores if o != choice]
    leads.append((mean - threshold, own - threshold))  # (lead at weight 0, lead at weight 1)
    if len(weights) == 1:
        leads = []
    below = [min(r, 1.0) for a, b in leads if b > a and _EDGE < (r := a / (a - b)) < 1 + _EDGE]
    above = [max(r, 0.0) for a, b in leads if b < a and -_EDGE < (r := a / (a - b)) < 1 - _EDGE]
    found = [(max(below), -1)] if below else []
    found += [(min(above), 1)] if above else []
    for root, side in found:
        room = root if side < 0 else 1 - root
        beyond = rescaled(weights, criterion, root + side * min(_STEP, room / 2))
        to = _winner({o: total(scores[o], beyond) for o in scores}, choice, threshold)
        yield Flip("weight", criterion, "", current, root, to)
    if not found:
        yield Flip("weight", criterion, "", current, None)


def _score_flip(
    scores: _Table, weights: Mapping[str, float], option: str, criterion: str, choice: str, threshold: float
) -> Flip:
    """Returns how far the choice's score must fall, or another option's rise, for the choice to change."""
    current, weight = scores[option][criterion], weights[criterion]
    sums = {o: total(scores[o], weights) for o in scores}
    none = Flip("score", criterion, option, current, None)
    if weight <= _EDGE:
        return none
    if option == choice:
        lead = min(sums[choice] - max((sums[o] for o in sums if o != choice), default=threshold),
                   sums[choice] - threshold)  # fmt: skip
        needed, step = current - max(0.0, lead) / weight, -_STEP
    else:
        needed, step = current + (sums[choice] - sums[option]) / weight, _STEP
    if not _can_pass(needed, step):
        return none
    sums[option] += weight * (needed + step - current)
    return Flip("score", criterion, option, current, needed, _winner(sums, choice, threshold))


def _can_pass(needed: float, step: float) -> bool:
    """Whether a score can go beyond ``needed`` in the direction of ``step`` without leaving 0..5."""
    return _EDGE < needed <= TOP if step < 0 else 0 <= needed < TOP - _EDGE


def _winner(sums: Mapping[str, float], choice: str, threshold: float) -> str:
    """Returns the other option with the highest sum, "" where it does not reach the threshold."""
    others = [o for o in sums if o != choice]
    if not others:
        return ""
    best = max(others, key=lambda o: sums[o])
    return best if sums[best] >= max(threshold, sums[choice]) else ""


def dominated_options(scores: _Table, criteria: Mapping[str, float] | Sequence[str]) -> dict[str, str]:
    """Returns, by option, another one that is at least as good in every criterion and better in one."""
    found = {}
    for option, own in scores.items():
        better = (o for o, s in scores.items() if all(s[c] >= own[c] for c in criteria)
                  and any(s[c] > own[c] for c in criteria))  # fmt: skip
        by = max(better, key=lambda o: math.fsum(scores[o][c] for c in criteria), default=None)
        if by is not None:
            found[option] = by
    return found


def _win_shares(
    scores: _Table, weights: Mapping[str, float], dominated: set[str], samples: int, seed: int
) -> dict[str, float]:
    """Returns the share of weights, sampled uniformly from the simplex, in which each option has the highest sum.

    A tie counts for each of its options by an equal part. A dominated option has the highest sum for no weights.
    """
    rivals = [o for o in scores if o not in dominated]
    table: _Array = np.array([[scores[o][c] for c in weights] for o in rivals], dtype=np.float64)
    generator = np.random.default_rng(seed)
    wins: _Array = np.zeros(len(rivals))
    for start in range(0, samples, _BLOCK):
        drawn = generator.dirichlet(np.ones(len(weights)), size=min(_BLOCK, samples - start))
        sums = drawn @ table.T
        best = sums >= sums.max(axis=1, keepdims=True) - _EDGE
        wins += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
    shares = dict(zip(rivals, (wins / samples).tolist(), strict=True))
    return {o: shares.get(o, 0.0) for o in scores}
