from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from paddle_tk.training.leak_detector import Growth, LeakDetector, grows, kendall, theil_sen

STEPS = 1500
Series = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _watch(values: np.ndarray) -> list[Growth]:
    detector = LeakDetector()
    return [found for step, mb in enumerate(values, 1) if (found := detector.add(step, float(mb))) is not None]


def _made(series: Series, seed: int, steps: int = STEPS) -> np.ndarray:
    return 500 + series(np.arange(1, steps + 1, dtype=float), np.random.default_rng(seed))


def _sizes(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Batches of several sizes: large jumps up and down at every step."""
    return rng.choice([0.0, 40.0, 90.0, 160.0, 250.0], len(t))


def _evaluations(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """After each of the first evaluations a little more is kept, then no more; checkpoints need more for a moment."""
    kept = np.interp(t, [0, 60, 61, 120, 121, 180, 181, 2000], [0, 0, 30, 30, 40, 40, 45, 45])
    return kept + 120.0 * (t % 60 == 0) + rng.normal(size=len(t))


CLEAN: dict[str, Series] = {
    "constant": lambda t, rng: 0 * t,
    "noise": lambda t, rng: rng.normal(0, 30, len(t)),
    "noise with outliers": lambda t, rng: rng.normal(0, 3, len(t)) + 400 * (rng.random(len(t)) < 0.05),
    "batches of several sizes": _sizes,
    "saw-tooth of 20": lambda t, rng: 10 * (t % 20) + rng.normal(size=len(t)),
    "saw-tooth of 100": lambda t, rng: 2 * (t % 100) + rng.normal(size=len(t)),
    "saw-tooth of 140": lambda t, rng: 2 * (t % 140) + rng.normal(size=len(t)),
    "one step up": lambda t, rng: 300.0 * (t > 210) + rng.normal(size=len(t)),
    "two steps up": lambda t, rng: 100.0 * (t > 210) + 100.0 * (t > 300) + rng.normal(size=len(t)),
    "cache that fills within 60 steps": lambda t, rng: 300 * (1 - np.exp(-t / 20)) + rng.normal(size=len(t)),
    "slower and slower": lambda t, rng: 30 * np.log(t) + rng.normal(size=len(t)),
    "falling": lambda t, rng: -0.5 * t + rng.normal(size=len(t)),
    "evaluations and checkpoints": _evaluations,
    "creeping": lambda t, rng: np.minimum(0.05 * t, 20) + rng.normal(size=len(t)),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_when_memory_only_moves(name: str, seed: int) -> None:
    assert _watch(_made(CLEAN[name], seed)) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("began", [1, 100, 333])
@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
def test_a_leak_of_one_mb_is_found_within_200_steps_with_place_and_rate(began: int, noise: float, seed: int) -> None:
    values = _made(lambda t, rng: np.maximum(0, t - began) + rng.normal(0, noise, len(t)), seed)
    first = _watch(values)[0]
    assert first.found - began <= 200
    assert abs(first.began - max(began, 25)) <= 24
    assert first.mb_per_step == pytest.approx(1.0, abs=0.12)
    assert first.grown_mb == pytest.approx(first.found - first.began, rel=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_a_leak_is_found_later_when_it_is_small_or_the_noise_large(seed: int) -> None:
    small = _watch(_made(lambda t, rng: 0.2 * np.maximum(0, t - 300) + rng.normal(0, 5, len(t)), seed))[0]
    assert small.found <= 700
    assert small.mb_per_step == pytest.approx(0.2, abs=0.05)
    hidden = _watch(_made(lambda t, rng: np.maximum(0, t - 300) + _sizes(t, rng), seed))[0]
    assert 400 <= hidden.found <= 1000
    assert hidden.mb_per_step == pytest.approx(1.0, abs=0.15)


def test_a_very_slow_leak_is_found_when_the_run_is_long() -> None:
    first = _watch(_made(lambda t, rng: 0.02 * t + rng.normal(0, 2, len(t)), 0, steps=8000))[0]
    assert first.mb_per_step == pytest.approx(0.02, rel=0.3)
    assert first.resolution > 12


@pytest.mark.parametrize("seed", range(3))
def test_a_leak_is_found_in_time_when_memory_was_given_back_before(seed: int) -> None:
    values = _made(lambda t, rng: 900.0 * (t < 70) + np.maximum(0, t - 100) + rng.normal(0, 3, len(t)), seed)
    first = _watch(values)[0]
    assert first.found <= 300
    assert first.mb_per_step == pytest.approx(1.0, abs=0.15)


def test_a_leak_that_comes_in_large_pieces_is_found() -> None:
    first = _watch(_made(lambda t, rng: 25.0 * (t // 25), 0))[0]
    assert first.mb_per_step == pytest.approx(1.0, abs=0.1)


def test_findings_come_again_only_when_growth_has_doubled() -> None:
    found = _watch(_made(lambda t, rng: t, 0))
    assert 3 <= len(found) <= 5
    for before, after in pairwise(found):
        assert after.grown_mb >= 1.9 * before.grown_mb


def test_findings_are_the_same_every_time() -> None:
    values = _made(lambda t, rng: np.maximum(0, t - 90) + rng.normal(0, 8, len(t)), 3)
    assert _watch(values) == _watch(values)


def test_nothing_is_found_again_after_forgetting_when_the_growth_ended() -> None:
    detector = LeakDetector()
    found = [detector.add(step, float(step)) for step in range(1, 200)]
    assert any(found)
    detector.forget()
    assert not any(detector.add(step, 100.0) for step in range(200, 900))


def test_rate_since_is_the_slope_of_what_followed() -> None:
    detector = LeakDetector()
    assert detector.rate_since(1) is None
    for step in range(1, 600):
        detector.add(step, 2.0 * max(0, step - 200))
    assert detector.rate_since(220) == pytest.approx(2.0, abs=0.01)
    assert detector.rate_since(590) is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_judgement_does_not_depend_on_the_unit(scale: float) -> None:
    rising = np.arange(12.0) + np.random.default_rng(0).normal(0, 0.3, 12)
    assert grows(rising * scale, 5 * scale)
    assert not grows(rising * scale, 20 * scale)
    assert not grows(-rising * scale, 5 * scale)


def test_slope_and_correlation_stand_outliers() -> None:
    x = np.arange(20.0)
    y = 3 * x + 1
    y[4] = 1e6
    assert theil_sen(x, y) == pytest.approx(3, abs=0.2)
    assert kendall(np.arange(5.0)) == 1
    assert kendall(-np.arange(5.0)) == -1
    assert kendall(np.zeros(5)) == 0
