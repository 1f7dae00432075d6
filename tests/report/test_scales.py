from __future__ import annotations

import pytest

from paddle_tk.report.numbers import between, number, percent, ratio, score
from paddle_tk.report.scales import axis_for, finite, linear_axis, log_axis


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (4.2e-6, "4.2e-6"), (0.0316, "0.0316"), (3.14159, "3.14"), (41.0, "41"), (99.96, "100"),
     (1234.5, "1,234"), (-2.5, "-2.50"), (float("nan"), "NaN")],
)  # fmt: skip
def test_number_keeps_three_digits_when_of_any_size(value: float, told: str) -> None:
    assert number(value) == told


@pytest.mark.parametrize(("value", "told"), [(4.075, "4.075"), (3.65, "3.65"), (4.0, "4.0"), (0.0, "0.0")])
def test_score_is_told_exactly_when_it_has_up_to_three_decimals(value: float, told: str) -> None:
    assert score(value) == told


def test_shares_ratios_and_ranges_are_told_as_people_write_them() -> None:
    assert percent(0.9722) == "97.2 %"
    assert ratio(0.9964) == "0.996"
    assert ratio(25.0) == "25"
    assert between("1", "2") == "1 \N{EN DASH} 2"


@pytest.mark.parametrize("values", [[0.2, 0.9], [5.0], [], [0.0], [-3.0, 7.0], [1e-7, 2e-7], [1e6, 3e6], [7.0, 7.0]])
@pytest.mark.parametrize("zero", [True, False])
def test_linear_axis_holds_the_values_when_they_are_of_any_size(values: list[float], zero: bool) -> None:
    axis = linear_axis(values, zero=zero)

    assert axis.low < axis.high
    assert all(axis.low - 1e-12 <= v <= axis.high + 1e-12 for v in [*values, *([0.0] if zero else [])])
    assert 2 <= len(axis.ticks) <= 9
    assert len(set(axis.labels())) == len(axis.ticks)


@pytest.mark.parametrize("values", [[0.5, 2.0], [1.0], [0.001, 900.0], [0.98, 1.0, 1.02], [3.0, 80.0], [1e-9, 1e9]])
def test_log_axis_holds_the_values_when_they_are_of_any_size(values: list[float]) -> None:
    axis = log_axis(values)

    assert axis.low <= min(values) <= max(values) <= axis.high
    assert 1 <= len(axis.ticks) <= 8
    assert len(set(axis.labels())) == len(axis.ticks)
    assert axis.at(axis.low, 10, 20) == pytest.approx(10)
    assert axis.at((axis.low * axis.high) ** 0.5, 10, 20) == pytest.approx(15)


def test_axis_is_logarithmic_only_when_positive_values_are_far_apart() -> None:
    assert axis_for([0.01, 2.0]).log
    assert not axis_for([0.5, 2.0]).log
    assert not axis_for([0.0, 2.0]).log


def test_finite_leaves_out_what_cannot_be_drawn() -> None:
    assert finite([1.0, None, float("nan"), float("inf"), 2.0]) == [1.0, 2.0]
