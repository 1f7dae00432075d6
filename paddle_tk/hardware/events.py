"""From what a profiler saw of an allocator to a ``Trace``. Imports no framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paddle_tk.hardware.allocations import Trace


class Event(NamedTuple):
    """One allocation or release.

    Attributes:
        nanoseconds: When.
        address: Of the memory.
        change: Bytes, negative for a release.
        operator: Who; empty where that is not known.
        call: Number of the operator's call; 0 where that is not known.
    """

    nanoseconds: int
    address: int
    change: int
    operator: str
    call: int


def make_trace(
    events: Sequence[Event], *, forward_end: int, batch: int, size: tuple[int, int], before: int, inputs: int
) -> Trace:
    """Returns a step's trace; the peak is what the events come to.

    Args:
        events: Of the step, in order of time.
        forward_end: Nanoseconds at which the forward pass was over.
        batch: Images.
        size: (height, width) in pixels.
        before: Bytes allocated when the step began, images and labels not counted.
        inputs: Bytes of images and labels.
    """
    sizes: list[int] = []
    operators: list[str] = []
    passing: list[bool] = []
    order: list[int] = []
    living: dict[int, tuple[int, int]] = {}  # address -> number, call
    level = highest = before + inputs
    for event in events:
        level += event.change
        highest = max(highest, level)
        known = event.change < 0 and event.address in living
        if not known:  # an allocation, or a release of what was there before the step
            living[event.address] = len(sizes), event.call if event.change > 0 else 0
            sizes.append(abs(event.change))
            operators.append(event.operator if event.change > 0 else "")
            passing.append(False)
        if event.change > 0:
            order.append(len(sizes) - 1)
            continue
        number, call = living.pop(event.address)
        order.append(-number - 1)
        passing[number] = call > 0 and call == event.call
    forward = sum(event.nanoseconds <= forward_end for event in events)
    return Trace(batch, size, before, inputs, sizes, operators, passing, order, forward, highest)
