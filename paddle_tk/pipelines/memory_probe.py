"""The memory of a training or an inference, found by a few small steps in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddle_tk.environment.start import start_paddle
from paddle_tk.errors import CheckFailed
from paddle_tk.hardware.gpu_rules import State
from paddle_tk.hardware.memory_model import MemoryModel
from paddle_tk.measure.fresh_process import answer
from paddle_tk.pipelines.memory_conclude import conclude
from paddle_tk.pipelines.memory_training import Training, training_from_dict

if TYPE_CHECKING:
    from paddle_tk.pipelines.memory_subject import Subject

_ATTEMPTS = 3


def probe(training: Training) -> MemoryModel:
    """Builds the network, runs the steps and returns what follows; the process must hold no other tensors.

    Raises:
        BadInput: The network cannot be built so.
        CheckFailed: Small steps do not tell of large ones.
    """
    from paddle_tk.pipelines.memory_subject import Subject

    subject = Subject(training)
    for start in range(_ATTEMPTS):
        sizes = subject.probe_sizes(start)
        traces = subject.traces(sizes)
        if all(trace.operators == traces[-2].operators for trace in traces):
            return conclude(training, _state(subject), subject.input_bytes(training.size), traces)
    raise CheckFailed(
        f"{training.model} allocates in another order at other image sizes, its memory cannot be told from small ones",
        "report this with the command that you ran",
    )


def _state(subject: Subject) -> State:
    network, model = subject.network, subject.model
    trained = [p for p in network.parameters() if not p.stop_gradient]
    optimizer = 0
    if model is not None:
        held = [tensor for kind in model._optimizer._accumulators.values() for tensor in kind.values()]
        optimizer = sum(_bytes(tensor) for tensor in held)
    averages = model.ema.average.values() if model is not None and model.ema is not None else ()
    return State(
        parameters=float(sum(_bytes(tensor) for tensor in network.state_dict().values())),
        gradients=float(sum(_bytes(p) for p in trained)) if model is not None else 0.0,
        matrices=float(sum(_bytes(p) for p in trained if p.ndim > 1)),
        optimizer=float(optimizer),
        averages=float(sum(_bytes(tensor) for tensor in averages)),
    )


def _bytes(tensor: Any) -> int:
    return int(tensor.size) * int(tensor.element_size())


def _answer(job: Mapping[str, Any]) -> dict[str, Any]:
    start_paddle("auto")
    return probe(training_from_dict(job)).to_dict()


if __name__ == "__main__":
    sys.exit(answer(_answer))
