"""Is one option better, or is it noise? Intervals of ratios from paired rounds and from counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, median, stdev

from scipy import stats

from paddle_tk.evidence import Comparison

NO_DIFFERENCE = "no difference"
UNDECIDED = "undecided"
# An interval whose ends are further apart, as a ratio, says too little for "no difference".
_WIDE = 1.5


@dataclass(frozen=True)
class Rule:
    """When a ratio is a difference.

    Attributes:
        confidence: Of the interval, 0.5..1.
        same_within: A ratio this close to 1 is no difference, whatever the interval.
    """

    confidence: float = 0.95
    same_within: float = 0.03


def compare_rounds(
    name: str,
    a: str,
    b: str,
    rounds_a: Sequence[Sequence[float]],
    rounds_b: Sequence[Sequence[float]],
    rule: Rule,
    *,
    higher_is_better: bool,
) -> Comparison:
    """Compares two options round by round, and within a round turn by turn, as they were timed side by side.

    A round's ratio is the median of its turns' ratios: what slows the machine for a while falls on both halves of a
    pair, but seldom on the medians of all turns alike. The interval is Student's t of the mean of the rounds' log
    ratios (n - 1 degrees of freedom), turned back into ratios and widened, where need be, to hold their median.

    Args:
        name: Of the figure.
        a: One option.
        b: The other.
        rounds_a: Of each round the median of each turn, one where it was timed at a stretch; above 0.
        rounds_b: The other's, of the same rounds and turns.
        rule: When a ratio is a difference.
        higher_is_better: Direction of the figure.

    Returns:
        The median of the rounds' ratios a / b, its interval, and a verdict: an option only where 1 lies outside of
        the interval and the ratio further from 1 than ``rule.same_within``; "undecided" where 1 lies inside of an
        interval whose ends are more than a factor of 1.5 apart.

    Raises:
        ValueError: Fewer than 2 rounds, unequal counts, or a value that is not above 0.
    """
    turns = [[len(values) for values in rounds] for rounds in (rounds_a, rounds_b)]
    least = min((min(values, default=0) for values in (*rounds_a, *rounds_b)), default=0)
    if turns[0] != turns[1] or len(rounds_a) < 2 or least <= 0:
        raise ValueError(f"{name}: needs two or more paired rounds above 0, got {list(rounds_a)} and {list(rounds_b)}")
    logs = [
        median(math.log(x / y) for x, y in zip(one, other, strict=True))
        for one, other in zip(rounds_a, rounds_b, strict=True)
    ]
    ratio = math.exp(median(logs))
    half = float(stats.t.ppf((1 + rule.confidence) / 2, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(mean(logs) - half), math.exp(mean(logs) + half)
    verdict, note = _judge(a, b, ratio, (min(low, ratio), max(high, ratio)), rule, higher_is_better)
    return Comparison(
        name, a, b, ratio, min(low, ratio), max(high, ratio), rule.confidence, len(logs), verdict, note
    )  # fmt: skip


def compare_shares(name: str, a: str, b: str, share_a: float, share_b: float, n: int, rule: Rule) -> Comparison:
    """Compares two shares of the same number of images, such as accuracies.

    The interval is the normal one of the log ratio of two independent proportions (Katz et al., Biometrics 34, 1978);
    the options see the same images, so it is wider than it had to be. Half an image is added to each count, so that a
    share of 0 has a logarithm.

    Args:
        name: Of the figure.
        a: One option.
        b: The other.
        share_a: Its share, 0..1; more is better.
        share_b: The other's.
        n: Images.
        rule: When a ratio is a difference; the interval alone decides.

    Raises:
        ValueError: A share outside of 0..1, or no image.
    """
    if not (0 <= share_a <= 1 and 0 <= share_b <= 1) or n < 1:
        raise ValueError(f"{name}: needs shares from 0 to 1 of at least one image, got {share_a}, {share_b}, n={n}")
    one, other = ((share * n + 0.5) / (n + 0.5) for share in (share_a, share_b))
    spread = math.sqrt(max(0.0, (1 - one) / (one * n)) + max(0.0, (1 - other) / (other * n)))
    half = NormalDist().inv_cdf((1 + rule.confidence) / 2) * spread
    ratio = one / other
    ends = (ratio * math.exp(-half), ratio * math.exp(half))
    verdict, note = _judge(a, b, ratio, ends, Rule(rule.confidence, 0.0), higher_is_better=True)
    return Comparison(name, a, b, ratio, *ends, rule.confidence, n, verdict, note)


def _judge(
    a: str, b: str, ratio: float, ends: tuple[float, float], rule: Rule, higher_is_better: bool
) -> tuple[str, str]:
    if ratio == 1 or abs(ratio - 1) <= rule.same_within:
        return NO_DIFFERENCE, f"the ratio is within {rule.same_within:.0%} of 1"
    if ends[0] <= 1 <= ends[1]:
        wide = ends[1] > _WIDE * ends[0]
        verdict = UNDECIDED if wide else NO_DIFFERENCE
        return verdict, f"1 lies in the {rule.confidence:.0%} interval" + (
            ", which is wide: more rounds" if wide else ""
        )
    return a if (ratio > 1) == higher_is_better else b, f"1 lies outside of the {rule.confidence:.0%} interval"
