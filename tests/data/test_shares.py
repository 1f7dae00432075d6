from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.data.bundle import ArraySplit
from paddle_tk.data.loader import EvalLoader, TrainLoader
from paddle_tk.data.shares import Share, divide
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.types import Preprocessing

SIZE = Preprocessing((8, 8))
SPLITS = [(16,), (8, 8), (4, 2, 10), (6, 5, 5), (1, 15)]


def images(count: int) -> ArraySplit:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return ArraySplit(pixels, np.arange(count, dtype=np.int64), [str(i) for i in range(count)])


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [(32, (16, 16, 16), (11, 11, 10)), (32, (8, 4, 20), (8, 4, 20)), (1, (8, 8), (1, 0)), (20, (8, 4), (14, 6))],
)
def test_divide_keeps_the_proportions_when_images_do_not_split_evenly(
    total: int, weights: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    assert divide(total, weights) == parts


@pytest.mark.parametrize("sizes", SPLITS)
@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_bounds_follow_each_other_when_all_processes_are_asked(sizes: tuple[int, ...], count: int) -> None:
    bounds = [Share(rank, sizes).bounds(count) for rank in range(len(sizes))]
    assert [first for first, _ in bounds] == [0, *(last for _, last in bounds[:-1])]
    assert bounds[-1][1] == count


@pytest.mark.parametrize(("rank", "sizes"), [(2, (1, 1)), (-1, (1, 1)), (0, (0, 0)), (0, (3, -1))])
def test_share_raises_when_it_is_none(rank: int, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="process"):
        Share(rank, sizes)


def _batches(sizes: tuple[int, ...], epoch: int) -> list[tuple[list[int], bytes]]:
    """Returns labels and pixels of every batch, the processes' own parts put together."""
    found: list[tuple[list[int], bytes]] = []
    parts = []
    for rank in range(len(sizes)):
        transform = TrainTransform(
            SIZE, flip=0.5, crop_padding=2, random_resized_crop=None, color_jitter=0.2, rotation_degrees=5
        )
        loader = TrainLoader(images(37), transform, batch_size=16, seed=3, share=Share(rank, sizes))
        loader.start(epoch)
        own = [loader.own_samples(step) for step in range(len(loader))]
        parts.append([
            (labels.numpy()[: b - a].tolist(), pixels.numpy()[: b - a].tobytes())
            for (pixels, labels), (a, b) in zip(loader, own, strict=True)
        ])  # fmt: skip
    for step in zip(*parts, strict=True):
        found.append(([label for labels, _ in step for label in labels], b"".join(pixels for _, pixels in step)))
    return found


@pytest.mark.parametrize("sizes", SPLITS[1:])
def test_processes_read_the_batches_of_one_when_they_share_them(sizes: tuple[int, ...]) -> None:
    assert _batches(sizes, 1) == _batches((16,), 1)


def test_filler_is_given_when_a_process_has_no_image_of_a_batch() -> None:
    loader = EvalLoader(images(17), EvalTransform(SIZE), batch_size=16, share=Share(1, (8, 8)))
    batches = [labels.numpy().tolist() for _, labels in loader]
    assert loader.own_samples(1) == (1, 1)
    assert batches == [list(range(8, 16)), [16]]


def test_positions_name_a_process_s_images_when_batches_are_shared() -> None:
    loaders = [EvalLoader(images(21), EvalTransform(SIZE), batch_size=16, share=Share(r, (4, 12))) for r in (0, 1)]
    first, second = (loader.positions.tolist() for loader in loaders)
    assert first == [0, 1, 2, 3, 16, 17]
    assert sorted(first + second) == list(range(21))


def test_loader_raises_when_the_shares_are_of_another_batch() -> None:
    with pytest.raises(ValueError, match="do not make a batch of 16"):
        EvalLoader(images(21), EvalTransform(SIZE), batch_size=16, share=Share(0, (8, 4)))


def test_largest_batch_bytes_counts_own_images_when_batches_are_shared() -> None:
    loader = EvalLoader(images(21), EvalTransform(SIZE), batch_size=16, share=Share(0, (4, 12)))
    assert loader.largest_batch_bytes == 4 * 3 * 8 * 8 * 4
