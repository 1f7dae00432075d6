from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.data.shares import Share, divide
from paddle_tk.data.streams import LANES, PARTS, StreamOrder

ROWS, GROUPS = 20, 300


def blocks(groups: int = GROUPS, rows: int = ROWS, per_shard: int = 10) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.full(groups, rows)
    sizes[per_shard - 1 :: per_shard] -= 7  # the last group of a shard is smaller
    return np.concatenate([[0], np.cumsum(sizes)]), np.arange(groups) // per_shard


def order(batch: int = 32, epoch: int = 0, seed: int = 0, buffer: int = 640, groups: int = GROUPS) -> StreamOrder:
    return StreamOrder(*blocks(groups), seed=seed, epoch=epoch, batch_size=batch, buffer=buffer)


@pytest.mark.parametrize("batch", [1, 3, 32, 100, 6000])
@pytest.mark.parametrize("groups", [1, 7, 300])
@pytest.mark.parametrize("buffer", [1, 640, 100_000])
def test_stream_order_has_every_image_once_when_an_epoch_is_whole(batch: int, groups: int, buffer: int) -> None:
    made = order(batch, groups=groups, buffer=buffer)
    assert np.array_equal(np.sort(made[0 : len(made)]), np.arange(blocks(groups)[0][-1]))


def test_stream_order_is_the_same_when_it_is_read_from_any_position() -> None:
    whole = order()[0 : len(order())]
    for start, stop in ((0, 1), (31, 33), (1234, 1300), (5000, 5790), (len(whole) - 5, len(whole)), (70, 70)):
        assert np.array_equal(order()[start:stop], whole[start:stop])
    assert np.array_equal(np.concatenate([order()[i : i + 17] for i in range(0, len(whole), 17)]), whole)


def test_stream_order_changes_with_epoch_and_seed_and_with_nothing_else() -> None:
    whole = order()[0:5000]
    assert np.array_equal(order()[0:5000], whole)
    for other in (order(epoch=1), order(seed=1)):
        assert (other[0:5000] == whole).mean() < 0.01


def test_stream_order_refuses_a_step() -> None:
    with pytest.raises(ValueError, match="a step of 2"):
        order()[0:10:2]


def read_blocks(made: StreamOrder, batch: int, share: Share, worker: int, workers: int) -> set[int]:
    """The blocks that one loader process of one rank reads."""
    starts, found = blocks()[0], set()
    for step in range(worker, len(made) // batch, workers):
        first, last = share.bounds(batch)
        rows = made[step * batch + first : step * batch + last]
        found |= set((np.searchsorted(starts, rows, side="right") - 1).tolist())
    return found


@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (2, 1), (2, 2), (4, 4)])
def test_stream_order_gives_each_rank_and_worker_its_own_blocks_when_they_divide_the_streams(
    ranks: int, workers: int
) -> None:
    batch = 32
    made = order(batch)
    sizes = divide(batch, (1,) * ranks)
    counts = [
        len(read_blocks(made, batch, Share(rank, sizes), worker, workers))
        for rank in range(ranks)
        for worker in range(workers)
    ]
    # A block in which two streams meet is read by both.
    assert sum(counts) <= GROUPS + LANES * PARTS


def test_stream_order_mixes_blocks_within_a_batch_and_windows_over_the_epoch() -> None:
    starts, made = blocks()[0], order(buffer=3200)
    batch = np.searchsorted(starts, made[0:32], side="right") - 1
    assert len(set(batch.tolist())) >= 16  # four windows of 200 images, from ten blocks of 20 each
    first = made[0:3000]
    assert abs(np.corrcoef(first, np.arange(3000))[0, 1]) < 0.2


def test_stream_order_holds_numbers_for_blocks_and_not_for_images_when_the_data_is_large() -> None:
    starts = np.arange(0, 1001, dtype=np.int64) * 10**6  # a billion images
    made = StreamOrder(starts, np.arange(1000) // 10, seed=0, epoch=0, batch_size=1024, buffer=8192)
    rows = made[700_000_000:700_000_064]
    assert len(set(rows.tolist())) == 64
    assert sum(value.nbytes for value in vars(made).values() if isinstance(value, np.ndarray)) < 50_000
