from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk.decide.community import load_community
from paddle_tk.decide.matrix import CRITERIA, build_scores, decide
from paddle_tk.errors import BadInput
from paddle_tk.types import Decision, Score
from tests.decide.cases import (
    PADDLE,
    PADDLE_INT8,
    PUBLISHED,
    TORCH,
    WEIGHTS,
    all_known,
    evidence,
    known,
    open_score,
    pairs,
)

OPTIONS = (PADDLE, TORCH, PADDLE_INT8)
SCORE = st.integers(0, 50).map(lambda tenth: tenth / 10)


def _published(**change: float) -> Decision:
    return decide(
        [("paddle", "PaddlePaddle"), ("torch", "PyTorch")],
        all_known(PUBLISHED),
        weights=WEIGHTS,
        threshold=change.get("threshold", 3.5),
        samples=500,
    )


def test_decide_reproduces_the_published_example() -> None:
    decision = _published()
    torch, paddle = decision.options
    assert (torch.name, paddle.name, decision.choice) == ("torch", "paddle", "torch")
    assert torch.score == pytest.approx(4.075, abs=1e-12)
    assert paddle.score == pytest.approx(3.65, abs=1e-12)
    assert torch.passes is True
    assert paddle.passes is True
    assert decision.reason == (
        "PyTorch has the highest sum, 4.075 of 5, 0.425 ahead of PaddlePaddle, and reaches the threshold of 3.5. "
        "So does PaddlePaddle."
    )
    assert decision.missing == ()


def test_decision_becomes_plain_json_when_scores_are_built_from_evidence() -> None:
    scores = build_scores(
        evidence(), options=OPTIONS, familiarity={"paddle": 3, "torch": 4}, community=load_community(), stated={}
    )
    decision = decide([(o.name, o.label) for o in OPTIONS], scores, weights=WEIGHTS, threshold=3.5, samples=200)
    raw = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert [o["name"] for o in raw["options"]] == [o.name for o in decision.options]
    assert raw["choice"] == decision.choice
    assert all(s["evidence"] for s in raw["scores"])


def test_decide_refuses_a_choice_when_no_option_reaches_the_threshold() -> None:
    decision = _published(threshold=4.1)
    assert decision.choice is None
    assert decision.sensitivity is None
    assert [o.passes for o in decision.options] == [False, False]
    assert decision.reason == "No option reaches the threshold of 4.1: the highest sum, of PyTorch, is 4.075."


def test_decide_accepts_a_sum_that_equals_the_threshold_but_for_rounding() -> None:
    weights = {"x": 0.3, "y": 0.7}
    table = {o: dict.fromkeys(weights, s) for o, s in (("a", 3.3), ("b", 1.0))}
    decision = decide(pairs("ab"), all_known(table), weights=weights, threshold=3.3, samples=200)
    assert math.fsum(w * 3.3 for w in weights.values()) < 3.3
    assert decision.choice == "a"


def test_decide_breaks_a_tie_by_the_heaviest_criterion_and_says_so() -> None:
    table = {"a": {"x": 4.0, "y": 3.0}, "b": {"x": 3.0, "y": 4.5}}
    decision = decide(pairs("ba"), all_known(table), weights={"y": 0.4, "x": 0.6}, threshold=3, samples=200)
    assert decision.options[0].score == pytest.approx(decision.options[1].score)
    assert decision.choice == "a"
    assert "a tie" in decision.reason
    assert decision.reason.endswith("in which they differ: x.")


def test_decide_says_no_difference_when_options_are_equal_in_everything() -> None:
    table = {o: dict.fromkeys(WEIGHTS, 4.0) for o in ("paddle-1", "paddle-2")}
    decision = decide(pairs(list(table)), all_known(table), weights=WEIGHTS, threshold=3.5)
    assert decision.choice is None
    assert "no difference" in decision.reason


def test_decide_chooses_when_the_least_sum_is_at_least_every_other_largest() -> None:
    scores = [known("a", "x", 4.0), open_score("a", "y"), known("b", "x", 0.0), open_score("b", "y")]
    decision = decide(pairs("ab"), scores, weights={"x": 0.6, "y": 0.4}, threshold=2, samples=200)
    assert decision.choice == "a"
    assert decision.options[0].score is None
    assert (decision.options[0].low, decision.options[0].high) == pytest.approx((2.4, 4.4))
    assert decision.sensitivity is None
    assert "whatever the missing scores are: at least 2.4 of 5, against at most 2 of b" in decision.reason
    assert "not worked out" in decision.reason
    assert decision.missing == ("a: y (not asked)", "b: y (not asked)")


