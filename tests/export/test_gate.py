from __future__ import annotations

from dataclasses import replace

import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.export.gate import Figures, Limits, judge

_LIMITS = Limits(max_drop=0.01, min_agreement=0.95, max_size_ratio=0.3, max_latency_ratio=1.0)
_GOOD = Figures("top1", 0.9, 0.895, 1000, 0.97, 1000, 0.26, 0.5)


def test_gate_lets_a_model_pass_that_keeps_to_every_limit() -> None:
    report = judge(_GOOD, _LIMITS)

    assert report.passed
    report.require()
    assert report.to_dict()["findings"][0]["value"] == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"accuracy_int8": 0.88}, "drop of top1 0.0200"),
        ({"agreement": 0.9}, "agreement with FP32 0.9000"),
        ({"size_ratio": 0.5}, "size ratio 0.5000"),
        ({"latency_ratio": 1.2}, "latency ratio 1.2000"),
    ],
)
def test_gate_refuses_with_the_figures_and_what_to_try(change: dict[str, float], named: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        judge(replace(_GOOD, **change), _LIMITS).require()

    assert f"{named} (limit" in str(caught.value)
    assert ": no)" in str(caught.value)
    assert caught.value.fix
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [({"accuracy_int8": 0.88}, True), ({"agreement": 0.9}, True), ({"size_ratio": 0.5}, False)],
)
def test_gate_tells_a_known_reason_for_lost_accuracy_only_where_accuracy_was_lost(
    change: dict[str, float], told: bool
) -> None:
    with pytest.raises(CheckFailed) as caught:
        judge(replace(_GOOD, **change), _LIMITS, "these weights overflow here").require()

    assert caught.value.fix.count("these weights overflow here") == told


def test_slow_model_passes_when_that_is_allowed_and_is_still_told() -> None:
    report = judge(replace(_GOOD, latency_ratio=1.2), replace(_LIMITS, allow_slow=True))

    assert report.passed
    assert "1.2000 (limit 1: let through)" in report.line()


def test_what_was_not_measured_is_said_and_breaks_no_limit() -> None:
    report = judge(replace(_GOOD, accuracy_fp32=None, accuracy_int8=None, latency_ratio=None), _LIMITS)

    assert report.passed
    assert "drop of top1 not measured" in report.line()
    assert "latency ratio not measured" in report.line()


def test_better_int8_model_has_a_negative_drop() -> None:
    assert judge(replace(_GOOD, accuracy_int8=0.91), _LIMITS).findings[0].passed
