from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from paddle_tk.compare.statistics import NO_DIFFERENCE, UNDECIDED, Rule, compare_rounds, compare_shares
from paddle_tk.evidence import Comparison

RULE = Rule(0.95, 0.03)


def compare(a: Sequence[float], b: Sequence[float], *, higher: bool = True) -> Comparison:
    """One turn in each round."""
    return compare_rounds("x", "a", "b", [[v] for v in a], [[v] for v in b], RULE, higher_is_better=higher)


def test_compare_rounds_says_no_difference_when_the_ratio_is_within_three_percent() -> None:
    found = compare([100, 101, 102], [99, 100, 101])
    assert found.verdict == NO_DIFFERENCE
    assert abs(found.ratio - 1) < 0.03


def test_compare_rounds_says_no_difference_when_one_lies_in_the_interval() -> None:
    found = compare([100, 112, 98, 111], [100, 100, 100, 100])
    assert found.low < 1 < found.high
    assert found.verdict == NO_DIFFERENCE
    assert "interval" in found.note


def test_compare_rounds_says_undecided_when_the_interval_is_too_wide_for_a_verdict() -> None:
    found = compare([100, 300, 60, 250], [100, 100, 100, 100])
    assert found.low < 1 < found.high
    assert found.verdict == UNDECIDED
    assert "more rounds" in found.note


@pytest.mark.parametrize(("higher", "winner"), [(True, "a"), (False, "b")])
def test_compare_rounds_names_the_better_option_when_it_is_clear(higher: bool, winner: str) -> None:
    found = compare([200, 202, 198, 201], [100, 101, 99, 100], higher=higher)
    assert found.verdict == winner
    assert found.low <= found.ratio <= found.high
    assert math.isclose(found.ratio, 2.0, rel_tol=0.01)
    assert found.n == 4


def test_compare_rounds_interval_holds_the_true_ratio_at_its_confidence_when_rounds_are_noisy() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        a = np.exp(rng.normal(math.log(1.2), 0.1, 5))
        b = np.exp(rng.normal(0.0, 0.1, 5))
        found = compare(list(a), list(b))
        held += found.low <= 1.2 <= found.high
    assert 0.92 <= held / 400 <= 0.99


def test_compare_rounds_pairs_turns_when_the_machine_changes_within_a_round() -> None:
    machine = np.exp(np.random.default_rng(1).normal(0, 0.5, (3, 9)))  # the same for both in a turn
    a, b = (2.0 * machine).tolist(), machine.tolist()
    found = compare_rounds("x", "a", "b", a, b, RULE, higher_is_better=True)
    assert (found.ratio, found.low, found.high) == pytest.approx((2, 2, 2))
    a[1][4] *= 50
    assert compare_rounds("x", "a", "b", a, b, RULE, higher_is_better=True).ratio == pytest.approx(2)


def test_compare_rounds_refuses_when_turns_do_not_pair() -> None:
    with pytest.raises(ValueError, match="paired rounds"):
        compare_rounds("x", "a", "b", [[1, 2], [1, 2]], [[1, 2], [1]], RULE, higher_is_better=True)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1, 2], [1, 2, 3]), ([0, 1], [1, 1])])
def test_compare_rounds_refuses_when_rounds_do_not_pair(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="paired rounds"):
        compare(a, b)


def test_compare_shares_needs_more_than_chance_when_accuracies_differ() -> None:
    assert compare_shares("acc", "a", "b", 0.98, 0.975, 359, RULE).verdict == NO_DIFFERENCE
    assert compare_shares("acc", "a", "b", 0.98, 0.80, 359, RULE).verdict == "a"
    assert compare_shares("acc", "a", "b", 0.0, 0.9, 359, RULE).verdict == "b"
    assert compare_shares("acc", "a", "b", 0.9, 0.9, 359, RULE).ratio == 1


def test_compare_shares_refuses_when_a_share_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        compare_shares("acc", "a", "b", 98.0, 0.9, 359, RULE)
