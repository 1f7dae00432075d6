from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paddle_tk.data.box_batches import BatchSizes, pad_targets
from paddle_tk.errors import BadInput


@given(
    size=st.tuples(st.integers(1, 1300), st.integers(1, 1300)),
    low=st.floats(0.1, 1),
    high=st.floats(1, 3),
)
def test_batch_sizes_are_multiples_of_32_in_the_range_when_ratios_are_any(
    size: tuple[int, int], low: float, high: float
) -> None:
    shorter, longer = sorted(size)
    assume(any(low * shorter <= side <= high * shorter for side in range(32, 4000, 32)))
    sizes = BatchSizes(size, (low, high)).sizes
    assert sizes == sorted(set(sizes))
    for height, width in sizes:
        assert height % 32 == width % 32 == 0
        assert low * shorter - 1e-9 <= min(height, width) <= high * shorter + 1e-9
        assert abs(max(height, width) - min(height, width) * longer / shorter) <= 16.001
        assert (height >= width) if size[0] >= size[1] else (width >= height)


def test_batch_sizes_contain_the_published_ones_when_the_ratios_are_yolos() -> None:
    assert BatchSizes((320, 320), (0.5, 1.5)).sizes == [(side, side) for side in range(160, 481, 32)]
    assert BatchSizes((416, 416), (0.7, 1.4)).sizes[0] == (320, 320)


def test_batch_sizes_are_equally_frequent_and_pure_when_drawn() -> None:
    sizes = BatchSizes((128, 128), (0.75, 1.5))
    drawn = [sizes.at(3, epoch, step) for epoch in range(4) for step in range(500)]
    assert drawn == [sizes.at(3, epoch, step) for epoch in range(4) for step in range(500)]
    counts = Counter(drawn)
    assert sorted(counts) == [(96, 96), (128, 128), (160, 160), (192, 192)]
    assert min(counts.values()) > 420  # 500 expected, standard deviation 19
    assert drawn[:500] != drawn[500:1000]
    assert drawn[:500] != [sizes.at(4, 0, step) for step in range(500)]


def test_batch_sizes_are_the_size_itself_when_there_are_no_ratios() -> None:
    sizes = BatchSizes((33, 47), None)
    assert sizes.sizes == [(33, 47)]
    assert sizes.at(1, 2, 3) == (33, 47)


@pytest.mark.parametrize(("size", "ratios"), [((100, 100), (0.97, 1.2)), ((20, 90), (0.1, 1.5))])
def test_batch_sizes_raise_when_no_multiple_is_in_the_range(size: tuple[int, int], ratios: tuple[float, float]) -> None:
    with pytest.raises(BadInput, match=rf"leaves no multiple of 32 px for a side of {min(size)} px"):
        BatchSizes(size, ratios)


def test_pad_targets_fills_up_with_class_minus_one_when_counts_differ() -> None:
    rows = [np.arange(10, dtype=np.float32).reshape(2, 5), np.zeros((0, 5), np.float32)]
    padded = pad_targets(rows)
    assert padded.dtype == np.float32
    assert padded[0].tolist() == rows[0].tolist()
    assert padded[1].tolist() == [[-1, 0, 0, 0, 0]] * 2
    assert pad_targets(rows[1:]).tolist() == [[[-1, 0, 0, 0, 0]]]
