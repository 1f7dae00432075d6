"""Batches as Paddle tensors. Order and augmentation are functions of (seed, epoch, sample, batch step) alone.

Neither the number of workers nor a stop and resume in the middle of an epoch changes a single byte of any batch, nor
does the number of processes that share one: each reads its part of the same batches. Images with one label and images
with boxes pass through the same code: a batch is [images, labels], where the transform decides what labels are.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import paddle

from paddle_tk.data.box_batches import pad_targets
from paddle_tk.data.box_transforms import BoxEvalTransform, BoxTrainTransform
from paddle_tk.data.epoch_order import Draws, EpochOrder, PlainOrder
from paddle_tk.data.samples import Reader, Sample, Split, Transform, sample_reader
from paddle_tk.data.shares import Share
from paddle_tk.data.streams import BLOCKS_IN_ORDER, Streamed, StreamOrders, buffer_rows
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.data.workers import await_exit, choose_workers, init_worker, shared_memory_holds, shut_down
from paddle_tk.errors import BadInput, DataError

__all__ = ["EvalLoader", "TrainLoader", "choose_workers"]

Key = tuple[int, int, int]
_BATCHES_AT_ONCE = 16


class _Samples(paddle.io.Dataset):
    """Maps (epoch, step, draw) to (image, label or targets), or to the failure as text, which travels where an
    exception would not.

    An exception in Paddle's loading thread leaves the training process waiting forever.
    """

    def __init__(self, split: Split, read: Reader) -> None:
        self._split, self._read = split, read

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, key: Key) -> Sample | list[str]:
        try:
            return self._read(*key)
        except DataError as error:
            return [error.problem, error.fix]
        except Exception:
            return [
                f"image {self._split.name(key[2] % len(self._split))} could not be prepared:\n{traceback.format_exc()}"
            ]


def _collate(samples: Sequence[Sample | list[str]]) -> list[Any]:
    """Returns [images, labels or targets], or [empty, failure] where one sample failed."""
    for sample in samples:
        if isinstance(sample, list):
            return [np.zeros(1, np.float32), sample]
    images, labels = zip(*samples, strict=True)
    stacked = pad_targets(labels) if isinstance(labels[0], np.ndarray) else np.array(labels, np.int64)
    return [np.stack(images), stacked]


class _Keys(paddle.io.BatchSampler):
    """The batches of one pass, each a list of (epoch, step, draw), made a few batches at a time."""

    def __init__(self, batch: Callable[[int], np.ndarray], epoch: int, steps: range) -> None:
        self._batch, self._epoch, self._steps = batch, epoch, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Key]]:
        # After decoding this code is cold; batch by batch it took twice as long.
        for first in range(0, len(self._steps), _BATCHES_AT_ONCE):
            steps = self._steps[first : first + _BATCHES_AT_ONCE]
            for step, draws in [(step, self._batch(step).tolist()) for step in steps]:
                yield [(self._epoch, step, draw) for draw in draws]


class _Loader:
    """What both loaders share: cutting an order into batches, reading them, and leaving nothing behind."""

    def __init__(
        self,
        split: Split,
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        limit_batches: int | None,
        num_workers: int,
        prefetch_factor: int,
        share: Share | None,
        images: int | None = None,
    ) -> None:
        if share is not None and share.whole != batch_size:
            raise ValueError(f"{share.sizes} images of the processes do not make a batch of {batch_size}")
        n = self._images = len(split) if images is None else images
        if drop_last and n < batch_size:
            raise BadInput(
                f"data.batch_size={batch_size} leaves no whole batch in {n} images",
                f"choose a batch size of at most {n}",
            )
        whole = n // batch_size if drop_last else -(-n // batch_size)
        self.batches_per_epoch = whole if limit_batches is None else min(whole, limit_batches)
        self.stop_when: Callable[[], bool] | None = None
        self.split, self._transform = split, transform
        self._batch_size, self._seed = batch_size, seed
        self.share = share if share is not None else Share(0, (batch_size,))
        self._workers, self._prefetch = num_workers, max(1, prefetch_factor)
        self._open: Any = None
        self._thread_id = 0
        self._blocks = BLOCKS_IN_ORDER

    def batch_samples(self, step: int) -> int:
        """Returns how many images batch ``step`` of an epoch has; the last may be smaller."""
        if not 0 <= step < self.batches_per_epoch:
            raise ValueError(f"step must be from 0 to {self.batches_per_epoch - 1}, got {step}")
        return min(self._batch_size, self._images - step * self._batch_size)

    def own_samples(self, step: int) -> tuple[int, int]:
        """Returns where this process's images begin and end in batch ``step``; equal: it has none of its own."""
        return self.share.bounds(self.batch_samples(step))

    @property
    def largest_batch_bytes(self) -> int:
        """Bytes of the images of a batch at the largest size it may have."""
        transform = self._transform
        height, width = transform.largest_size if isinstance(transform, BoxTrainTransform) else transform.size
        return max(1, self.share.own) * 3 * height * width * np.dtype(np.float32).itemsize

    def close(self) -> None:
        """Ends the loading thread or processes of an iteration that is still open; harmless otherwise."""
        iterator, self._open = self._open, None
        if iterator is not None:
            shut_down(iterator)
            if not self._workers:
                await_exit(self._thread_id)

    def _read(self, order: Draws, epoch: int, first: int) -> Iterator[list[paddle.Tensor]]:
        """Yields the batches ``first`` to the last of ``order``."""
        self.close()
        steps = range(first, self.batches_per_epoch)
        if not steps or self._stopped():
            return
        iterator = self._open = self._iterator(_Keys(partial(self._own_part, order), epoch, steps))
        self._thread_id = iterator._thread.native_id
        try:
            for images, labels in iterator:
                if isinstance(labels, list):
                    raise _failure(labels)
                yield [images, labels]
                if self._stopped():
                    return
        finally:
            if self._open is iterator:
                self.close()

    def _own_part(self, order: Draws, step: int) -> np.ndarray:
        first, last = self.own_samples(step)
        start = step * self._batch_size
        # Without an image of its own a process takes the batch's first: it has to go through the step with the others.
        return order[start + first : start + last] if last > first else order[start : start + 1]

    def _stopped(self) -> bool:
        return self.stop_when is not None and self.stop_when()

    def _iterator(self, keys: _Keys) -> Any:
        """Starts a pass, with fresh workers.

        Paddle's persistent workers were tried: every restart polls for 0.5 s, where fresh ones give their
        first batch after 0.04 s, and after a pass that was left early the next one fails or starts with stale
        batches.
        """
        # Row groups that are kept belong to one reader: another thread may ask the split for names and boxes meanwhile.
        split = self.split.holding(self._blocks) if isinstance(self.split, Streamed) else self.split
        loader = paddle.io.DataLoader(
            _Samples(split, sample_reader(split, self._transform, self._seed)),
            batch_sampler=keys,
            collate_fn=_collate,
            num_workers=self._workers,
            prefetch_factor=self._prefetch,
            use_shared_memory=shared_memory_holds(self.largest_batch_bytes * (self._workers * self._prefetch + 2)),
            worker_init_fn=init_worker,
        )
        if self._workers:
            cv2.setNumThreads(0)  # a pool of threads does not survive the fork
        # Paddle draws a seed for its workers from NumPy's global generator; training must not depend on that.
        state = np.random.get_state()
        try:
            return iter(loader)
        finally:
            np.random.set_state(state)


