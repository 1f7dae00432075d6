from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.measure.latency import Latency, interleaved, ratio, time_predictor
from paddle_tk.runtime.base import Predictor, noise_batch
from paddle_tk.runtime.load import load_predictor, open_model


def test_percentiles_and_speed_follow_from_the_samples() -> None:
    found = Latency("m", tuple(float(i) for i in range(1, 102)), (51.0,), batch_size=4)
    assert (found.n, found.p50_ms, found.p95_ms, found.p99_ms) == (101, 51.0, 96.0, 100.0)
    assert found.images_per_second == pytest.approx(4 * 1000 / 51)


def test_ratio_is_the_median_of_the_rounds_ratios_and_no_other_average() -> None:
    a = Latency("a", (1.0,), (10.0, 12.0, 90.0))
    b = Latency("b", (1.0,), (20.0, 20.0, 100.0))
    assert ratio(a, b) == a.ratio(b) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="argument"):
        ratio(a, Latency("c", (1.0,), (1.0,)))


@pytest.mark.parametrize(
    ("samples", "rounds", "batch"), [((), (1.0,), 1), ((1.0,), (), 1), ((1.0,), (1.0,), 0), ((-1.0,), (1.0,), 1)]
)
def test_latency_refuses_when_it_holds_nothing(
    samples: tuple[float, ...], rounds: tuple[float, ...], batch: int
) -> None:
    with pytest.raises(ValueError, match="needs samples, rounds and a batch"):
        Latency("m", samples, rounds, batch)


def test_time_predictor_keeps_every_sample_and_says_what_was_timed(models: Path) -> None:
    source = open_model(models / "onnx-dynamic")
    found = time_predictor(load_predictor(source), noise_batch(source.artifact, 2), repeats=6, warmup=1)
    assert (found.name, found.unit, found.n, found.origin, found.device) == ("latency", "ms", 6, "measured", "cpu")
    assert found.value == pytest.approx(float(np.median(found.samples)))
    assert found.value <= found.conditions["p95_ms"] <= found.conditions["p99_ms"] <= max(found.samples)
    assert (found.conditions["engine"], found.conditions["batch_size"]) == ("onnxruntime", 2)
    json.dumps(dict(found.conditions))


def test_interleaved_loads_every_model_afresh_in_turn_and_backwards_in_every_other_round(models: Path) -> None:
    source = open_model(models / "onnx")
    made = []

    def maker(name: str) -> Callable[[], Predictor]:
        def make() -> Predictor:
            made.append(name)
            return load_predictor(source)

        return make

    batch = noise_batch(source.artifact, 1)
    makers = {name: maker(name) for name in ("a", "b")}
    found = interleaved(makers, {"a": batch, "b": np.repeat(batch, 2, axis=0)}, rounds=3, repeats=4, warmup=1)
    assert made == ["a", "b", "b", "a", "a", "b"]
    assert list(found) == ["a", "b"]
    for latency in found.values():
        assert (latency.n, len(latency.per_round_median_ms)) == (12, 3)
    assert (found["a"].batch_size, found["b"].batch_size) == (1, 2)
    parts = np.array(found["a"].samples_ms).reshape(3, 4)
    np.testing.assert_allclose(found["a"].per_round_median_ms, np.median(parts, axis=1))
    assert json.loads(json.dumps(found["a"].to_dict()))["n"] == 12


def test_interleaved_models_take_turns_round_and_back_when_asked_to(models: Path) -> None:
    source, called = open_model(models / "onnx"), []

    def maker(name: str) -> Callable[[], Predictor]:
        def make() -> Predictor:
            called.append(f"load {name}")
            real = load_predictor(source)
            predict = real.predict
            told = lambda batch: (called.append(name), predict(batch))[1]  # noqa: E731
            object.__setattr__(real, "predict", told)
            return real

        return make

    makers = {name: maker(name) for name in ("a", "b")}
    found = interleaved(makers, noise_batch(source.artifact, 1), rounds=2, repeats=3, warmup=2, turns=2)
    # One sample and two, after two and one that are not counted.
    assert called[:2] == ["load a", "load b"]
    assert called[2:14] == ["a"] * 3 + ["b"] * 3 + ["b"] * 3 + ["a"] * 3
    assert called[14:16] == ["load b", "load a"]
    assert called[16:] == ["b"] * 3 + ["a"] * 3 + ["a"] * 3 + ["b"] * 3
    for latency in found.values():
        assert (latency.n, len(latency.per_round_median_ms)) == (6, 2)


def test_interleaved_refuses_when_there_is_nothing_to_time(models: Path) -> None:
    with pytest.raises(ValueError, match="0 models and 7 rounds"):
        interleaved({}, np.zeros((1, 3, 8, 8), np.float32))
