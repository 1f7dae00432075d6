from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk.decide.formulas import IN_WORDS, TABLES
from paddle_tk.decide.parts import levelled
from paddle_tk.decide.scores import measured_scores
from paddle_tk.evidence import Comparison, Evidence, Option
from paddle_tk.types import Score
from tests.decide.cases import MEASURED, PADDLE, PADDLE_INT8, TORCH, evidence

NAMES = ("paddle", "torch", "paddle-int8")
PERFORMANCE = [f.name for f in TABLES["performance"]]
DEPLOYMENT = [f.name for f in TABLES["deployment_ease"]]


def _scores(found: Evidence, criterion: str = "performance", names: Sequence[str] = NAMES) -> dict[str, Score]:
    return {s.option: s for s in measured_scores(found, criterion, names)}


def _part(score: Score, figure: str) -> str:
    """Returns the score of one figure as the formula shows it."""
    shown = re.search(rf"x (\S+|\(.*?\)) \[{figure}\b", score.formula)
    assert shown, score.formula
    return shown[1]


@pytest.mark.parametrize("criterion", TABLES)
def test_weights_of_a_criterion_sum_to_one_and_every_rule_is_explained(criterion: str) -> None:
    assert math.fsum(f.weight for f in TABLES[criterion]) == pytest.approx(1, abs=1e-12)
    assert len({f.name for f in TABLES[criterion]}) == len(TABLES[criterion])
    assert all(f.rule in IN_WORDS for f in TABLES[criterion])


def test_performance_is_the_weighted_sum_of_points_lost_by_factors_of_two() -> None:
    found = _scores(evidence())
    # paddle: half the throughput, twice the time, best accuracy, 4 times the latency, a quarter of the throughput,
    # twice the ONNX latency, twice the memory in training, twice in inference.
    points = (4, 4, 5, 3, 3, 4, 4, 4)
    expected = math.fsum(f.weight * p for f, p in zip(TABLES["performance"], points, strict=True))
    assert found["paddle"].value == pytest.approx(expected, abs=1e-12)
    # torch: half a point of accuracy lost, half the latency and throughput, 4 times the ONNX latency, 4 times memory.
    points = (5, 5, 4.5, 4, 4, 3, 5, 3)
    expected = math.fsum(f.weight * p for f, p in zip(TABLES["performance"], points, strict=True))
    assert found["torch"].value == pytest.approx(expected, abs=1e-12)


def test_deployment_ease_is_the_weighted_sum_of_its_figures() -> None:
    found = _scores(evidence(), "deployment_ease")
    # paddle: exported, INT8 at half the latency and 1 point of accuracy, twice the size, 4 times the cold start,
    # twice the import, fewest lines.
    points = (5, 5, 5, 4, 4, 3, 4, 5)
    expected = math.fsum(f.weight * p for f, p in zip(TABLES["deployment_ease"], points, strict=True))
    assert found["paddle"].value == pytest.approx(expected, abs=1e-12)
    points = (5, 0, 0, 0, 5, 4, 4, 5)  # torch: no INT8
    expected = math.fsum(f.weight * p for f, p in zip(TABLES["deployment_ease"], points, strict=True))
    assert found["torch"].value == pytest.approx(expected, abs=1e-12)


def test_formula_is_one_line_with_the_numbers_and_adds_up() -> None:
    score = _scores(evidence())["paddle"]
    assert "\n" not in score.formula
    assert "0.2 x 4 [training_throughput 150 images/s: 5 - log2(300 / 150)]" in score.formula
    terms = re.findall(r"([\d.]+) x ([\d.]+) \[", score.formula)
    assert math.fsum(float(w) * float(s) for w, s in terms) == pytest.approx(score.value, abs=2e-3)
    assert [m.name for m in score.evidence] == PERFORMANCE


def test_figures_that_show_no_difference_score_the_same() -> None:
    change = {("torch", "inference_latency"): 2.1}
    apart = _scores(evidence(change=change))["torch"]
    same = _scores(evidence(change=change, same=[("inference_latency", "paddle-int8", "torch")]))
    assert _part(apart, "inference_latency") == "4.93"
    assert _part(same["torch"], "inference_latency") == _part(same["paddle-int8"], "inference_latency") == "5"
    assert "2.1 ms, no difference from 2: best" in same["torch"].formula
    other = _scores(evidence(change=change, same=[("onnx_latency", "paddle-int8", "torch")]))["torch"]
    assert _part(other, "inference_latency") == "4.93"


