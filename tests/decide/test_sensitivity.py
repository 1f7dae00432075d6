from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paddle_tk.decide.sensitivity import dominated_options, rescaled, sensitivity
from paddle_tk.types import Flip, Sensitivity
from tests.decide.cases import PUBLISHED, WEIGHTS

TINY = 1e-7
Table = dict[str, dict[str, float]]
Problem = tuple[Table, dict[str, float], float, str]


def _worked_out(table: Table, weights: dict[str, float], choice: str, threshold: float = 0.0) -> Sensitivity:
    return sensitivity(table, weights, choice=choice, threshold=threshold, samples=500, seed=0)


def _flips(found: Sensitivity, kind: str, criterion: str, option: str = "") -> list[Flip]:
    return [f for f in found.flips if (f.kind, f.criterion, f.option) == (kind, criterion, option)]


def _sums(table: Table, weights: dict[str, float]) -> dict[str, float]:
    return {o: math.fsum(weights[c] * row[c] for c in weights) for o, row in table.items()}


def _chosen(table: Table, weights: dict[str, float], threshold: float) -> str:
    sums = _sums(table, weights)
    best = max(sums, key=lambda o: sums[o])
    return best if sums[best] >= threshold else ""


def test_familiarity_of_the_published_example_must_change_by_1_41666_to_flip_it() -> None:
    found = _worked_out(PUBLISHED, WEIGHTS, "torch", 3.5)
    (paddle,) = _flips(found, "score", "team_familiarity", "paddle")
    (torch,) = _flips(found, "score", "team_familiarity", "torch")
    assert paddle.needed == pytest.approx(3 + 0.425 / 0.30, abs=1e-12)
    assert paddle.needed == pytest.approx(4.4166666666666, abs=1e-12)
    assert torch.needed == pytest.approx(2.5833333333333, abs=1e-12)
    assert paddle.to == torch.to == "paddle"


def test_weights_of_the_published_example_flip_it_where_worked_out_by_hand() -> None:
    # Lead of torch at weight t of one criterion, the others in proportion: (1 - t) * lead of the others + t * own lead.
    # Familiarity: (1 - t) * 0.125 / 0.70 + t * 1.0 > 0 for every t: no flip.
    # Deployment: (1 - t) * 0.6 / 0.75 - t * 0.7 = 0 at t = 0.8 / 1.5 = 8/15.
    # Performance: (1 - t) * 0.425 / 0.75 + 0 > 0 below t = 1, where it is a tie with nothing beyond: no flip.
    # Community: (1 - t) * 0.125 / 0.80 + t * 1.5 > 0: no flip.
    found = _worked_out(PUBLISHED, WEIGHTS, "torch", 3.5)
    needed = {c: [f.needed for f in _flips(found, "weight", c)] for c in WEIGHTS}
    assert needed["team_familiarity"] == [None]
    assert needed["deployment_ease"] == [pytest.approx(8 / 15, abs=1e-12)]
    assert needed["performance"] == [None]
    assert needed["community"] == [None]
    assert _flips(found, "weight", "deployment_ease")[0].to == "paddle"
    for t, choice in ((8 / 15 - TINY, "torch"), (8 / 15 + TINY, "paddle")):
        assert _chosen(PUBLISHED, rescaled(WEIGHTS, "deployment_ease", t), 3.5) == choice


def test_a_flip_leads_to_nothing_when_the_sum_falls_below_the_threshold_first() -> None:
    table = {"a": {"x": 5.0, "y": 2.0}, "b": {"x": 1.0, "y": 1.0}}
    found = _worked_out(table, {"x": 0.5, "y": 0.5}, "a", 3.0)
    (weight,) = _flips(found, "weight", "x")
    (score,) = _flips(found, "score", "x", "a")
    assert (weight.needed, weight.to) == (pytest.approx(1 / 3), "")
    assert (score.needed, score.to) == (pytest.approx(4.0), "")


