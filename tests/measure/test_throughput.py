from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddle_tk.measure.throughput import measure_throughput
from paddle_tk.runtime.base import noise_batch
from paddle_tk.runtime.load import load_predictor, open_model


@pytest.mark.parametrize(("name", "in_flight", "really"), [("run", 3, 1), ("onnx", 1, 1), ("onnx-dynamic", 3, 3)])
def test_throughput_is_the_median_of_its_rounds_and_says_what_was_in_flight(
    name: str, in_flight: int, really: int, models: Path
) -> None:
    source = open_model(models / name)
    found = measure_throughput(
        load_predictor(source), noise_batch(source.artifact, 2), in_flight=in_flight, batches=4, rounds=3, warmup=1
    )
    assert (found.name, found.unit, found.n, found.origin) == ("throughput", "images/s", 3, "measured")
    assert len(found.samples) == 3
    assert found.value == float(np.median(found.samples)) > 0
    assert (found.conditions["in_flight"], found.conditions["batch_size"]) == (really, 2)


@pytest.mark.parametrize("wrong", [{"batches": 0}, {"rounds": 0}, {"in_flight": 0}])
def test_throughput_refuses_when_nothing_would_be_run(wrong: dict[str, int], models: Path) -> None:
    source = open_model(models / "onnx")
    with pytest.raises(ValueError, match=r">= 1|at least 1"):
        measure_throughput(load_predictor(source), noise_batch(source.artifact, 1), **wrong)