def test_an_a_a_pair_scores_the_same_when_nothing_differs() -> None:
    twins = (replace(PADDLE, name="paddle-1"), replace(PADDLE, name="paddle-2"))
    found = evidence(options=(PADDLE, TORCH))
    names = {"paddle": "paddle-1", "torch": "paddle-2"}
    figures = tuple(
        replace(f, option=names[f.option], measurement=replace(f.measurement, value=f.measurement.value))
        for f in found.figures
    )
    comparisons = tuple(Comparison(n, "paddle-1", "paddle-2", 1, 1, 1, 0.95, 5, "no difference") for n in PERFORMANCE)
    scores = _scores(Evidence(twins, figures, comparisons=comparisons), names=("paddle-1", "paddle-2"))
    assert scores["paddle-1"].value == scores["paddle-2"].value == 5.0


@pytest.mark.parametrize("name", [f.name for f in TABLES["performance"] if not f.needs])
def test_a_missing_figure_widens_its_own_score_from_0_to_5_and_names_the_reason(name: str) -> None:
    weight = next(f.weight for f in TABLES["performance"] if f.name == name)
    score = _scores(evidence(without=[("torch", name)], reason="0.9 was not reached"))["torch"]
    assert score.value is None
    assert score.missing == (f"{name} (0.9 was not reached)",)
    assert score.high - score.low == pytest.approx(5 * weight)


def test_a_missing_figure_leaves_the_others_open_downwards_as_it_might_be_the_best() -> None:
    score = _scores(evidence(without=[("torch", "time_to_target")]))["paddle"]
    whole = _scores(evidence(change={("torch", "time_to_target"): 20.0}))["paddle"]
    assert score.value is None
    assert score.high == pytest.approx(whole.value)
    assert score.high - score.low == pytest.approx(0.10 * 5)
    assert score.missing == ("time_to_target of torch (no time)",)


def test_nothing_measured_gives_the_whole_range() -> None:
    empty = Evidence((PADDLE, TORCH), ())
    for criterion in TABLES:
        for score in _scores(empty, criterion, ("paddle", "torch")).values():
            assert (score.value, score.low, score.high) == (None, 0.0, 5.0)
            assert all("no comparison measured it" in m for m in score.missing)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_figure_that_cannot_be_compared_counts_as_missing(value: float) -> None:
    score = _scores(evidence(change={("torch", "inference_latency"): value}))["torch"]
    assert score.value is None
    assert "inference_latency" in score.missing[0]


def test_a_failed_export_scores_0_for_it_and_its_latency_and_leaves_the_others_alone() -> None:
    gone = [("torch", "onnx_latency"), ("torch", "onnx_parity")]
    found = evidence(change={("torch", "onnx_export"): 0.0}, without=gone)
    performance, deployment = _scores(found), _scores(found, "deployment_ease")
    assert _part(performance["torch"], "onnx_latency") == "0"
    assert _part(deployment["torch"], "onnx_export") == "0"
    assert performance["torch"].value is not None
    assert performance["paddle"].value is not None


@pytest.mark.parametrize(("parity", "points"), [(1e-4, "5"), (1.1e-4, "0")])
def test_an_export_counts_only_when_its_outputs_agree(parity: float, points: str) -> None:
    score = _scores(evidence(change={("torch", "onnx_parity"): parity}), "deployment_ease")["torch"]
    assert _part(score, "onnx_export") == points
    assert {"onnx_export", "onnx_parity"} <= {m.name for m in score.evidence}


def test_an_export_without_parity_is_open() -> None:
    score = _scores(evidence(without=[("torch", "onnx_parity")]), "deployment_ease")["torch"]
    assert score.value is None
    assert score.missing == ("onnx_parity (no time)",)


@pytest.mark.parametrize(("ratio", "points"), [(0.25, "5"), (0.5, "5"), (2**-0.5, "2.5"), (1.0, "0"), (2.0, "0")])
def test_int8_scores_by_what_it_gains(ratio: float, points: str) -> None:
    score = _scores(evidence(change={("paddle", "int8_latency_ratio"): ratio}), "deployment_ease")["paddle"]
    assert _part(score, "int8_latency_ratio") == points


