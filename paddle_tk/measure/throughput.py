"""How many images a predictor gets through in a second, one batch after the other or with several in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from itertools import repeat
from statistics import median

from paddle_tk.environment.processor import cpu_model
from paddle_tk.runtime.asynchronous import requests_in_flight, run_stream
from paddle_tk.runtime.base import Array, Predictor
from paddle_tk.types import Measurement


def measure_throughput(
    predictor: Predictor, batch: Array, *, in_flight: int = 1, batches: int = 30, rounds: int = 5, warmup: int = 5
) -> Measurement:
    """Runs a stream of equal batches.

    Args:
        predictor: Any; OpenVINO computes as many requests side by side as it was given ``streams``.
        batch: Images float32 (B, 3, H, W).
        in_flight: Batches at work at once, as far as the predictor allows.
        batches: In a round.
        rounds: Each gives one sample.
        warmup: Batches before the first round.

    Returns:
        "throughput": the median of the rounds in images/s.
    """
    if batches < 1 or rounds < 1:
        raise ValueError(f"expected batches and rounds >= 1, got {batches} and {rounds}")
    _drain(run_stream(predictor, repeat(batch, warmup), in_flight=in_flight))
    samples = []
    for _ in range(rounds):
        began = time.perf_counter()
        _drain(run_stream(predictor, repeat(batch, batches), in_flight=in_flight))
        samples.append(batches * len(batch) / (time.perf_counter() - began))
    conditions = {
        "engine": predictor.engine,
        "arithmetic": predictor.arithmetic,
        "batch_size": len(batch),
        "in_flight": requests_in_flight(predictor, in_flight),
        "batches_per_round": batches,
        "cpu": cpu_model(),
    }
    return Measurement(
        "throughput", median(samples), "images/s", rounds, "measured", tuple(samples), predictor.device, conditions
    )


def _drain(results: Iterable[object]) -> None:
    deque(results, maxlen=0)
