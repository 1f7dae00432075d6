from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from paddle_tk.hardware.allocations import Lines, Trace, envelope, extrapolate, play_back

Size = tuple[int, int]


def _trace(batch: int, size: Size, bytes_of: Callable[[int, Size], list[int]]) -> Trace:
    sizes = bytes_of(batch, size)
    count = len(sizes)
    events = [*range(count), *(-number - 1 for number in range(count))]
    return Trace(batch, size, 1000, 0, sizes, ["conv2d"] * count, [False] * count, events, count, 0)


def _traces(bytes_of: Callable[[int, Size], list[int]], sizes: list[Size]) -> list[Trace]:
    runs = [*((2, size) for size in sizes[1:]), (2, sizes[0]), (3, sizes[0])]
    return [_trace(batch, size, bytes_of) for batch, size in runs]


def test_each_allocation_is_extrapolated_exactly_when_sizes_are_square_multiples() -> None:
    def bytes_of(batch: int, size: Size) -> list[int]:
        cells = size[0] * size[1] // 1024
        return [4000, 4 * batch * 64 * cells, 4 * 27 * cells, 4 * batch * cells * cells, 12 + 8 * batch]

    found = extrapolate(_traces(bytes_of, [(64, 64), (64, 96), (96, 96)]), (640, 480))
    assert found.at(7) == pytest.approx(bytes_of(7, (640, 480)), rel=1e-12)


@pytest.mark.parametrize("target", [(250, 250), (122, 314)])
def test_maps_that_round_are_extrapolated_exactly_when_remainders_agree(target: Size) -> None:
    def bytes_of(batch: int, size: Size) -> list[int]:
        height, width = (-(-side // 32) for side in size)
        inner = ((side - 3) // 2 + 1 for side in size)
        return [4 * batch * 8 * height * width, 4 * batch * int(np.prod(list(inner)))]

    first = [side % 32 + 64 for side in target]
    square = [(first[0] + 32 * i, first[1] + 32 * i) for i in range(3)]
    mixed = [(first[0] + 32 * i, first[1] + 32 * j) for i in range(2) for j in range(2)]
    found = extrapolate(_traces(bytes_of, square if target[0] == target[1] else mixed), target)
    assert found.at(5) == pytest.approx(bytes_of(5, target), rel=1e-12)


def test_the_largest_seen_counts_when_an_allocation_follows_the_data() -> None:
    noise = iter([[400], [60], [120], [300]])
    found = extrapolate(_traces(lambda batch, size: next(noise), [(64, 64), (64, 96), (96, 96)]), (640, 640))
    assert found.at(2)[0] == 400


def test_nothing_is_extrapolated_when_the_real_size_was_run() -> None:
    found = extrapolate(_traces(lambda batch, size: [batch * size[0], 5], [(40, 56)]), (40, 56))
    assert found.at(9).tolist() == [9 * 40, 5]


def test_levels_follow_allocations_and_releases_when_played_back() -> None:
    trace = Trace(1, (1, 1), 10, 0, [5, 7], ["", ""], [False, False], [0, 1, -1, -2], 2, 22)
    levels = play_back(trace, Lines(np.array([5.0, 0.0]), np.array([0.0, 7.0])), (10.0, 1.0))
    assert levels.at(1).tolist() == [11, 16, 23, 18, 11]
    assert levels.at(3).tolist() == [13, 18, 39, 34, 13]


def test_envelope_keeps_the_largest_at_every_batch() -> None:
    rng = np.random.default_rng(0)
    levels = Lines(rng.uniform(0, 1000, 300), rng.integers(0, 40, 300).astype(float))
    top = envelope(levels)
    assert len(top.fixed) < 40
    for batch in (1, 2, 3, 10, 100, 10**6):
        assert top.at(batch).max() == levels.at(batch).max()