def _failure(message: Sequence[str]) -> Exception:
    if len(message) == 2:
        return DataError(message[0], message[1])
    return RuntimeError(message[0])


class TrainLoader(_Loader):
    """Shuffled, augmented batches of a training split.

    Args:
        split: The images.
        transform: Augments with a generator of the sample's own; one for boxes where the split has boxes.
        batch_size: Images per batch.
        seed: Decides order and augmentation, together with the epoch.
        drop_last: Leave out a last batch that is not full.
        limit_batches: Batches per epoch; None: all.
        num_workers: Loader processes; 0: a thread of this process.
        prefetch_factor: Batches each worker prepares ahead.
        share: This process's part of every batch, which then has ``batch_size`` images of all processes together; None:
            all of it.
        order: Which images an epoch shows, and in which order; None: each once, shuffled.
        shuffle_buffer: Images that are shuffled together where the split is streamed; None: as memory allows.

    Attributes:
        split: The images.
        batches_per_epoch: Batches of a whole epoch.
        stop_when: Asked before each batch; once it returns True the iteration ends, as if the epoch were
            over.

    Raises:
        BadInput: ``drop_last`` leaves no batch.
    """

    def __init__(
        self,
        split: Split,
        transform: TrainTransform | BoxTrainTransform,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        limit_batches: int | None = None,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        share: Share | None = None,
        shuffle_buffer: int | None = None,
        order: EpochOrder | None = None,
    ) -> None:
        if isinstance(split, Streamed):
            if order is not None:
                raise BadInput(
                    "images that are streamed come in an order of their own", "use data.balance=class_weights or focal"
                )
            order = StreamOrders(split, batch_size, buffer_rows(split, shuffle_buffer))
        self._order = PlainOrder(len(split)) if order is None else order
        super().__init__(
            split,
            transform,
            batch_size=batch_size,
            seed=seed,
            drop_last=drop_last,
            limit_batches=limit_batches,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            share=share,
            images=len(self._order),
        )
        self._epoch, self._step = 0, 0
        if isinstance(self._order, StreamOrders):
            self._blocks = self._order.blocks_held(self.share, num_workers)

    def start(self, epoch: int, step: int = 0) -> None:
        """Positions the next iteration at batch ``step`` of ``epoch``; nothing of the batches before is loaded."""
        if epoch < 0 or not 0 <= step <= self.batches_per_epoch:
            raise ValueError(f"epoch {epoch} step {step}: a step is from 0 to {self.batches_per_epoch}")
        self._epoch, self._step = epoch, step

    def __len__(self) -> int:
        """Returns the batches that remain in the started epoch."""
        return self.batches_per_epoch - self._step

    def __iter__(self) -> Iterator[list[paddle.Tensor]]:
        """Yields [images float32 (B, 3, H, W), labels] from the started position to the epoch's end.

        Labels are int64 (B,), or targets float32 (B, M, 5) for images with boxes: rows of class, x1, y1, x2, y2 in
        pixels of the input, filled up with rows of class -1; M >= 1.

        Raises:
            DataError: An image has become unreadable since it was verified.
        """
        return self._read(self._order.draws(self._seed, self._epoch), self._epoch, self._step)


