from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.quantize.observers import ALGORITHMS, LEAST_THRESHOLD, RangeObserver, channel_scales
from paddle_tk.quantize.slim import load_observers

REPAIRED = ("kl", "mse", "emd")


def _observe(algorithm: str, *batches: np.ndarray) -> RangeObserver:
    observer = RangeObserver(algorithm)
    for batch in batches:
        observer.add(batch)
    return observer


def _threshold(algorithm: str, *batches: np.ndarray) -> float:
    return _observe(algorithm, *batches).range().threshold


def _signed(n: int = 6000, seed: int = 0) -> np.ndarray:
    """Values with tails on both sides, images along the first axis."""
    return np.random.default_rng(seed).standard_t(3, (n // 50, 2, 5, 5)).astype(np.float32)


def _unsigned(n: int = 6000, seed: int = 0) -> np.ndarray:
    return np.maximum(_signed(n, seed), 0)


def _on_a_grid(values: np.ndarray) -> np.ndarray:
    """Moves values to multiples of 1/4096 of a power of two: one value in each bin, so that nothing is rounded."""
    unit = 2.0 ** math.ceil(math.log2(np.abs(values).max())) / 4096
    return (np.round(values / unit) * unit).astype(np.float32)


def _quantized(values: np.ndarray, threshold: float) -> np.ndarray:
    step = threshold / 127
    return np.clip(np.round(values / step), -127, 127) * step


def _squared_error(values: np.ndarray, threshold: float) -> float:
    return float(np.square(values - _quantized(values, threshold)).sum())


def _moments_error(values: np.ndarray, threshold: float) -> float:
    found = _quantized(values, threshold)
    return float(abs(values.mean() - found.mean()) + abs(values.std() - found.std()))


def _divergence(values: np.ndarray, width: float, end: int) -> float:
    """KL(P || Q) of the definition, bin by bin."""
    bins = [math.ceil(abs(float(v)) / width) for v in values.reshape(-1) if v != 0]
    inside = [bins.count(j) for j in range(1, end + 1)]
    p = list(inside)
    p[-1] += sum(1 for j in bins if j > end)
    q = [0.0] * end
    for level in range(128):
        members = [j for j in range(end) if j * 128 // end == level and p[j] > 0]
        for j in members:
            q[j] = sum(inside[k] for k in range(end) if k * 128 // end == level) / len(members)
    if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)):
        return math.inf
    total_p, total_q = sum(p), sum(q)
    return sum(a / total_p * math.log((a / total_p) / (b / total_q)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("make", [_signed, _unsigned])
def test_abs_max_is_the_largest_magnitude_of_all_batches(make: Callable[..., np.ndarray]) -> None:
    batches = [make(seed=seed) for seed in range(3)]
    assert _threshold("abs_max", *batches) == np.float32(np.abs(np.stack(batches)).max())


def test_abs_max_goes_on_when_asked_between_batches() -> None:
    observer = _observe("abs_max", np.ones((1, 2), np.float32))
    assert observer.range().threshold == 1
    observer.add(np.full((1, 2), -3, np.float32))
    assert observer.range().threshold == 3


@pytest.mark.parametrize("make", [_signed, _unsigned])
def test_avg_is_the_mean_of_each_images_largest_magnitude(make: Callable[..., np.ndarray]) -> None:
    batches = [make(seed=seed) for seed in range(3)]
    expected = np.mean([np.abs(image).max() for batch in batches for image in batch])
    assert _threshold("avg", *batches) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [_signed, _unsigned])
@pytest.mark.parametrize("growth", [1.0, 1.7])
def test_hist_is_the_outer_quantile_to_two_bins(make: Callable[..., np.ndarray], growth: float) -> None:
    batches = [growth**seed * make(60000, seed=seed) for seed in range(4)]
    batches[1] -= 0.5 * np.abs(batches[1]).max() if make is _signed else 0
    every = np.concatenate([b.reshape(-1) for b in batches])
    low, high = np.quantile(every, [0.0001, 0.9999], method="inverted_cdf")
    width = (max(0, every.max()) - min(0, every.min())) / 2048
    # Merging histograms may widen the range to whole bins and blurs by one of them.
    assert _threshold("hist", *batches) == pytest.approx(float(max(-low, high)), abs=float(4 * width))


def test_hist_merges_as_paddleslim_when_ranges_grow() -> None:
    theirs = load_observers().hist.PercentHistObserverLayer(None, percent=0.9999)
    ours = RangeObserver("hist")
    for seed in range(4):
        batch = (seed + 1) * _signed(seed=seed)
        theirs(paddle.to_tensor(batch))
        ours.add(batch)
    np.testing.assert_allclose(ours._layer._hist, theirs._hist, rtol=1e-5, atol=1e-3)


def test_hist_counts_every_value_when_batches_are_constant_or_ranges_far_apart() -> None:
    zeros, dead, live = np.zeros((2, 50), np.float32), np.full((2, 50), 1e-9, np.float32), _unsigned()
    observer = _observe("hist", zeros, dead, live, zeros)
    layer = observer._layer
    assert layer._hist.sum() + layer._zeros == pytest.approx(zeros.size * 2 + dead.size + live.size, rel=1e-6)
    assert observer.range().threshold == pytest.approx(_threshold("hist", live), rel=0.1)


@pytest.mark.parametrize("make", [_signed, _unsigned])
@pytest.mark.parametrize("seed", range(3))
def test_mse_has_the_least_squared_error_of_all_candidates(make: Callable[..., np.ndarray], seed: int) -> None:
    exact = _on_a_grid(make(1000, seed))
    candidates = np.abs(exact).max() * np.arange(20, 201) / 200
    best = min(candidates[::-1], key=lambda t: _squared_error(exact.astype(np.float64), t))
    assert _threshold("mse", exact) == pytest.approx(best, rel=1e-6)
    many = make(200_000, seed)
    best_error = min(_squared_error(many, np.abs(many).max() * share) for share in np.arange(20, 201) / 200)
    assert _squared_error(many, _threshold("mse", many)) <= 1.001 * best_error


@pytest.mark.parametrize("make", [_signed, _unsigned])
@pytest.mark.parametrize("seed", range(3))
def test_emd_has_the_least_change_of_moments_of_paddleslims_candidates(
    make: Callable[..., np.ndarray], seed: int
) -> None:
    exact = _on_a_grid(make(1000, seed))
    candidates = np.abs(exact).max() * np.arange(15, 51) / 50
    best = min(candidates[::-1], key=lambda t: _moments_error(exact.astype(np.float64), t))
    assert _threshold("emd", exact) == pytest.approx(best, rel=1e-6)


def test_emd_decides_as_paddleslim_when_there_is_one_batch_of_positive_values() -> None:
    theirs = load_observers().emd.EMDObserverLayer(None)
    values = _on_a_grid(_unsigned(1000, 4))
    theirs(paddle.to_tensor(values))
    found, expected = _threshold("emd", values), float(theirs.scales())
    assert _moments_error(values, found) <= _moments_error(values, expected) + 1e-5


@pytest.mark.parametrize("make", [_signed, _unsigned])
@pytest.mark.parametrize("seed", range(2))
def test_kl_has_the_least_divergence_of_all_candidates(make: Callable[..., np.ndarray], seed: int) -> None:
    values = make(600, seed)
    largest = float(np.abs(values).max())
    width = 2.0 ** math.ceil(math.log2(largest / 4096))
    last = math.ceil(largest / width)
    ends = [*range(128, last, 8), last]
    candidates = [*ends[:: max(1, len(ends) // 12)], last]
    found = _threshold("kl", values)
    end = last if found == largest else round(found / width)
    least = _divergence(values, width, end)
    assert end in ends
    assert all(least <= _divergence(values, width, other) + 1e-9 for other in candidates)


def test_kl_clips_a_long_thin_tail_and_keeps_an_even_distribution() -> None:
    rng = np.random.default_rng(0)
    even = rng.uniform(-1, 1, (100, 1000)).astype(np.float32)
    tailed = np.concatenate([even.reshape(-1), np.float32([20, -20])]).reshape(1, -1)
    assert _threshold("kl", even) > 0.9
    assert _threshold("kl", tailed) < 3


@pytest.mark.parametrize("algorithm", REPAIRED)
@pytest.mark.parametrize("make", [_signed, _unsigned])
def test_repaired_observers_do_not_depend_on_order_or_division_into_batches(
    algorithm: str, make: Callable[..., np.ndarray]
) -> None:
    parts = [scale * make(3000, seed) for seed, scale in enumerate((0.003, 1.0, 40.0, 0.5))]
    whole = np.concatenate(parts)
    expected = _threshold(algorithm, whole)
    for batches in (parts, parts[::-1], [whole[::2], whole[1::2]], [*whole[:5, None], whole[5:]]):
        assert _threshold(algorithm, *batches) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_observer_keeps_a_usable_threshold_when_everything_is_zero(algorithm: str) -> None:
    found = _observe(algorithm, np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32)).range()
    assert (found.low, found.high, found.batches) == (0, 0, 2)
    assert found.threshold == pytest.approx(LEAST_THRESHOLD)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("value", [3.0, -0.7, 1e-5])
def test_observer_keeps_the_value_when_there_is_one_only(algorithm: str, value: float) -> None:
    for shape in ((), (1,), (2, 3, 4, 4)):
        found = _observe(algorithm, np.full(shape, value, np.float32)).range()
        assert found.low == found.high == np.float32(value)
        assert found.threshold == pytest.approx(abs(value), rel=2e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_observer_covers_negative_values_when_there_are_no_others(algorithm: str) -> None:
    values = -np.abs(_signed())
    found = _observe(algorithm, values).range()
    assert found.high <= 0
    assert np.quantile(np.abs(values), 0.9) < found.threshold <= np.abs(values).max()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_observer_reports_true_extremes_of_all_batches(algorithm: str) -> None:
    batches = [_signed(seed=seed) for seed in range(3)]
    found = _observe(algorithm, *batches).range()
    assert (found.low, found.high) == (np.stack(batches).min(), np.stack(batches).max())
    assert (found.algorithm, found.batches) == (algorithm, 3)
    assert 0 < found.threshold <= np.abs(np.stack(batches)).max() * (1 + 1e-6)


@pytest.mark.parametrize(
    "values", [np.zeros(3), np.empty(0, np.float32), np.float32([1, np.nan]), np.float32([1, np.inf])]
)
def test_observer_refuses_what_is_no_range(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        RangeObserver("hist").add(values)


def test_observer_refuses_an_unknown_algorithm_with_the_list() -> None:
    with pytest.raises(BadInput, match="abs_max, hist, avg, kl, mse, emd"):
        RangeObserver("minmax")


def test_observer_says_how_to_get_paddleslim_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "paddleslim" or n.endswith("slim_observers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(BadInput, match=r"PaddleSlim.*no-deps"):
        load_observers()


def test_observers_load_without_the_rest_of_paddleslim_and_without_a_word() -> None:
    code = (
        "import logging, sys, warnings; from paddle_tk.environment.start import start_paddle; start_paddle();"
        "from paddle_tk.quantize.observers import RangeObserver; before = list(logging.getLogger().handlers);"
        "warnings.simplefilter('error'); RangeObserver('hist');"
        "assert logging.getLogger().handlers == before;"
        "assert not {'matplotlib', 'scipy.stats', 'pkg_resources', 'paddleslim.prune'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("shape", "axis"), [((5, 3, 3, 3), 0), ((7, 4), 1), ((6, 2, 2, 2), 1)])
def test_channel_scales_are_each_channels_largest_magnitude(shape: tuple[int, ...], axis: int) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.moveaxis(weight, axis, 0)[1] = 0
    found = channel_scales(weight, axis)
    expected = np.abs(np.moveaxis(weight, axis, 0).reshape(shape[axis], -1)).max(axis=1) / 127
    expected[1] = 1e-8 / 127
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