def test_flips_are_given_on_both_sides_when_there_is_one_on_each() -> None:
    table = {"a": {"x": 3.0, "y": 3.0}, "b": {"x": 5.0, "y": 0.0}, "c": {"x": 0.0, "y": 5.0}}
    found = _flips(_worked_out(table, {"x": 0.5, "y": 0.5}, "a"), "weight", "x")
    assert [(f.needed, f.to) for f in found] == [(pytest.approx(0.4), "c"), (pytest.approx(0.6), "b")]


def test_no_weight_flips_when_there_is_a_single_criterion() -> None:
    found = _worked_out({"a": {"x": 4.0}, "b": {"x": 3.0}}, {"x": 1.0}, "a", 2.0)
    assert [f.needed for f in _flips(found, "weight", "x")] == [None]
    assert found.win_shares == {"a": 1.0, "b": 0.0}


def test_scores_without_weight_flip_nothing() -> None:
    table = {"a": {"x": 4.0, "y": 0.0}, "b": {"x": 3.0, "y": 5.0}}
    found = _worked_out(table, {"x": 1.0, "y": 0.0}, "a")
    assert [f.needed for f in _flips(found, "score", "y", "b")] == [None]
    assert [(f.needed, f.to) for f in _flips(found, "weight", "y")] == [(pytest.approx(1 / 6), "b")]


def test_a_tie_at_the_end_of_the_scale_is_no_flip_as_nothing_lies_beyond() -> None:
    table = {"a": {"x": 2.0, "y": 3.0}, "b": {"x": 1.0, "y": 2.0}, "c": {"x": 3.0, "y": 0.0}}
    found = _worked_out(table, {"x": 0.5, "y": 0.5}, "a")
    assert [f.needed for f in _flips(found, "score", "x", "a")] == [None]  # a tie at 0
    assert [f.needed for f in _flips(found, "score", "x", "c")] == [None]  # a tie at 5
    assert [f.needed for f in _flips(found, "score", "y", "a")] == [pytest.approx(1.0)]


def test_rescaled_keeps_proportions_and_shares_equally_when_the_others_are_zero() -> None:
    assert rescaled({"x": 0.5, "y": 0.3, "z": 0.2}, "x", 0.0) == pytest.approx({"x": 0, "y": 0.6, "z": 0.4})
    assert rescaled({"x": 1.0, "y": 0.0, "z": 0.0}, "x", 0.4) == pytest.approx({"x": 0.4, "y": 0.3, "z": 0.3})


def test_win_shares_repeat_with_the_seed_and_split_ties() -> None:
    twins = {"a": {"x": 4.0, "y": 1.0}, "b": {"x": 4.0, "y": 1.0}, "c": {"x": 1.0, "y": 4.0}}
    one, two = (_worked_out(twins, {"x": 0.6, "y": 0.4}, "a").win_shares for _ in range(2))
    assert one == two
    assert one["a"] == one["b"]
    assert one["a"] + one["b"] == pytest.approx(0.5, abs=0.05)


def test_win_shares_match_the_exact_share_when_two_criteria_decide() -> None:
    # a wins where 3 t + 1 (1 - t) > 2: t > 1/2 of a uniform t; with b at 1.5 flat: t > 1/4.
    table = {"a": {"x": 3.0, "y": 1.0}, "b": {"x": 1.5, "y": 1.5}}
    found = sensitivity(table, {"x": 0.5, "y": 0.5}, choice="a", threshold=0, samples=200_000, seed=3)
    assert found.win_shares["a"] == pytest.approx(0.75, abs=0.005)
    assert (found.samples, found.seed) == (200_000, 3)


def test_pareto_leaves_out_only_what_another_option_beats() -> None:
    table = {"a": {"x": 4.0, "y": 3.0}, "b": {"x": 4.0, "y": 2.0}, "c": {"x": 1.0, "y": 5.0}, "d": {"x": 4.0, "y": 3.0}}
    found = _worked_out(table, {"x": 0.5, "y": 0.5}, "a")
    assert found.pareto == ("a", "c", "d")
    assert set(found.dominated) == {"b"}
    assert found.dominated["b"] in ("a", "d")


