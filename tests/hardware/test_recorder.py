from __future__ import annotations

import paddle

from paddle_tk.hardware.recorder import FORWARD, Marked, allocated, peak, record, reset_peak


def test_record_tells_every_allocation_when_a_step_runs() -> None:
    layer = paddle.nn.Linear(8, 4)
    x = paddle.ones([16, 8])

    def step() -> None:
        y = Marked(layer, FORWARD)(x)
        y.sum().backward()
        for parameter in layer.parameters():
            parameter.grad = None

    step()
    before = allocated()
    trace = record(step, batch=16, size=(1, 1), inputs=16 * 8 * 4)
    assert trace.before + trace.inputs == before
    assert 16 * 4 * 4 in trace.sizes
    assert 8 * 4 * 4 in trace.sizes  # the weight's gradient
    inside = [event for event in trace.events[: trace.forward_events] if event >= 0]
    assert 0 < len(inside) < len([event for event in trace.events if event >= 0])
    reset_peak()
    step()
    assert trace.peak == peak()
