"""The order in which a dataset too large to be read at random is read, and what a split that is streamed can say.

Such a split lies in blocks (row groups of shards) that are read whole. An epoch's order is one sequence, a function of
(seed, epoch) alone: the shards in random order, the blocks of each in random order, and of what they hold one window
after the other, each shuffled. Neither processes nor loader workers change it, and any position is found without what
came before it, so a stop and resume costs at most the windows that are open.

So that not everybody reads everything, the sequence is laid out in ``LANES`` x ``PARTS`` streams. Batch ``t`` takes
from lane ``t % LANES``, which is what Paddle's workers, served in turn, divide by; a part of each batch takes from its
own stream of that lane, which is what processes divide by. A process or worker that divides the lanes or parts evenly
reads its own blocks and no others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from paddle_tk.data.shares import Share, divide

if TYPE_CHECKING:
    from typing_extensions import Self

LANES, PARTS = 4, 4
STREAMS = LANES * PARTS
_BLOCKS, _WINDOW = 0x7367, 0x776E  # random streams apart from those of shuffling, samples and sizes
BLOCKS_IN_ORDER = 4  # kept where images are read one after the other, by workers in turn
_AUTO_ROWS = 8192
_AUTO_BYTES = 256 * 2**20
_SPARE_BLOCKS = 2  # a window begins and ends within a block


@runtime_checkable
class Streamed(Protocol):
    """A split that is read block by block.

    Attributes:
        block_starts: int64, (k + 1,): where blocks begin and the last one ends; block b holds the images from
            ``block_starts[b]`` up to ``block_starts[b + 1]``.
        block_shards: int64, (k,): the shard each block lies in.
        mean_bytes: Bytes of an image with its annotation, as stored, on average.
        label_range: The least and the largest label.
    """

    block_starts: np.ndarray
    block_shards: np.ndarray
    mean_bytes: float
    label_range: tuple[int, int]

    def label_counts(self) -> Mapping[int, int]:
        """Returns the images by label; -1 is an image without boxes."""

    def labelled(self, index: int) -> tuple[np.ndarray, int]:
        """Returns image ``index``, uint8 RGB (H, W, 3), and its label."""

    def partner(self, index: int, share: float) -> int:
        """Returns an image to mix with image ``index``: one that is read with it; ``share`` in 0..1 chooses."""

    def holding(self, blocks: int) -> Self:
        """Returns the split with room for so many blocks in memory, none read yet."""


class StreamOrder:
    """The order of one epoch; ``order[a:b]`` gives the images at positions a to b, as an array would.

    It holds a few numbers for each block, none for each image.

    Args:
        starts: int64, (k + 1,): where blocks begin and the last one ends.
        shards: int64, (k,): the shard each block lies in.
        seed: The training's seed.
        epoch: From 0.
        batch_size: Images of a batch, all processes together.
        buffer: Images that are shuffled together, all streams together.
    """

    def __init__(
        self, starts: np.ndarray, shards: np.ndarray, *, seed: int, epoch: int, batch_size: int, buffer: int
    ) -> None:
        self._key = (seed, epoch)
        order = _shuffled_blocks(shards, np.random.default_rng((seed, _BLOCKS, epoch)))
        self._first, sizes = starts[:-1][order], np.diff(starts)[order]
        self._ends = np.cumsum(sizes)
        self._begins = self._ends - sizes
        self._n, self._batch = int(starts[-1] - starts[0]), batch_size
        self._window = window_rows(buffer)
        self._full, rest = divmod(self._n, batch_size)
        self._cuts, self._rest_cuts = _cuts(batch_size), _cuts(rest)
        self._open: dict[int, tuple[int, np.ndarray]] = {}  # the window of each stream that is being read
        self._stream_lengths = self._lengths()
        self._stream_starts = np.cumsum(self._stream_lengths) - self._stream_lengths

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, positions: slice) -> np.ndarray:
        """Returns the images at these positions, int64."""
        start, stop, step = positions.indices(self._n)
        if step != 1:
            raise ValueError(f"positions are taken one after the other, got a step of {step}")
        size, found = self._batch, [np.empty(0, np.int64)]
        for batch in range(start // size, -(-stop // size)):
            base = batch * size
            found += self._images(batch, max(start, base) - base, min(stop, base + size) - base)
        return np.concatenate(found)

    def _lengths(self) -> np.ndarray:
        """Returns the images of each stream: int64, (LANES * PARTS,)."""
        lanes = [self._full // LANES + (lane < self._full % LANES) for lane in range(LANES)]
        widths, rest = np.diff(self._cuts), np.diff(self._rest_cuts)
        last = self._full % LANES  # the lane of the batch that is not full
        return np.concatenate([steps * widths + rest * (lane == last) for lane, steps in enumerate(lanes)])

    def _images(self, batch: int, start: int, stop: int) -> list[np.ndarray]:
        """Returns the images ``start`` to ``stop`` of a batch, in pieces."""
        lane, earlier = batch % LANES, batch // LANES
        cuts = self._cuts if batch < self._full else self._rest_cuts
        found = []
        for part, (low, high) in enumerate(pairwise(cuts)):
            first, last = max(start, low), min(stop, high)
            if first < last:
                begin = earlier * (self._cuts[part + 1] - self._cuts[part]) + first - low
                found += self._stretch(lane * PARTS + part, begin, begin + last - first)
        return found

    def _stretch(self, stream: int, start: int, stop: int) -> list[np.ndarray]:
        """Returns the images at ``start`` to ``stop`` of a stream, in pieces."""
        found = []
        for number in range(start // self._window, -(-stop // self._window)):
            kept, images = self._open.get(stream, (-1, None))
            if kept != number or images is None:
                images = self._mixed(stream, number)
                self._open[stream] = number, images
            begin = number * self._window
            found.append(images[max(start - begin, 0) : stop - begin])
        return found

    def _mixed(self, stream: int, number: int) -> np.ndarray:
        """Returns the images of one window of a stream, shuffled."""
        begin = number * self._window
        size = min(self._window, int(self._stream_lengths[stream]) - begin)
        mixed = np.random.default_rng((*self._key, _WINDOW, stream, number)).permutation(size)
        places = int(self._stream_starts[stream]) + begin + mixed
        block = np.searchsorted(self._ends, places, side="right")
        return np.asarray(self._first[block] + places - self._begins[block])


class StreamOrders:
    """A streamed split's order in every epoch; see ``StreamOrder``.

    Args:
        split: The images.
        batch_size: Images of a batch, all processes together.
        buffer: Images that are shuffled together.
    """

    def __init__(self, split: Streamed, batch_size: int, buffer: int) -> None:
        self._starts, self._shards = split.block_starts, split.block_shards
        self._batch, self._buffer = batch_size, buffer

    def __len__(self) -> int:
        return int(self._starts[-1] - self._starts[0])

    def draws(self, seed: int, epoch: int) -> StreamOrder:
        """Returns the epoch's order."""
        return StreamOrder(
            self._starts, self._shards, seed=seed, epoch=epoch, batch_size=self._batch, buffer=self._buffer
        )

    def blocks_held(self, share: Share, workers: int) -> int:
        """Returns the blocks that one loader process must keep so that each is read once an epoch, or nearly.

        Args:
            share: The process's part of every batch.
            workers: Loader processes; 0 counts as one.
        """
        blocks = len(self._shards)
        first, last = share.bounds(share.whole)
        parts = sum(low < last and first < high for low, high in pairwise(_cuts(share.whole)))
        lanes = LANES // math.gcd(LANES, max(1, workers))
        window = math.ceil(window_rows(self._buffer) / (len(self) / blocks)) + _SPARE_BLOCKS
        return int(min(blocks, max(1, parts) * lanes * window))


def buffer_rows(split: Streamed, wanted: int | None) -> int:
    """Returns how many images are shuffled together.

    Args:
        split: The images.
        wanted: What the user says; None: 8,192, or as many as have 256 MB, whichever is less.
    """
    return wanted or max(STREAMS, min(_AUTO_ROWS, int(_AUTO_BYTES / max(split.mean_bytes, 1.0))))


def window_rows(buffer: int) -> int:
    """Returns the images of a window: a stream's part of the shuffle buffer."""
    return max(1, buffer // STREAMS)


def _shuffled_blocks(shards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the blocks, int64 (k,), shards in random order and the blocks of each in random order."""
    names, owner = np.unique(shards, return_inverse=True)
    rank = rng.permutation(len(names))[owner]
    return np.asarray(np.lexsort((rng.random(len(shards)), rank)))


def _cuts(images: int) -> list[int]:
    return [0, *accumulate(divide(images, (1,) * PARTS))]
