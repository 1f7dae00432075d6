from __future__ import annotations

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.pipelines.latency_limits import Figures, LatencyLimits, breaches

FIGURES = Figures(latency_ms=10.0, n=120, images_per_second=100.0, cpu_share=0.5, peak_mib=200.0)


@pytest.mark.parametrize(
    ("limits", "broken", "factor"),
    [
        (LatencyLimits(target_latency_ms=11.2), [], 1),
        (LatencyLimits(target_latency_ms=11.0), ["latency"], 10 / 9.9),
        (LatencyLimits(target_latency_ms=11.0, margin=0.0), [], 1),
        (LatencyLimits(min_fps=95), ["rate"], 1.045),
        (LatencyLimits(min_fps=90), [], 1),
        (LatencyLimits(max_memory_mib=200), [], 1),
        (LatencyLimits(max_memory_mib=100), ["memory"], 2),
        (LatencyLimits(max_cpu_share=0.25), ["CPU"], 2),
        (LatencyLimits(target_latency_ms=1, min_fps=1000, max_memory_mib=1, max_cpu_share=0.1),
         ["latency", "rate", "memory", "CPU"], 10 / 0.9),
    ],
)  # fmt: skip
def test_breaches_name_each_broken_limit_and_how_far_off_it_is(
    limits: LatencyLimits,
    broken: list[str],
    factor: float,
) -> None:
    found = breaches(limits, FIGURES)
    assert [breach.limit for breach in found] == broken
    if found:
        assert found[0].factor == pytest.approx(factor)
        assert all(breach.advice for breach in found)


def test_a_screening_is_held_against_the_limit_itself_and_by_its_median() -> None:
    limits = LatencyLimits(target_latency_ms=9.0)
    assert breaches(LatencyLimits(target_latency_ms=10.0), FIGURES, screening=True) == ()
    assert breaches(limits, FIGURES, screening=True)[0].told == "p50 10 ms (n=120) above 9 ms"
    assert breaches(limits, FIGURES)[0].told == "p95 10 ms (n=120) above 8.1 (9 with a margin of 10 %) ms"


def test_memory_breaks_no_limit_when_it_was_not_measured() -> None:
    unknown = Figures(latency_ms=10.0, n=5, images_per_second=100.0, cpu_share=0.5)
    assert breaches(LatencyLimits(max_memory_mib=1), unknown) == ()


def test_limits_are_refused_when_there_is_none_or_one_makes_no_sense() -> None:
    with pytest.raises(BadInput, match="no limit was given"):
        LatencyLimits()
    for wrong in ({"target_latency_ms": 0.0}, {"min_fps": -1.0}, {"target_latency_ms": float("nan")}):
        with pytest.raises(ValueError, match="above 0"):
            LatencyLimits(**wrong)
    with pytest.raises(ValueError, match="percentile"):
        LatencyLimits(target_latency_ms=1, percentile=90)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="margin"):
        LatencyLimits(target_latency_ms=1, margin=1.0)


def test_limits_are_told_in_words() -> None:
    limits = LatencyLimits(target_latency_ms=50, min_fps=100, max_memory_mib=512, max_cpu_share=0.5, percentile=99)
    assert limits.told() == "p99 <= 50 ms, >= 100 images/s, <= 512 MiB, <= 50 % CPU"
