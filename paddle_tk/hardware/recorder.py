"""Records what a step allocates, by Paddle's own profiler, in a process whose tensors all lie on the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import paddle
from paddle.profiler import Profiler, ProfilerTarget, RecordEvent

from paddle_tk.errors import CheckFailed
from paddle_tk.hardware.allocations import Trace
from paddle_tk.hardware.events import Event, make_trace

_ALLOCATED = "Allocated"
_KERNEL = " kernel launch"  # the profiler's name of an operator's call, behind its own
FORWARD, UPDATE = "paddle_tk.forward", "paddle_tk.update"


class Marked:
    """Calls a function and marks that in the profile.

    Args:
        function: The forward pass or the update.
        mark: ``FORWARD`` or ``UPDATE``.
    """

    def __init__(self, function: Callable[..., Any], mark: str) -> None:
        self.function, self.mark = function, mark

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the function returns."""
        with RecordEvent(self.mark):
            return self.function(*args, **kwargs)


def allocated() -> int:
    """Returns the bytes that Paddle's allocator has given out on the CPU, after a collection of garbage."""
    gc.collect()
    return int(paddle.base.core.host_memory_stat_current_value(_ALLOCATED, 0))


def reset_peak() -> None:
    """Lets the allocator's peak begin anew."""
    paddle.base.core.host_memory_stat_reset_peak_value(_ALLOCATED, 0)


def peak() -> int:
    """Returns the most bytes that the allocator has given out at once since ``reset_peak``."""
    return int(paddle.base.core.host_memory_stat_peak_value(_ALLOCATED, 0))


def record(step: Callable[[], Any], *, batch: int, size: tuple[int, int], inputs: int) -> Trace:
    """Runs a step and returns what it allocated.

    Args:
        step: Must allocate in this thread only.
        batch: Images.
        size: (height, width) in pixels.
        inputs: Bytes of its images and labels, allocated already.

    Raises:
        CheckFailed: The record and the allocator disagree.
    """
    before = allocated()
    reset_peak()
    profiler = Profiler(targets=[ProfilerTarget.CPU], profile_memory=True, on_trace_ready=lambda done: None)
    profiler.start()
    step()
    profiler.stop()
    most = peak()
    roots = list(profiler.profiler_result.get_data().values())
    events = sorted((event for root in roots for event in _events(root)), key=lambda event: event.nanoseconds)
    marks = {node.name: (node.start_ns, node.end_ns) for root in roots for node in _nodes(root)}
    trace = make_trace(
        events,
        forward_end=marks.get(FORWARD, (0, 0))[1],
        update=marks.get(UPDATE, (0, 0)),
        batch=batch,
        size=size,
        before=before - inputs,
        inputs=inputs,
    )
    if trace.peak != most:
        raise CheckFailed(
            f"the profile of a step tells a peak of {trace.peak} bytes, the allocator one of {most}",
            "use the Paddle version that docs/memory.md names",
        )
    return trace


def _nodes(root: Any) -> Iterator[Any]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.children_node)


def _events(root: Any) -> Iterator[Event]:
    waiting = [(root, "", 0)]
    number = 0
    while waiting:
        node, operator, call = waiting.pop()
        if node.name.endswith(_KERNEL):
            number += 1
            operator, call = node.name.removesuffix(_KERNEL), number
        for event in node.mem_node:
            yield Event(event.timestamp_ns, event.addr, event.increase_bytes, operator, call)
        waiting.extend((child, operator, call) for child in node.children_node)
