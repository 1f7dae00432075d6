from __future__ import annotations

import math
import subprocess
import sys

import pytest

from paddle_tk.training.schedule import learning_rate_factor


def test_cosine_starts_at_one_and_ends_at_the_floor() -> None:
    factor = learning_rate_factor("cosine", updates_per_epoch=10, max_epochs=5, min_ratio=0.1)
    assert factor(0) == 1
    assert factor(25) == pytest.approx(0.1 + 0.9 * 0.5)
    assert factor(50) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(0.1)


def test_warmup_is_linear_from_one_percent() -> None:
    factor = learning_rate_factor("constant", updates_per_epoch=10, max_epochs=5, warmup_epochs=2)
    assert [factor(u) for u in (0, 10, 20, 49)] == pytest.approx([0.01, 0.505, 1, 1])


def test_step_drops_at_each_epoch_named() -> None:
    factor = learning_rate_factor("step", updates_per_epoch=4, max_epochs=9, step_epochs=[2, 5], step_gamma=0.5)
    assert [factor(u) for u in (0, 7, 8, 19, 20, 35)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_one_cycle_rises_for_thirty_percent_then_falls() -> None:
    factor = learning_rate_factor("one_cycle", updates_per_epoch=10, max_epochs=10)
    values = [factor(u) for u in range(101)]
    assert values.index(max(values)) == 30
    assert values[0] == pytest.approx(0.01)
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)
    assert factor(65) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_schedule_loads_no_framework() -> None:
    code = "import sys, paddle_tk.training.schedule; sys.exit('paddle' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
