from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.config.load import load_config
from paddle_tk.errors import BadInput
from paddle_tk.pipelines.memory_estimate import estimate_memory, estimate_of_config
from paddle_tk.pipelines.memory_training import Training

ROOT = Path(__file__).resolve().parents[2]


def _measured_mb(overrides: list[str], **case: Any) -> float:
    """The allocator's peak of a step of the trainer's parts at full size, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks._memory_step",
        json.dumps({"overrides": overrides, "steps": 2, **case}),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("MEASURED "))
    peaks = json.loads(line.removeprefix("MEASURED "))["peaks_mb"]
    assert peaks[0] == peaks[1]
    return float(peaks[1])


@pytest.mark.parametrize(
    ("settings", "size", "batch", "accumulate"),
    [
        (["model.name=resnet18", "model.stem=small", "trainer.optimizer=adamw", "trainer.ema_decay=0.99"], 44, 9, 1),
        (["model.name=mobilenet_v2", "trainer.recompute=true", "trainer.gradient_clip_val=1.0"], 136, 4, 2),
    ],
)
def test_peak_is_the_allocators_when_a_classifier_is_trained(
    settings: list[str], size: int, batch: int, accumulate: int
) -> None:
    overrides = [*settings, f"data.image_size={size}"]
    config = load_config(None, [*overrides, f"trainer.accumulate_grad_batches={accumulate}"]).config
    estimate = estimate_of_config(config, num_classes=10)
    measured = _measured_mb(
        overrides, batch=batch, size=[size, size], boxes=0, num_classes=10, detects=False, accumulate=accumulate
    )
    assert estimate.peak_mb(batch) == pytest.approx(measured, rel=0.005)


@pytest.mark.slow
def test_peak_is_the_allocators_when_a_detector_is_trained() -> None:
    overrides = ["model.name=picodet_xs", "data.image_size=[256,320]", "trainer.optimizer=adamw"]
    estimate = estimate_of_config(load_config(None, overrides).config, num_classes=3, boxes_per_image=6)
    measured = _measured_mb(
        overrides, batch=4, size=[256, 320], boxes=6, num_classes=3, detects=True, accumulate=1
    )  # fmt: skip
    assert estimate.peak_mb(4) == pytest.approx(measured, rel=0.01)


def test_what_cannot_be_built_is_told_as_the_trainer_would_tell_it() -> None:
    with pytest.raises(BadInput, match="no layer"):
        estimate_memory(Training("lenet", (32, 32), 10, recompute=("nowhere",)))
