from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.runtime.asynchronous import requests_in_flight, run_stream
from paddle_tk.runtime.base import noise_batch
from paddle_tk.runtime.load import load_predictor, open_model
from paddle_tk.types import ModelArtifact


class SlowFirst:
    """Finishes its first batch only when the second has begun; counts what was taken and what runs at once."""

    device, engine, arithmetic, reentrant = "cpu", "slow", "fp32", True

    def __init__(self, artifact: ModelArtifact) -> None:
        self.artifact = artifact
        self.second_began, self.lock = threading.Event(), threading.Lock()
        self.running = self.most = 0

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        if batch[0, 0, 0, 0] == 0:
            assert self.second_began.wait(30)
        else:
            self.second_began.set()
        with self.lock:
            self.running -= 1
        return (batch[:, 0, 0, 0],)


@pytest.mark.parametrize("name", ["run", "onnx", "onnx-dynamic"])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_run_stream_returns_every_batch_in_order_on_any_engine(name: str, in_flight: int, models: Path) -> None:
    source = open_model(models / name)
    predictor = load_predictor(source)
    batches = [noise_batch(source.artifact, 1 + i % 3, seed=i) for i in range(7)]
    found = list(run_stream(predictor, iter(batches), in_flight=in_flight))
    assert len(found) == 7
    for batch, outputs in zip(batches, found, strict=True):
        np.testing.assert_allclose(outputs[0], predictor.predict(batch)[0], rtol=0, atol=1e-5)
    assert requests_in_flight(predictor, in_flight) == (1 if name == "run" else in_flight)


def test_run_stream_keeps_the_order_and_takes_no_more_than_it_may_when_a_later_batch_is_quicker(models: Path) -> None:
    artifact = open_model(models / "onnx").artifact
    predictor, taken = SlowFirst(artifact), []

    def batches() -> Iterator[np.ndarray]:
        for i in range(6):
            taken.append(i)
            yield np.full((1, 3, 28, 28), i, np.float32)

    stream = run_stream(predictor, batches(), in_flight=2)
    assert float(next(stream)[0][0]) == 0
    assert len(taken) <= 3
    assert [float(outputs[0][0]) for outputs in stream] == [1, 2, 3, 4, 5]
    assert predictor.most <= 2


def test_run_stream_raises_what_a_batch_raises_when_it_does_not_fit(models: Path) -> None:
    predictor = load_predictor(open_model(models / "onnx"))
    bad = [np.zeros((1, 3, 28, 28), np.float32), np.zeros((1, 3, 9, 9), np.float32)]
    with pytest.raises(ValueError, match="expected a float32 batch"):
        list(run_stream(predictor, bad, in_flight=2))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run_stream(predictor, bad, in_flight=0)


def test_one_batch_is_in_flight_when_buffers_are_kept(models: Path) -> None:
    predictor = load_predictor(open_model(models / "onnx"), options={"preallocate": True})
    assert requests_in_flight(predictor, 4) == 1
