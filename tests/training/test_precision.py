from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.models.weights import network_arrays
from paddle_tk.training.checkpoint import Checkpoint
from paddle_tk.training.precision import Precision
from paddle_tk.training.state import capture_state, restore_state
from paddle_tk.training.tensors import load_network_state

from . import small


@pytest.fixture
def gpu_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tells Paddle's scaler that the device is a GPU; all of its arithmetic then runs for real, on the CPU."""
    place = SimpleNamespace(is_gpu_place=lambda: True, is_xpu_place=lambda: False, is_custom_place=lambda: False)
    monkeypatch.setattr("paddle.amp.grad_scaler._dygraph_tracer", lambda: SimpleNamespace(_expected_place=place))


def test_precision_refuses_fp16_when_on_a_cpu() -> None:
    with pytest.raises(BadInput, match="needs a GPU"):
        Precision("fp16", "O1", "cpu")


def test_precision_says_that_it_computes_in_fp32_when_bf16_is_asked_on_a_cpu() -> None:
    precision = Precision("bf16", "O1", "cpu")
    assert "computing in fp32" in precision.note
    assert not precision.low
    assert Precision("bf16", "O1", "gpu:0").low
    assert Precision("bf16", "O1", "gpu:0").scaler is None


def test_scaler_state_survives_json_when_it_has_moved(gpu_scaler: None) -> None:
    one, other = Precision("fp16", "O1", "gpu:0"), Precision("fp16", "O1", "gpu:0")
    assert one.scaler is not None
    assert other.scaler is not None
    one.scaler.load_state_dict({**one.scaler.state_dict(), "scale": np.array([512.0]), "incr_count": 7})
    other.load(json.loads(json.dumps(one.state())))
    assert other.state() == one.state()
    assert float(other.scaler._scale) == 512.0


def test_scaled_steps_equal_the_plain_ones_and_a_resume_keeps_the_scale(gpu_scaler: None) -> None:
    # Scaling by a power of two and back is exact in float32, so the weights must be the same bits.
    plain = small.model()
    plain.fit(small.train_loader(), small.eval_loader(), epochs=2)
    scaled = small.model(precision=_autocast_free())
    scaled.fit(small.train_loader(), small.eval_loader(), epochs=1)
    tensors, state = capture_state(scaled, [])
    resumed = small.model(precision=_autocast_free())
    restore_state(resumed, [], Checkpoint(Path("x"), tensors, json.loads(json.dumps(state))))
    assert resumed.precision.state()["incr_count"] == 5
    resumed.fit(small.train_loader(), small.eval_loader(), epochs=2)
    for name, value in network_arrays(plain.network).items():
        np.testing.assert_allclose(value, network_arrays(resumed.network)[name], rtol=1e-6, atol=1e-7, err_msg=name)


def _autocast_free() -> Precision:
    precision = Precision("fp16", "O1", "gpu:0")
    precision.name = "fp32"  # the CPU has no half-precision kernels: only the scaling is run
    return precision


def test_step_is_skipped_and_the_scale_halved_when_gradients_overflow(gpu_scaler: None) -> None:
    precision = _autocast_free()
    layer = paddle.nn.Linear(2, 1)
    optimizer = paddle.optimizer.SGD(0.1, parameters=layer.parameters())
    before: Any = layer.weight.numpy().copy()
    assert precision.scaler is not None
    scale = float(precision.scaler._scale)
    precision.backward(layer(paddle.to_tensor([[np.float32(3e38), 1.0]])).sum())
    precision.step(optimizer)
    np.testing.assert_array_equal(layer.weight.numpy(), before)
    assert float(precision.scaler._scale) == scale / 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_network_state_round_trips_exactly_when_weights_are_half_precision(dtype: str) -> None:
    network = small.network().to(dtype=dtype)
    arrays = network_arrays(network)
    assert all(a.dtype == np.float32 for a in arrays.values())
    other = small.network().to(dtype=dtype)
    load_network_state(other, arrays)
    for name, tensor in other.state_dict().items():
        assert tensor.dtype == network.state_dict()[name].dtype
        np.testing.assert_array_equal(network_arrays(other)[name], arrays[name])
