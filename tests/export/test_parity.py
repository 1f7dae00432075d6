from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddle_tk.errors import CheckFailed
from paddle_tk.export.compare import compare
from paddle_tk.export.parity import measure
from paddle_tk.runtime.load import load_predictor, open_model

LOGITS = np.array([[4.0, 1.0, -2.0], [0.5, 0.25, 8.0]], np.float32)


def _changed(row: int, column: int, by: float) -> np.ndarray:
    changed = LOGITS.copy()
    changed[row, column] += by
    return changed


def test_measure_passes_when_both_are_equal() -> None:
    parity = measure(LOGITS, LOGITS.copy(), samples="two rows")
    parity.require()
    assert (parity.max_abs_difference, parity.top1_agreement, parity.n) == (0.0, 1.0, 2)
    assert parity.min_cosine == pytest.approx(1.0)
    assert parity.logit_scale == 8.0


def test_measure_judges_the_difference_by_the_largest_logit() -> None:
    found = measure(LOGITS, _changed(0, 0, 0.0005), samples="")
    assert found.relative_difference == pytest.approx(0.0005 / 8, rel=1e-3)
    assert found.passed
    too_far = measure(LOGITS, _changed(0, 0, 0.001), samples="")
    with pytest.raises(CheckFailed, match=r"1\.25e-04 of the largest logit"):
        too_far.require()
    assert measure(LOGITS, _changed(0, 0, 0.001), samples="", tolerance=1e-3).passed


def test_measure_fails_when_one_top1_class_is_another() -> None:
    close = np.array([[1.0, 1.00001]], np.float32)
    parity = measure(close, close[:, ::-1].copy(), samples="")
    assert parity.relative_difference < parity.tolerance
    assert parity.top1_agreement == 0.0
    with pytest.raises(CheckFailed):
        parity.require()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_measure_fails_when_the_candidate_is_not_finite(value: float) -> None:
    assert not measure(LOGITS, _changed(1, 1, value), samples="", tolerance=1.0).passed


def test_measure_refuses_when_shapes_differ() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        measure(LOGITS, LOGITS[:1], samples="")


def test_compare_runs_all_images_when_they_make_no_whole_batches(models: Path) -> None:
    images = np.random.default_rng(0).standard_normal((20, 3, 28, 28), dtype=np.float32)
    advanced: list[int] = []
    reference, candidate = (load_predictor(open_model(models / name)) for name in ("run", "onnx-dynamic"))
    parity = compare(reference, candidate, images, samples="noise", advance=advanced.append)
    assert parity.passed
    assert (parity.n, sum(advanced)) == (20, 20)
    assert advanced[0] == 1
