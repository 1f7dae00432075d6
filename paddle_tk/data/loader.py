"""Batches as Paddle tensors. The order and every augmentation are functions of (seed, epoch, sample) alone.

Neither the number of workers nor a stop and resume in the middle of an epoch changes a single byte of any batch.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import paddle

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.errors import BadInput, DataError

Key = tuple[int, int]
_MAX_WORKERS = 8
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_STOP_SECONDS = 10
_GRACE_SECONDS = 20


def choose_workers(n_samples: int, on_disk: bool, cores: int) -> tuple[int, int]:
    """Chooses loader processes and the batches each prepares ahead.

    Images in memory are augmented in about 20 microseconds each, quicker than a batch passes between processes, so they
    are loaded in the training process itself, in a thread. Files have to be decoded (0.3 ms for a 32x32, 3 ms for a
    640x480 JPEG), so they get every core but the one that feeds the device, and no more than 8, which saturate most
    disks. A set smaller than a few batches is read sooner than workers start. Few workers hide an uneven decoding time
    behind a deeper queue (4), many by their number (2), which bounds memory.

    Args:
        n_samples: Images in the split.
        on_disk: Whether they are decoded at each access.
        cores: Processor cores this process may use.

    Returns:
        (num_workers, prefetch_factor).
    """
    if not on_disk or n_samples < 256 or cores < 2:
        return 0, 2
    workers = min(cores - 1, _MAX_WORKERS)
    return workers, 4 if workers <= 2 else 2


class _SampleRandom:
    """A random generator that is set to the start of any sample's own stream.

    Philox (Salmon et al. 2011) is counter-based: (seed, epoch) is its key and the sample's index the upper half of its
    counter, so each sample has 2^128 draws of its own, and setting it costs 1 microsecond.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, 0], np.uint64))
        self._start: Any = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, epoch: int, index: int) -> np.random.Generator:
        self._start["state"]["key"][1] = epoch
        self._start["state"]["counter"][:] = (0, 0, index, 0)
        self._bits.state = self._start
        return self._generator


class _Samples(paddle.io.Dataset):
    """Maps (epoch, index) to (image, label), or to the failure as text, which travels where an exception would not.

    An exception in Paddle's loading thread leaves the training process waiting forever.
    """

    def __init__(self, split: ImageSplit, transform: TrainTransform | EvalTransform, seed: int) -> None:
        self._split = split
        self._labels = split.labels
        self._transform = transform
        self._random = _SampleRandom(seed) if isinstance(transform, TrainTransform) else None

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, key: Key) -> tuple[np.ndarray, int] | list[str]:
        epoch, index = key
        try:
            image = self._split.image(index)
            if self._random is None:
                return self._transform(image), self._labels[index]  # type: ignore[call-arg]
            return self._transform(image, self._random.at(epoch, index)), self._labels[index]  # type: ignore[call-arg]
        except DataError as error:
            return [error.problem, error.fix]
        except Exception:
            return [f"image {self._split.name(index)} could not be prepared:\n{traceback.format_exc()}"]


def _collate(samples: Sequence[tuple[np.ndarray, int] | list[str]]) -> list[Any]:
    """Returns [images, labels], or [empty, failure] where one sample failed."""
    for sample in samples:
        if isinstance(sample, list):
            return [np.zeros(1, np.float32), sample]
    images = np.stack([sample[0] for sample in samples])
    return [images, np.array([sample[1] for sample in samples], np.int64)]


class _Keys(paddle.io.BatchSampler):
    """The batches of one pass, each a list of (epoch, index)."""

    def __init__(self, batches: Sequence[np.ndarray], epoch: int) -> None:
        self._batches = batches
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self._batches:
            yield [(self._epoch, int(index)) for index in batch]


def _init_worker(worker_id: int) -> None:
    """Prepares a worker process: one thread, no part in the signals meant for training, and never an orphan."""
    cv2.setNumThreads(0)
    # Ctrl-C and a service manager signal the whole group; the training process finishes its step and then ends the
    # workers itself, so they must outlive the signal for a while.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_later)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_later(signum: int, frame: FrameType | None) -> None:
    timer = threading.Timer(_GRACE_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _leave_with_parent(parent: int) -> None:
    """Ends this process soon after a parent that was killed; Paddle's own check waits for a batch that never comes."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


class _Loader:
    """What both loaders share: cutting an order into batches, reading them, and leaving nothing behind."""

    def __init__(
        self,
        split: ImageSplit,
        transform: TrainTransform | EvalTransform,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        limit_batches: int | None,
        num_workers: int,
        prefetch_factor: int,
    ) -> None:
        if drop_last and len(split) < batch_size:
            raise BadInput(
                f"data.batch_size={batch_size} leaves no whole batch in {len(split)} images",
                f"choose a batch size of at most {len(split)}",
            )
        n = len(split)
        whole = n // batch_size if drop_last else -(-n // batch_size)
        self.batches_per_epoch = whole if limit_batches is None else min(whole, limit_batches)
        self.stop_when: Callable[[], bool] | None = None
        self._split, self._transform = split, transform
        self._batch_size, self._seed = batch_size, seed
        self._workers, self._prefetch = num_workers, max(1, prefetch_factor)
        self._open: Any = None

    def batch_samples(self, step: int) -> int:
        """Returns how many images batch ``step`` of an epoch has; the last may be smaller."""
        if not 0 <= step < self.batches_per_epoch:
            raise ValueError(f"step must be from 0 to {self.batches_per_epoch - 1}, got {step}")
        return min(self._batch_size, len(self._split) - step * self._batch_size)

    def close(self) -> None:
        """Ends the loading thread or processes of an iteration that is still open; harmless otherwise."""
        iterator, self._open = self._open, None
        if iterator is not None:
            _shut_down(iterator)

    def _read(self, order: np.ndarray, epoch: int, first: int) -> Iterator[list[paddle.Tensor]]:
        """Yields the batches ``first`` to the last of ``order``."""
        self.close()
        size = self._batch_size
        batches = [order[step * size : (step + 1) * size] for step in range(first, self.batches_per_epoch)]
        if not batches or self._stopped():
            return
        iterator = self._open = self._iterator(_Keys(batches, epoch))
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

    def _stopped(self) -> bool:
        return self.stop_when is not None and self.stop_when()

    def _iterator(self, keys: _Keys) -> Any:
        """Starts a pass: fresh workers each time.

        Paddle's persistent workers poll for half a second at every restart, more than starting them takes, and hand
        out stale batches after a pass that was left early.
        """
        height, width = self._transform_size()
        batch_bytes = self._batch_size * 3 * height * width * 4
        loader = paddle.io.DataLoader(
            _Samples(self._split, self._transform, self._seed),
            batch_sampler=keys,
            collate_fn=_collate,
            num_workers=self._workers,
            prefetch_factor=self._prefetch,
            use_shared_memory=_shared_memory_holds(batch_bytes * (self._workers * self._prefetch + 2)),
            worker_init_fn=_init_worker,
        )
        if self._workers:
            cv2.setNumThreads(0)  # a pool of threads does not survive the fork
        # Paddle draws a seed for its workers from NumPy's global generator; training must not depend on that.
        state = np.random.get_state()
        try:
            return iter(loader)
        finally:
            np.random.set_state(state)