SCORE = st.integers(0, 50).map(lambda tenth: tenth / 10)


@st.composite
def _problem(draw: st.DrawFn) -> Problem:
    criteria = "wxyz"[: draw(st.integers(2, 4))]
    raw = [draw(st.integers(1, 20)) for _ in criteria]
    weights = {c: r / sum(raw) for c, r in zip(criteria, raw, strict=True)}
    table = {f"o{i}": {c: draw(SCORE) for c in criteria} for i in range(draw(st.integers(2, 4)))}
    sums = sorted(_sums(table, weights).values(), reverse=True)
    threshold = draw(st.integers(0, 30)) / 10

    assume(sums[0] - sums[1] > 1e-4 and sums[0] - threshold > 1e-4)
    return table, weights, threshold, _chosen(table, weights, threshold)


@settings(max_examples=150, deadline=None)
@given(_problem())
def test_every_flip_is_a_tie_and_the_choice_changes_just_beyond_it(problem: Problem) -> None:
    table, weights, threshold, choice = problem
    for flip in _worked_out(table, weights, choice, threshold).flips:
        if flip.needed is None:
            continue
        direction = math.copysign(1, flip.needed - flip.current)
        at, before, beyond = (_changed(table, weights, flip, flip.needed + direction * d) for d in (0, -TINY, TINY))
        sums = _sums(*at)
        rival = max([threshold, *(sums[o] for o in sums if o != choice)])
        assert sums[choice] == pytest.approx(rival, abs=1e-9)
        assert _chosen(*before, threshold) == choice
        assert _chosen(*beyond, threshold) != choice
        to = _chosen(*beyond, threshold)
        assert flip.to == to or _sums(*at).get(flip.to, threshold) == pytest.approx(rival, abs=1e-9)


def _changed(table: Table, weights: dict[str, float], flip: Flip, value: float) -> tuple[Table, dict[str, float]]:
    if flip.kind == "weight":
        return table, rescaled(weights, flip.criterion, value)
    return {o: {**row, flip.criterion: value} if o == flip.option else row for o, row in table.items()}, weights


@settings(max_examples=100, deadline=None)
@given(_problem())
def test_no_value_flips_the_choice_where_none_is_given(problem: Problem) -> None:
    table, weights, threshold, choice = problem
    found = _worked_out(table, weights, choice, threshold)
    for criterion in weights:
        known = sorted([0.0, 1.0, *(f.needed for f in _flips(found, "weight", criterion) if f.needed is not None)])
        low = max((k for k in known if k <= weights[criterion]), default=0.0)
        high = min((k for k in known if k >= weights[criterion]), default=1.0)
        for step in range(1, 20):
            t = low + (high - low) * step / 20
            assert _chosen(table, rescaled(weights, criterion, t), threshold) == choice


@settings(max_examples=60, deadline=None)
@given(_problem())
def test_win_shares_sum_to_one_and_a_dominated_option_has_none(problem: Problem) -> None:
    table, weights, threshold, choice = problem
    found = _worked_out(table, weights, choice, threshold)
    assert math.fsum(found.win_shares.values()) == pytest.approx(1, abs=1e-12)
    assert set(found.pareto) | set(found.dominated) == set(table)
    assert choice in found.pareto
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(weights)), size=500)
    sums = drawn @ np.array([[row[c] for c in weights] for row in table.values()]).T
    best = sums >= sums.max(axis=1, keepdims=True) - 1e-12
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    assert list(found.win_shares.values()) == pytest.approx(list(shares), abs=1e-12)
    for option, by in found.dominated.items():
        assert found.win_shares[option] == 0.0
        assert all(table[by][c] >= table[option][c] for c in weights)
        assert table[by] != table[option]
    assert dominated_options({o: table[o] for o in found.pareto}, weights) == {}
