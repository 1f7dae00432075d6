from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.compare.parity import ParityReport, require_parity
from paddle_tk.errors import CheckFailed

LOGITS = np.random.default_rng(0).standard_normal((8, 10)).astype(np.float32)
LOSSES = [2.0 / (1 + i) for i in range(50)]


def _hold(other: np.ndarray, losses: list[float]) -> ParityReport:
    return require_parity(
        {"paddle": {"logits": LOGITS}, "torch": {"logits": other}},
        {"paddle": LOSSES, "torch": losses},
        outputs_tolerance=1e-5,
        early_tolerance=1e-4,
        late_tolerance=1e-2,
    )


def test_parity_tells_its_figures_when_both_agree() -> None:
    late = [x * (1 + (1e-3 if i >= 10 else 1e-6)) for i, x in enumerate(LOSSES)]
    found = _hold(LOGITS + np.float32(1e-6), late)
    assert found.outputs["logits"] < 1e-5
    assert found.early == pytest.approx(1e-6, rel=1e-3)
    assert found.late == pytest.approx(1e-3, rel=1e-3)
    assert (found.images, found.steps, found.early_steps) == (8, 50, 10)


def test_parity_refuses_to_compare_when_outputs_differ() -> None:
    with pytest.raises(CheckFailed, match=r"nothing is compared: .* logits of paddle and torch differ by"):
        _hold(LOGITS + np.float32(1e-3), LOSSES)


def test_parity_refuses_to_compare_when_a_value_is_not_finite() -> None:
    bad = LOGITS.copy()
    bad[0, 0] = np.nan
    with pytest.raises(CheckFailed, match="nothing is compared"):
        _hold(bad, LOSSES)
    with pytest.raises(CheckFailed, match="nothing is compared"):
        _hold(LOGITS, [float("nan"), *LOSSES[1:]])


@pytest.mark.parametrize(("step", "by"), [(3, 2e-4), (30, 2e-2)])
def test_parity_refuses_to_compare_when_losses_drift(step: int, by: float) -> None:
    drifted = [x * (1 + (by if i == step else 0)) for i, x in enumerate(LOSSES)]
    with pytest.raises(CheckFailed, match="losses of paddle and torch differ"):
        _hold(LOGITS, drifted)


def test_parity_takes_a_share_of_the_largest_output_when_outputs_are_large() -> None:
    boxes = np.random.default_rng(1).uniform(0, 640, (2, 5, 4)).astype(np.float32)
    found = require_parity(
        {"paddle": {"boxes": boxes}, "torch": {"boxes": boxes + np.float32(1e-3)}},
        {"paddle": LOSSES, "torch": LOSSES},
        outputs_tolerance=1e-5,
        early_tolerance=1e-4,
        late_tolerance=1e-2,
    )
    assert found.outputs["boxes"] < 1e-5
