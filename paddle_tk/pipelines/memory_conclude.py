"""From recorded small steps to the memory of a training at its real size. Imports no framework."""

from __future__ import annotations

from collections.abc import Sequence

from paddle_tk.files import MIB
from paddle_tk.hardware.allocations import Trace, envelope, extrapolate, play_back
from paddle_tk.hardware.gpu_rules import NOTE, State, low_state, on_gpu
from paddle_tk.hardware.gpus import load_gpus
from paddle_tk.hardware.memory_model import Line, MemoryModel
from paddle_tk.pipelines.memory_training import Training


def conclude(training: Training, state: State, image_bytes: int, traces: Sequence[Trace]) -> MemoryModel:
    """Returns the memory at the real size.

    Args:
        training: What is estimated.
        state: What the recorded training held between steps.
        image_bytes: Of an image of the real size and its labels.
        traces: As ``extrapolate`` takes them.
    """
    trace = traces[-2]
    sizes = extrapolate(traces, training.size)
    before = Line(float(trace.before), float(image_bytes))
    overhead = casts = 0.0
    notes: tuple[str, ...] = ()
    if training.device == "gpu":
        sizes = on_gpu(trace, sizes, training.precision, training.amp_level)
        low, casts = low_state(state, training.precision, training.amp_level)
        before = Line(before.fixed + low.resident - state.resident, before.each)
        state, overhead, notes = low, load_gpus().overhead.total_mb * MIB, (NOTE,)
    levels = play_back(trace, sizes, (before.fixed + casts, before.each))
    top = envelope(levels)
    forward = Line(*(float(values[trace.forward_events]) for values in (levels.fixed, levels.each)))
    return MemoryModel(
        parameters=state.parameters,
        gradients=state.gradients,
        optimizer=state.optimizer,
        averages=state.averages,
        inputs=Line(0.0, before.each),
        kept=Line(forward.fixed - before.fixed, forward.each),
        lines=tuple(Line(float(f), float(e)) for f, e in zip(top.fixed, top.each, strict=True)),
        device_overhead=overhead,
        notes=notes,
    )
