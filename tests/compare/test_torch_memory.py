from __future__ import annotations

import pytest
import torch

from paddle_tk.compare.torch_memory import TorchSubject
from paddle_tk.hardware.events import without_workspaces
from paddle_tk.pipelines.memory_torch import probe_torch
from paddle_tk.pipelines.memory_training import Training


def test_state_is_that_of_the_tensors_when_a_twin_has_trained() -> None:
    subject = TorchSubject("resnet18", num_classes=10, detects=False, stem="small", optimizer="adamw")
    trace = subject.trace(2, (16, 16))
    state = subject.state()
    numbers = sum(parameter.numel() for parameter in subject.network.parameters())
    assert state.gradients == numbers * 4
    assert state.optimizer == pytest.approx(2 * numbers * 4, rel=1e-4)
    # The last step's gradients are there when the next one begins.
    assert trace.before == pytest.approx(state.resident + state.gradients, rel=1e-3)
    kept = [parameter.grad for parameter in subject.network.parameters()]
    assert all(isinstance(gradient, torch.Tensor) for gradient in kept)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_peak_is_the_profilers_when_a_larger_step_is_recorded(optimizer: str) -> None:
    size, batch = (56, 40), 6
    model = probe_torch(Training("mobilenet_v2", size, 10, stem="small", optimizer=optimizer, clip=True))
    subject = TorchSubject(
        "mobilenet_v2", num_classes=10, detects=False, stem="small", optimizer=optimizer, clip=True
    )  # fmt: skip
    full = without_workspaces(subject.trace(batch, size), "conv")
    assert model.peak_mb(batch) == pytest.approx(full.peak / 2**20, rel=1e-4)


def test_an_inference_holds_no_gradients() -> None:
    model = probe_torch(Training("efficientnet_b0", (64, 64), 10, inference=True))
    assert model.gradients == model.optimizer == 0
    assert model.peak_mb(4) < 40
