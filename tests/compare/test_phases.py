"""Both backends in one process, so that their steps can be held against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paddle_tk.compare.backend import Backend, epoch_feed
from paddle_tk.compare.inputs import VAL, Plan, SharedInputs
from paddle_tk.compare.paddle_backend import PaddleBackend
from paddle_tk.compare.phases import Clock, Phases
from paddle_tk.compare.torch_backend import TorchBackend
from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.models.weights import read_weights, write_safetensors

from .small_plan import EPOCHS, boxes, inputs

__all__ = ["boxes", "inputs"]
SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4}
OPTIMIZERS: list[dict[str, Any]] = [
    SGD,
    {**SGD, "nesterov": True, "clip_norm": 1.0},
    {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.05},
]


def both(plan: Plan) -> list[Backend]:
    return [PaddleBackend(plan, "cpu"), TorchBackend(plan, "cpu", 1)]


def curve(backend: Backend, given: SharedInputs, *, double: bool) -> list[float]:
    step = backend.bare_step(given.weights, random_layers=False, double=double)
    return [step(*given.train_batch(place)) for place in range(3)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "nesterov, clipped", "adamw"])
def test_losses_follow_each_other_when_rounding_does_not_part_them(
    optimizer: dict[str, Any], inputs: SharedInputs
) -> None:
    plan = replace(inputs.plan, optimizer={**inputs.plan.optimizer, **optimizer})
    paddle, torch = (curve(backend, inputs, double=True) for backend in both(plan))
    np.testing.assert_allclose(paddle, torch, rtol=1e-9)
    assert abs(paddle[0] - paddle[2]) > 1e-3


def test_losses_in_float32_begin_alike(inputs: SharedInputs) -> None:
    paddle, torch = (curve(backend, inputs, double=False) for backend in both(inputs.plan))
    np.testing.assert_allclose(paddle[:2], torch[:2], rtol=1e-4)


@pytest.mark.parametrize("place", [0, 1], ids=["paddle", "torch"])
def test_high_level_training_does_the_steps_of_the_bare_loop_in_the_same_order(
    place: int, inputs: SharedInputs
) -> None:
    backend = both(inputs.plan)[place]
    step = backend.bare_step(inputs.weights)
    expected = [step(*inputs.train_batch(i)) for i in range(EPOCHS * inputs.plan.batches_per_epoch)]
    model, clock = backend.high_level(inputs.weights), Clock()
    model.fit(epoch_feed(inputs, EPOCHS), inputs.eval_images(VAL), clock)
    np.testing.assert_allclose(clock.losses, expected, rtol=1e-3)
    assert [entry["epoch"] for entry in clock.epochs] == [1, 2]
    assert clock.epochs[1]["seconds"] > clock.epochs[0]["seconds"] > 0
    assert clock.epochs[1]["train_loss"] == pytest.approx(np.mean(expected[2:]), rel=1e-3)
    assert clock.epochs[1]["val_metric"] == pytest.approx(model.evaluate(inputs.eval_images(VAL)))
    assert model.arrays().keys() == read_weights(inputs.weights).keys()


def test_detectors_train_from_the_same_loss_to_an_average_precision(boxes: SharedInputs) -> None:
    found = {}
    for backend in both(boxes.plan):
        model, clock = backend.high_level(boxes.weights), Clock()
        before = model.evaluate(boxes.eval_images(VAL))
        model.fit(epoch_feed(boxes, 1), boxes.eval_images(VAL), clock)
        found[backend.framework] = (clock.losses, before, clock.epochs[0]["val_metric"])
    paddle, torch = found["paddle"], found["torch"]
    np.testing.assert_allclose(paddle[0], torch[0], rtol=1e-4)
    assert paddle[1] == pytest.approx(torch[1], abs=1e-6)
    assert 0 <= torch[2] <= 1


def test_outputs_are_equal_on_equal_weights(boxes: SharedInputs) -> None:
    images = np.array(boxes.eval_images("test").images[:2])
    paddle, torch = (backend.predictor(boxes.weights)(images) for backend in both(boxes.plan))
    assert [x.shape for x in paddle] == [x.shape for x in torch]
    np.testing.assert_allclose(paddle[0], torch[0], atol=1e-3)
    np.testing.assert_allclose(paddle[1], torch[1], atol=1e-5)


def test_weights_of_another_network_are_refused(inputs: SharedInputs, tmp_path: Any) -> None:
    arrays = {k: v for k, v in read_weights(inputs.weights).items() if not k.startswith("layer4")}
    write_safetensors(arrays, tmp_path / "w.safetensors")
    for backend in both(inputs.plan):
        with pytest.raises(ArtifactError):
            backend.predictor(tmp_path / "w.safetensors")


def test_a_wrong_job_is_refused(inputs: SharedInputs) -> None:
    backend = PaddleBackend(inputs.plan, "cpu")
    with pytest.raises(BadInput, match="unknown phase dance"):
        Phases(backend, inputs, {"phases": ["dance"]}, 0.0).run()
    with pytest.raises(BadInput, match=r"3 epochs asked for.*1 to 2"):
        Phases(backend, inputs, {"phases": ["train"], "epochs": 3}, 0.0).run()
    with pytest.raises(BadInput, match="needs curve_steps"):
        Phases(backend, inputs, {"phases": ["losses"]}, 0.0).run()


def test_a_gpu_that_is_not_there_is_refused(inputs: SharedInputs) -> None:
    with pytest.raises(BadInput, match="gpu:0 was asked for"):
        PaddleBackend(inputs.plan, "gpu:0")
    with pytest.raises(BadInput, match="gpu:0 was asked for"):
        TorchBackend(inputs.plan, "gpu:0", 1)
