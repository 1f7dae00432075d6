from __future__ import annotations

from paddle_tk.hardware.events import Event, make_trace, with_update, without_workspaces

# time, address, bytes, operator, call
EVENTS = [
    Event(1, 100, 40, "conv2d", 1),
    Event(2, 200, 16, "conv2d", 1),
    Event(3, 200, -16, "conv2d", 1),  # a workspace
    Event(4, 200, 8, "relu", 2),
    Event(5, 100, -40, "", 0),
    Event(6, 300, -32, "", 0),  # was there before
    Event(7, 200, -8, "relu_grad", 3),
]


def test_trace_pairs_releases_with_allocations_when_addresses_are_used_again() -> None:
    trace = make_trace(EVENTS, forward_end=4, batch=2, size=(8, 8), before=100, inputs=10)
    assert list(trace.sizes) == [40, 16, 8, 32]
    assert list(trace.events) == [0, 1, -2, 2, -1, -4, -3]
    assert list(trace.operators) == ["conv2d", "conv2d", "relu", ""]
    assert list(trace.passing) == [False, True, False, False]
    assert (trace.forward_events, trace.peak) == (4, 166)


def test_workspaces_of_an_operator_vanish_when_they_are_left_out() -> None:
    trace = without_workspaces(make_trace(EVENTS, forward_end=4, batch=2, size=(8, 8), before=100, inputs=10), "conv")
    assert list(trace.sizes) == [40, 8, 32]
    assert list(trace.events) == [0, 1, -1, -3, -2]
    assert (trace.forward_events, trace.peak) == (2, 158)


def test_a_step_without_update_gets_that_of_another_when_they_are_joined() -> None:
    events = [Event(1, 1, 40, "conv2d", 1), Event(5, 2, 12, "adamw", 2), Event(6, 2, -12, "adamw", 2)]
    whole = make_trace(events, forward_end=2, batch=2, size=(8, 8), before=0, inputs=0, update=(4, 7))
    later = [*events[:1], Event(8, 3, 4, "scale", 3)]
    bare = make_trace(later, forward_end=2, batch=3, size=(9, 9), before=0, inputs=0)
    joined = with_update(bare, whole)
    assert whole.update == (1, 2)
    assert (list(joined.sizes), list(joined.operators)) == ([40, 12, 4], ["conv2d", "adamw", "scale"])
