"""Latency of predictors: samples kept, percentiles with their number, comparisons in interleaved rounds."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from paddle_tk.environment.processor import cpu_model
from paddle_tk.runtime.base import Array, Predictor
from paddle_tk.runtime.timing import sample_ms, turn_sizes, wait_until_still
from paddle_tk.types import Measurement


@dataclass(frozen=True)
class Latency:
    """How long one model takes for a batch.

    Attributes:
        name: Which model.
        samples_ms: Milliseconds of every timed batch.
        per_round_median_ms: Median of each round; a round is one freshly loaded predictor.
        batch_size: Images in a batch.
        device: Where it was computed.
        conditions: What else matters: engine, arithmetic, warm-up, processor.
    """

    name: str
    samples_ms: tuple[float, ...]
    per_round_median_ms: tuple[float, ...]
    batch_size: int = 1
    device: str = "cpu"
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.samples_ms or not self.per_round_median_ms or min(self.samples_ms) < 0 or self.batch_size < 1:
            raise ValueError(f"latency {self.name!r} needs samples, rounds and a batch, all of at least one")

    @property
    def n(self) -> int:
        """How many batches were timed."""
        return len(self.samples_ms)

    @property
    def p50_ms(self) -> float:
        """The median."""
        return self.percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        """What 95 of 100 batches do not exceed."""
        return self.percentile_ms(95)

    @property
    def p99_ms(self) -> float:
        """What 99 of 100 batches do not exceed; of fewer than 100 samples little more than the largest of them."""
        return self.percentile_ms(99)

    @property
    def images_per_second(self) -> float:
        """Images per second at the median, one batch after the other."""
        return 1e3 * self.batch_size / max(self.p50_ms, 1e-9)

    def percentile_ms(self, share: float) -> float:
        """Returns a percentile, interpolated linearly between samples."""
        return float(np.percentile(np.array(self.samples_ms), share))

    def ratio(self, other: Latency) -> float:
        """Returns this latency / another: the median of the ratios of their rounds' medians.

        Raises:
            ValueError: They were not measured in the same number of rounds.
        """
        pairs = zip(self.per_round_median_ms, other.per_round_median_ms, strict=True)
        return float(median(ours / theirs for ours, theirs in pairs))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types, raw samples included."""
        return {
            "name": self.name,
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "images_per_second": self.images_per_second,
            "n": self.n,
            "rounds": len(self.per_round_median_ms),
            "per_round_median_ms": list(self.per_round_median_ms),
            "samples_ms": list(self.samples_ms),
            "batch_size": self.batch_size,
            "device": self.device,
            "conditions": dict(self.conditions),
            "origin": "measured",
        }

    def measurement(self) -> Measurement:
        """Returns the median as a measurement with all samples; the other percentiles are in its conditions."""
        return Measurement(
            "latency", self.p50_ms, "ms", self.n, "measured", self.samples_ms, self.device,
            {**self.conditions, "batch_size": self.batch_size, "p95_ms": self.p95_ms, "p99_ms": self.p99_ms},
        )  # fmt: skip


def time_predictor(predictor: Predictor, batch: Array, *, repeats: int = 30, warmup: int = 5) -> Measurement:
    """Times a loaded predictor.

    Args:
        predictor: Any.
        batch: Images float32 (B, 3, H, W).
        repeats: Timed batches.
        warmup: Batches before them.

    Returns:
        "latency": the median in ms, with all samples; p95 and p99 in its conditions.
    """
    return latency_of("latency", predictor, batch, repeats=repeats, warmup=warmup).measurement()


def latency_of(name: str, predictor: Predictor, batch: Array, *, repeats: int = 30, warmup: int = 5) -> Latency:
    """As ``time_predictor``, as a ``Latency`` of one round."""
    samples = sample_ms(lambda: predictor.predict(batch), repeats=repeats, warmup=warmup)
    return _latency(name, predictor, batch, samples, warmup)


def _latency(name: str, predictor: Predictor, batch: Array, samples: Sequence[float], warmup: int) -> Latency:
    conditions = _conditions(predictor, warmup)
    return Latency(name, tuple(samples), (float(median(samples)),), len(batch), predictor.device, conditions)


def interleaved(
    makers: Mapping[str, Callable[[], Predictor]],
    batch: Array | Mapping[str, Array],
    *,
    rounds: int = 7,
    repeats: int = 30,
    warmup: int = 5,
    turns: int = 1,
) -> dict[str, Latency]:
    """Times several models so that what else the machine does falls on all of them.

    In each round every model is loaded afresh, warmed up and timed, in turn; every other round goes backwards.

    Args:
        makers: By name, what loads a predictor.
        batch: Images float32 (B, 3, H, W), for all of them or by name.
        rounds: Freshly loaded predictors of each model.
        repeats: Timed batches in a round.
        warmup: Batches before them.
        turns: Of each model in a round; with more than one all models of a round are in memory together, the turns go
            round and back, and each begins when the threads of the one before are still, with one batch that is not
            counted: while they spin, a session of ONNX Runtime takes twice the time on two cores.

    Returns:
        By name, in the order of ``makers``; ``Latency.ratio`` compares two of them.
    """
    if not makers or rounds < 1:
        raise ValueError(f"expected models and rounds >= 1, got {len(makers)} models and {rounds} rounds")
    found: dict[str, list[Latency]] = {name: [] for name in makers}
    for number in range(rounds):
        names = list(makers)[:: 1 if number % 2 == 0 else -1]
        for group in [names] if turns > 1 else [[name] for name in names]:
            loaded = {name: makers[name]() for name in group}
            given = {name: batch[name] if isinstance(batch, Mapping) else batch for name in group}
            for name, latency in _in_turns(loaded, given, turn_sizes(repeats, turns), warmup).items():
                found[name].append(latency)
            loaded.clear()
            gc.collect()
    return {name: _merged(name, parts) for name, parts in found.items()}


def _in_turns(
    loaded: Mapping[str, Predictor], batches: Mapping[str, Array], sizes: Sequence[int], warmup: int
) -> dict[str, Latency]:
    samples: dict[str, list[float]] = {name: [] for name in loaded}
    for place, size in enumerate(sizes):
        for name in list(loaded)[:: 1 if place % 2 == 0 else -1]:
            if len(sizes) > 1:
                wait_until_still()
            call = partial(loaded[name].predict, batches[name])
            samples[name] += sample_ms(call, repeats=size, warmup=warmup if place == 0 else 1)
    return {name: _latency(name, loaded[name], batches[name], values, warmup) for name, values in samples.items()}


def ratio(a: Latency, b: Latency) -> float:
    """Returns a / b: the median of the per-round ratios of medians; see ``Latency.ratio``."""
    return a.ratio(b)


def _merged(name: str, parts: list[Latency]) -> Latency:
    samples = tuple(sample for part in parts for sample in part.samples_ms)
    medians = tuple(part.p50_ms for part in parts)
    return Latency(name, samples, medians, parts[0].batch_size, parts[0].device, parts[0].conditions)


def _conditions(predictor: Predictor, warmup: int) -> dict[str, Any]:
    return {
        "engine": predictor.engine,
        "arithmetic": predictor.arithmetic,
        "precision": predictor.artifact.precision,
        "input_size": list(predictor.artifact.preprocessing.size),
        "warmup": warmup,
        "cpu": cpu_model(),
        "machine": platform.machine(),
    }