class EvalLoader(_Loader):
    """All images of a split, in order, without augmentation.

    Args:
        split: The images.
        transform: The evaluation transform; one for boxes where the split has boxes.
        batch_size: Images per batch; the last may be smaller.
        limit_batches: Only the first batches; None: all.
        num_workers: Loader processes; 0: a thread of this process.
        prefetch_factor: Batches each worker prepares ahead.
        share: As in ``TrainLoader``.
    """

    def __init__(
        self,
        split: Split,
        transform: EvalTransform | BoxEvalTransform,
        *,
        batch_size: int,
        limit_batches: int | None = None,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        share: Share | None = None,
    ) -> None:
        super().__init__(
            split,
            transform,
            batch_size=batch_size,
            seed=0,
            drop_last=False,
            limit_batches=limit_batches,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            share=share,
        )

    def __len__(self) -> int:
        """Returns the number of batches."""
        return self.batches_per_epoch

    @property
    def positions(self) -> np.ndarray:
        """The numbers in the split of the images that this process is given, in their order: int64 (n,)."""
        size = self._batch_size
        own = [(step * size, self.own_samples(step)) for step in range(self.batches_per_epoch)]
        return np.concatenate([np.arange(start + first, start + last) for start, (first, last) in own])

    def __iter__(self) -> Iterator[list[paddle.Tensor]]:
        """Yields [images float32 (B, 3, H, W), labels], labels as in ``TrainLoader``.

        Raises:
            DataError: An image has become unreadable since it was verified.
        """
        return self._read(np.arange(len(self.split)), 0, 0)