def test_decide_names_what_would_settle_it_when_sums_overlap() -> None:
    scores = [known("a", "x", 4.0), open_score("a", "y"), known("b", "x", 3.0), open_score("b", "y", 1, 2)]
    decision = decide(pairs("ab"), scores, weights={"x": 0.5, "y": 0.5}, threshold=2)
    assert decision.choice is None
    assert "the sums overlap: a 2 to 4.5, b 2 to 2.5" in decision.reason
    assert "the largest first: y of a (2.5 points open), y of b (0.5 points open)" in decision.reason


def test_decide_does_not_choose_when_the_threshold_depends_on_what_is_missing() -> None:
    scores = [known("a", "x", 4.0), open_score("a", "y"), known("b", "x", 0.0), known("b", "y", 0.0)]
    decision = decide(pairs("ab"), scores, weights={"x": 0.5, "y": 0.5}, threshold=3)
    assert decision.choice is None
    assert decision.options[0].passes is None
    assert "threshold of 3 depends on what is missing" in decision.reason


def test_decide_ignores_a_missing_score_when_its_weight_is_zero() -> None:
    scores = [known("a", "x", 4.0), open_score("a", "y"), known("b", "x", 3.0), known("b", "y", 5.0)]
    decision = decide(pairs("ab"), scores, weights={"x": 1.0, "y": 0.0}, threshold=3)
    assert decision.choice == "a"
    assert decision.options[0].score == 4.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights": {"x": 0.5, "y": 0.4}}, "sum to 0.9"),
        ({"weights": {"x": 1.5, "y": -0.5}}, "y -0.5"),
        ({"weights": {"x": math.nan, "y": 1.0}}, "x nan"),
        ({"weights": {}}, "got none"),
        ({"threshold": 6.0}, "threshold is 6"),
        ({"options": [("a", "A")]}, "at least two options"),
        ({"options": [("a", "A"), ("a", "B")]}, "different names"),
        ({"scores": [("a", "x"), ("a", "y"), ("b", "x")]}, "b has no score for y"),
        ({"scores": [("a", "x"), ("a", "x")]}, "two scores for x"),
        ({"scores": [("c", "x")]}, "unknown option 'c'"),
        ({"scores": [("a", "xx")]}, "unknown criterion 'xx'"),
    ],
)
def test_decide_refuses_input_when_it_does_not_fit(change: dict, told: str) -> None:
    asked = {"options": pairs("ab"), "weights": {"x": 0.5, "y": 0.5}, "threshold": 3.0,
             "scores": [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")], **change}  # fmt: skip
    scores = [known(o, c, 3.0) for o, c in asked["scores"]]
    with pytest.raises(BadInput, match=told):
        decide(asked["options"], scores, weights=asked["weights"], threshold=asked["threshold"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(SCORE, min_size=3, max_size=3), min_size=2, max_size=4), st.randoms())
def test_decide_does_not_depend_on_the_order_of_options(rows: list[list[float]], random: Random) -> None:
    weights = {"x": 0.5, "y": 0.3, "z": 0.2}
    table = {f"o{i}": dict(zip(weights, row, strict=True)) for i, row in enumerate(rows)}
    shuffled = list(table)
    random.shuffle(shuffled)
    one = decide(pairs(list(table)), all_known(table), weights=weights, threshold=2.5, samples=200)
    other = decide(
        pairs(shuffled), all_known({o: table[o] for o in shuffled}), weights=weights, threshold=2.5, samples=200
    )
    assert one == other


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(SCORE, min_size=3, max_size=3), min_size=2, max_size=3),
    st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4),
    st.floats(0, 5),
)
def test_decide_never_chooses_wrongly_when_scores_are_missing(
    rows: list[list[float]], gaps: set[tuple[int, int]], threshold: float
) -> None:
    weights = {"x": 0.5, "y": 0.3, "z": 0.2}
    table = {f"o{i}": dict(zip(weights, row, strict=True)) for i, row in enumerate(rows)}
    open_cells = [(f"o{i}", "xyz"[j]) for i, j in gaps if i < len(rows)]
    scores = [open_score(o, c) if (o, c) in open_cells else known(o, c, table[o][c]) for o in table for c in weights]
    decision = decide(pairs(list(table)), scores, weights=weights, threshold=threshold, samples=200)
    for filled in itertools.product((0.0, 2.5, 5.0), repeat=len(open_cells)):
        truth = {o: dict(row) for o, row in table.items()}
        for (option, criterion), value in zip(open_cells, filled, strict=True):
            truth[option][criterion] = value
        sums = {o: sum(weights[c] * truth[o][c] for c in weights) for o in truth}
        for option in decision.options:
            assert option.low - 1e-9 <= sums[option.name] <= option.high + 1e-9
            if option.passes is not None:
                assert option.passes == (sums[option.name] >= threshold - 1e-9)
        if decision.choice is not None:
            assert sums[decision.choice] >= max(sums.values()) - 1e-9
            assert sums[decision.choice] >= threshold - 1e-9


