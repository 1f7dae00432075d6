from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.runtime.onnx_io import join, run_in_parts, split


def _batch(n: int) -> np.ndarray:
    return np.arange(n * 12, dtype=np.float32).reshape(n, 3, 2, 2)


def test_split_fills_the_last_part_with_its_last_image_when_the_batch_does_not_divide() -> None:
    parts = split(_batch(5), 3)
    assert [len(part) for part in parts] == [3, 3]
    np.testing.assert_array_equal(parts[1], _batch(5)[[3, 4, 4]])


def test_split_leaves_the_batch_whole_and_contiguous_when_any_size_is_taken() -> None:
    (part,) = split(_batch(4)[::2], None)
    assert part.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(part, _batch(4)[::2])


@pytest.mark.parametrize(("n", "fixed"), [(1, 1), (5, 1), (5, 3), (6, 3), (2, 4), (5, None)])
def test_run_in_parts_returns_each_image_its_own_row_when_sizes_differ(n: int, fixed: int | None) -> None:
    seen = []

    def run(part: np.ndarray) -> tuple[np.ndarray, ...]:
        seen.append(len(part))
        return part.sum(axis=(1, 2, 3)), part[:, 0]

    sums, planes = run_in_parts(_batch(n), fixed, run)
    np.testing.assert_array_equal(sums, _batch(n).sum(axis=(1, 2, 3)))
    np.testing.assert_array_equal(planes, _batch(n)[:, 0])
    assert set(seen) == {fixed or n}


def test_join_cuts_off_filled_rows_when_one_part_was_longer_than_the_batch() -> None:
    (joined,) = join([(np.arange(4),)], 1)
    np.testing.assert_array_equal(joined, [0])
