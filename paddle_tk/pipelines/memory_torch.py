"""The memory of a torch twin's training, found as Paddle's is: small steps in a process of its own, extrapolated."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.hardware.memory_model import MemoryModel
from paddle_tk.hardware.probe_sizes import probe_sizes
from paddle_tk.measure.fresh_process import answer
from paddle_tk.models.classifiers import resolve_stem
from paddle_tk.pipelines.memory_conclude import conclude
from paddle_tk.pipelines.memory_estimate import run_probe
from paddle_tk.pipelines.memory_training import Training, training_from_dict

_ATTEMPTS = 3
_BATCH, _WIDER = 2, 3
_PERIOD, _SMALL_PERIOD = 32, 8


def estimate_torch_memory(training: Training, *, threads: int | None = None) -> MemoryModel:
    """Returns the memory of the torch twin's training or inference as a function of the batch.

    Args:
        training: What is trained, and how.
        threads: CPU threads of the probe; None: all cores.

    Raises:
        BadInput: There is no twin, or it cannot be trained so.
        CheckFailed: The probe failed.
    """
    training.check()
    for what, given in (
        ("recompute", training.recompute is not False),
        ("EMA", training.ema),
        ("mixup", training.mixup),
    ):
        if given:
            raise BadInput(
                f"the torch twins are trained without {what}", f"leave {what} out, or use --framework paddle"
            )
    if training.precision != "fp32" and training.amp_level == "O2":
        raise BadInput("torch has no AMP level O2", "use O1, or --framework paddle")
    return run_probe(__name__, training, f"the memory of the torch twin of {training.model}", threads)


def probe_torch(training: Training) -> MemoryModel:
    """Builds the twin, runs the steps and returns what follows.

    Raises:
        BadInput: There is no twin of the network.
        CheckFailed: Small steps do not tell of large ones.
    """
    from paddle_tk.compare.torch_memory import TorchSubject

    subject = TorchSubject(
        training.model,
        num_classes=training.num_classes,
        detects=training.detects,
        stem="imagenet" if training.detects else resolve_stem(training.model, training.stem, training.size),
        activation=training.activation,
        dropout=training.dropout,
        boxes=training.boxes,
        optimizer=training.optimizer,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        clip=training.clip,
        accumulate=training.accumulate,
        label_smoothing=training.label_smoothing,
        inference=training.inference,
    )
    period = _SMALL_PERIOD if training.small_stem else _PERIOD
    for start in range(_ATTEMPTS):
        sizes = probe_sizes(training.size, period=period, start=2 + start, least=0, exact=training.detects)
        runs = [*((_BATCH, size) for size in sizes[1:]), (_BATCH, sizes[0]), (_WIDER, sizes[0])]
        traces = subject.traces(runs)
        if all(trace.operators == traces[-2].operators for trace in traces):
            return conclude(training, subject.state(), subject.input_bytes(training.size), traces)
    raise CheckFailed(
        f"torch's {training.model} allocates in another order at other image sizes", "report this with the command"
    )


def _answer(job: Mapping[str, Any]) -> dict[str, Any]:
    return probe_torch(training_from_dict(job)).to_dict()


if __name__ == "__main__":
    sys.exit(answer(_answer))