def test_build_scores_fills_every_cell_when_nothing_is_known() -> None:
    scores = build_scores(None, options=OPTIONS, familiarity={}, community=None, stated={})
    assert [(s.option, s.criterion) for s in scores] == [(o.name, c) for o in OPTIONS for c in CRITERIA]
    assert all((s.value, s.low, s.high) == (None, 0.0, 5.0) and s.missing for s in scores)


def test_familiarity_prefers_the_option_and_falls_back_to_its_framework() -> None:
    scores = build_scores(
        None, options=OPTIONS, familiarity={"paddle": 2, "paddle-int8": 1}, community=None, stated={},
        criteria=("team_familiarity",),
    )  # fmt: skip
    assert [s.value for s in scores] == [2.0, None, 1.0]
    assert scores[0].evidence[0].origin == "stated by the user"
    assert "no answer for torch" in scores[1].missing[0]


def test_stated_scores_win_over_measurements_and_say_so() -> None:
    scores = build_scores(
        evidence(), options=OPTIONS, familiarity={"torch": 4}, community=None,
        stated={"torch": {"performance": 1.5, "team_familiarity": 2.0}},
    )  # fmt: skip
    found = {(s.option, s.criterion): s for s in scores}
    assert found["torch", "performance"].value == 1.5
    assert found["torch", "team_familiarity"].value == 2.0
    assert found["torch", "performance"].evidence[0].origin == "stated by the user"
    assert found["paddle", "performance"].evidence[0].origin == "measured"


def test_a_criterion_of_the_users_own_is_missing_when_it_is_not_stated() -> None:
    scores = build_scores(
        None, options=(PADDLE, TORCH), familiarity={}, community=None, stated={"paddle": {"licence": 5.0}},
        criteria=("licence",),
    )  # fmt: skip
    assert [s.value for s in scores] == [5.0, None]
    assert scores[1].missing == ("licence (it must be stated)",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"familiarity": {"pytorch": 4}}, "unknown name 'pytorch'.*did you mean 'torch'"),
        ({"familiarity": {"torch": 5.5}}, "torch is 5.5"),
        ({"familiarity": {"torch": math.nan}}, "torch is nan"),
        ({"familiarity": {"torch": True}}, "torch is True"),
        ({"stated": {"tensorflow": {"performance": 3.0}}}, "unknown option 'tensorflow'"),
        ({"stated": {"torch": {"speed": 3.0}}}, "stated scores of torch: unknown name 'speed'"),
        ({"stated": {"torch": {"performance": -1.0}}}, "performance is -1"),
    ],
)
def test_build_scores_refuses_answers_when_they_fit_nothing(change: dict, told: str) -> None:
    asked = {"familiarity": {}, "stated": {}, **change}
    with pytest.raises(BadInput, match=told):
        build_scores(None, options=OPTIONS, community=None, **asked)


def test_decide_uses_the_weights_proportions_when_they_sum_to_one_only_nearly() -> None:
    table = {o: dict.fromkeys(WEIGHTS, 5.0) for o in ("a", "b")}
    table["b"]["community"] = 4.0
    weights = {c: w * (1 + 5e-7) for c, w in WEIGHTS.items()}
    decision = decide(pairs("ab"), all_known(table), weights=weights, threshold=3.5, samples=200)
    assert decision.options[0].score == 5.0
    assert math.fsum(decision.weights.values()) == pytest.approx(1, abs=1e-15)


def test_scores_in_the_decision_follow_the_order_of_options_and_criteria() -> None:
    scores: list[Score] = [replace(s, formula="f") for s in all_known(PUBLISHED)]
    decision = decide(pairs(["paddle", "torch"]), scores[::-1], weights=WEIGHTS, threshold=3.5, samples=200)
    assert [(s.option, s.criterion) for s in decision.scores] == [(o, c) for o in ("torch", "paddle") for c in WEIGHTS]


@pytest.mark.parametrize(("margin", "choice"), [(0.0, "torch"), (0.42, "torch"), (0.43, None)])
def test_decide_chooses_nobody_when_the_lead_is_smaller_than_the_margin(margin: float, choice: str | None) -> None:
    pair = [("paddle", "PaddlePaddle"), ("torch", "PyTorch")]
    decision = decide(pair, all_known(PUBLISHED), weights=WEIGHTS, threshold=3.5, samples=500, margin=margin)
    assert decision.choice == choice
    assert decision.reason.startswith("No difference: PyTorch is 0.425") is (choice is None)
    assert (decision.sensitivity is None) is (choice is None)
