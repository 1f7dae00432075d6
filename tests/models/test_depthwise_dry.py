from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddle_tk.models import depthwise
from paddle_tk.models.depthwise import use_fast_depthwise


def test_nothing_is_computed_or_compiled_but_as_much_allocated_when_dry(monkeypatch: pytest.MonkeyPatch) -> None:
    core = paddle.base.core
    peaks = {}
    for dry in (False, True):
        layer = paddle.nn.Conv2D(4, 4, 3, padding=1, groups=4)
        assert use_fast_depthwise(layer, dry=dry) == 1
        if dry:
            monkeypatch.setattr(depthwise, "_kernels", None)  # would fail if it were called
        x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 4, 9, 9)).astype(np.float32))
        x.stop_gradient = False
        core.host_memory_stat_reset_peak_value("Allocated", 0)
        before = core.host_memory_stat_current_value("Allocated", 0)
        layer(x).sum().backward()
        peaks[dry] = core.host_memory_stat_peak_value("Allocated", 0) - before
        assert np.isfinite(x.grad.numpy()).all()
    assert peaks[True] == peaks[False] > 0
