from __future__ import annotations

import json
from dataclasses import replace

import pytest

from paddle_tk.errors import BadInput
from paddle_tk.files import MIB
from paddle_tk.hardware.memory_model import Line, MemoryModel, model_from_dict


def _mb(value: float) -> float:
    return value * MIB


# At the end of the forward pass: state and 4 MB an image; in the backward pass 10 MB of gradients and 2 MB an image.
MODEL = MemoryModel(
    parameters=_mb(10),
    gradients=_mb(9),
    optimizer=_mb(18),
    averages=_mb(10),
    inputs=Line(0, _mb(0.5)),
    kept=Line(0, _mb(4)),
    lines=(Line(_mb(38), _mb(4)), Line(_mb(49), _mb(2))),
)


@pytest.mark.parametrize(("batch", "peak"), [(1, 51), (5, 59), (6, 62), (100, 438)])
def test_peak_is_the_largest_line_when_the_batch_moves_it(batch: int, peak: float) -> None:
    assert MODEL.peak_mb(batch) == pytest.approx(peak)


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_parts_add_up_and_none_is_negative(batch: int) -> None:
    found = MODEL.estimate(batch, queued_batches=3)
    parts = (found.parameters_mb, found.gradients_mb, found.optimizer_mb, found.activations_mb, found.workspace_mb)
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(found.peak_mb)
    assert (found.parameters_mb, found.gradients_mb, found.optimizer_mb) == pytest.approx((10, 9, 28))
    assert found.data_cache_mb == pytest.approx(1.5 * batch)
    assert found.safety_margin_mb == pytest.approx(0.5 * (found.peak_mb + found.data_cache_mb))
    assert found.total_mb == pytest.approx(1.5 * (found.peak_mb + found.data_cache_mb))


def test_largest_batch_fits_and_the_next_does_not_when_overhead_counts() -> None:
    model = replace(MODEL, device_overhead=_mb(100))
    most = model.largest_batch(400)
    assert model.peak_mb(most) * 1.5 + 100 <= 400 < model.peak_mb(most + 1) * 1.5 + 100
    assert model.largest_batch(120) == 0


@pytest.mark.parametrize("batch", [0, -3])
def test_a_batch_below_one_is_refused(batch: int) -> None:
    with pytest.raises(BadInput, match=str(batch)):
        MODEL.estimate(batch)


def test_model_survives_json() -> None:
    assert model_from_dict(json.loads(json.dumps(MODEL.to_dict()))) == MODEL