def test_accuracy_lost_to_int8_is_held_against_the_frameworks_fp32_option() -> None:
    score = _scores(evidence(), "deployment_ease")["paddle-int8"]
    assert _part(score, "int8_accuracy") == "4"  # 0.965 against 0.975 of "paddle", not against its own final accuracy
    alone = evidence(options=(PADDLE_INT8, TORCH))
    assert _part(_scores(alone, "deployment_ease", ("paddle-int8", "torch"))["paddle-int8"], "int8_accuracy") == "5"
    missing = evidence(without=[("paddle", "final_accuracy")])
    assert _scores(missing, "deployment_ease")["paddle-int8"].missing == ("final_accuracy of paddle (no time)",)


def test_levels_do_not_depend_on_order_and_stop_at_the_option_that_keeps_its_own() -> None:
    values = {"a": 100.0, "b": 98.0, "c": 96.0}
    chain = {frozenset("ab"), frozenset("bc")}

    def same(x: str, y: str) -> bool:
        return frozenset((x, y)) in chain

    expected = {"a": 100.0, "b": 100.0, "c": 96.0}
    assert levelled(values, higher=True, same=same) == expected
    assert levelled(dict(reversed(values.items())), higher=True, same=same) == expected
    assert levelled(values, higher=False, same=same) == {"c": 96.0, "b": 96.0, "a": 100.0}


@pytest.mark.parametrize("partner", ["a", "c"])
def test_an_option_takes_the_level_of_equal_ones_when_it_differs_from_only_one_of_them(partner: str) -> None:
    values = {"a": 100.0, "b": 98.0, "c": 100.0}
    found = levelled(values, higher=True, same=lambda x, y: {x, y} == {"b", partner})
    assert found == {"a": 100.0, "b": 100.0, "c": 100.0}


FIGURE = st.integers(1, 400).map(lambda v: v / 100)
CELLS = [(o, n) for o in NAMES for n in MEASURED]
NEEDED = {"onnx_export": ("onnx_latency", "onnx_parity"), "int8_available": ("int8_latency_ratio", "int8_accuracy")}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_widening_never_excludes_the_score_that_the_missing_figures_would_have_given(data: st.DataObject) -> None:
    change = {cell: data.draw(FIGURE) for cell in data.draw(st.sets(st.sampled_from(CELLS)))}
    gates = {(o, g): float(data.draw(st.booleans())) for o in NAMES for g in NEEDED}
    never = [(o, n) for (o, g), there in gates.items() if not there for n in NEEDED[g]]
    gone = data.draw(st.sets(st.sampled_from(CELLS), min_size=1, max_size=6))
    for criterion in TABLES:
        whole = _scores(evidence(change={**change, **gates}, without=never), criterion)
        holed = _scores(evidence(change={**change, **gates}, without=[*never, *sorted(gone)]), criterion)
        for option in NAMES:
            assert whole[option].value is not None
            assert holed[option].low - 1e-9 <= whole[option].value <= holed[option].high + 1e-9
            if holed[option].value is not None:
                assert holed[option].value == pytest.approx(whole[option].value)


@settings(max_examples=60, deadline=None)
@given(st.permutations(NAMES), st.lists(FIGURE, min_size=3, max_size=3))
def test_scores_do_not_depend_on_the_order_of_options(order: list[str], latencies: list[float]) -> None:
    change = {(o, "inference_latency"): v for o, v in zip(NAMES, latencies, strict=True)}
    found = evidence(change=change, same=[("inference_latency", "torch", "paddle")])
    turned = replace(found, options=found.options[::-1], figures=found.figures[::-1])
    assert _scores(found, names=order) == _scores(turned, names=NAMES)


def test_a_score_holds_only_what_was_used_for_it() -> None:
    extra = Option("torch-int8", "PyTorch INT8", "torch", "2.13.0", "int8")
    found = replace(evidence(), options=(PADDLE, TORCH, PADDLE_INT8, extra))
    score = _scores(found, "deployment_ease")["torch"]
    names = [m.name for m in score.evidence]
    assert names == ["onnx_export", "onnx_parity", "int8_available", *DEPLOYMENT[4:]]
