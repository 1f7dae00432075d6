"""From what a profiler saw of an allocator to a ``Trace``. Imports no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    events: Sequence[Event],
    *,
    forward_end: int,
    batch: int,
    size: tuple[int, int],
    before: int,
    inputs: int,
    update: tuple[int, int] = (0, 0),
) -> Trace:
    """Returns a step's trace; the peak is what the events come to.

    Args:
        events: Of the step, in order of time.
        forward_end: Nanoseconds at which the forward pass was over.
        batch: Images.
        size: (height, width) in pixels.
        before: Bytes allocated when the step began, images and labels not counted.
        inputs: Bytes of images and labels.
        update: Nanoseconds at which the update began and was over.
    """
    sizes: list[int] = []
    operators: list[str] = []
    passing: list[bool] = []
    order: list[int] = []
    living: dict[int, tuple[int, int]] = {}  # address -> number, call
    level = highest = before + inputs
    within: list[int] = []  # the update
    for event in events:
        level += event.change
        highest = max(highest, level)
        known = event.change < 0 and event.address in living
        if not known:  # an allocation, or a release of what was there before the step
            living[event.address] = len(sizes), event.call if event.change > 0 else 0
            sizes.append(abs(event.change))
            operators.append(event.operator if event.change > 0 else "")
            passing.append(False)
            if update[0] <= event.nanoseconds <= update[1]:
                within.append(len(sizes) - 1)
        if event.change > 0:
            order.append(len(sizes) - 1)
            continue
        number, call = living.pop(event.address)
        order.append(-number - 1)
        passing[number] = call > 0 and call == event.call
    forward = sum(event.nanoseconds <= forward_end for event in events)
    span = (within[0], within[-1] + 1) if within else (len(sizes), len(sizes))
    return Trace(batch, size, before, inputs, sizes, operators, passing, order, forward, highest, span)


def with_update(trace: Trace, whole: Trace) -> Trace:
    """Returns a step without an update with the allocations of one that has it, for ``extrapolate``.

    An update allocates the same at every batch and image size.
    """
    first, last = whole.update
    joined = [
        [*own[:first], *other[first:last], *own[first:]]
        for own, other in ((trace.sizes, whole.sizes), (trace.operators, whole.operators))
    ]
    return replace(trace, sizes=joined[0], operators=joined[1])


def without_workspaces(trace: Trace, part: str) -> Trace:
    """Returns a trace without the buffers that operators with ``part`` in their name take and give back in one call.

    Which buffers a convolution library takes depends on the shapes in ways of its own.
    """
    pairs = enumerate(zip(trace.operators, trace.passing, strict=True))
    dropped = {number for number, (operator, passing) in pairs if passing and part in operator}
    places = [number for number in range(len(trace.sizes)) if number not in dropped]
    new = {number: place for place, number in enumerate(places)}
    events = []
    forward = trace.forward_events
    for place, event in enumerate(trace.events):
        number = event if event >= 0 else -event - 1
        if number in dropped:
            forward -= place < trace.forward_events
            continue
        events.append(new[number] if event >= 0 else -new[number] - 1)
    level = highest = trace.before + trace.inputs
    sizes = [trace.sizes[number] for number in places]
    for event in events:
        level += sizes[event] if event >= 0 else -sizes[-event - 1]
        highest = max(highest, level)
    return replace(
        trace,
        sizes=sizes,
        operators=[trace.operators[number] for number in places],
        passing=[trace.passing[number] for number in places],
        events=events,
        forward_events=forward,
        peak=highest,
    )
