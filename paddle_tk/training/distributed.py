"""Several processes that train one network: what they say to each other, and nothing else.

hapi's own way (``paddle.Model`` wraps the network in ``DataParallel``) trains the ranks apart on a CPU in Paddle 3.3 and
weighs every rank alike, so it is switched off: gradients are summed here, each weighted by its rank's share of the
images, which makes the result that of one process with the whole batch, whatever the split. Batch-norm statistics that
are not synchronised are averaged with the gradients, so that every rank holds the same state after every update, one
rank can write it, and any number of processes can go on from it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

from paddle_tk.environment.ranks import BACKEND, WORLD, Rank
from paddle_tk.errors import LostProcess

# What Paddle's transports call a peer that is gone; any other failure is a fault and stays one.
_TRANSPORT = re.compile(r"gloo|nccl|socket|connection|timed? ?out|tcp", re.IGNORECASE)


def connect(rank: Rank, device: str) -> None:
    """Joins the job's processes; every one of them must call this.

    Raises:
        LostProcess: The others cannot be reached.
    """
    os.environ.setdefault(BACKEND, "nccl" if device.startswith("gpu") else "gloo")
    with _lost():
        dist.init_parallel_env()
    # hapi reads it and would wrap the network in its own data parallelism.
    os.environ.pop(WORLD, None)


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not _TRANSPORT.search(str(error)):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise LostProcess(
            f"another process of the job does not answer any more ({lines[-1].strip()[:160]})",
            "its own message tells why; then go on from the last checkpoint with --resume",
        ) from error


class Parallel:
    """This process among the others of a data-parallel training.

    Every method is called by all ranks, in the same order.

    Args:
        rank: Its number and how many there are.
        split: Images of each rank in a whole batch of all.
        seed: The training's seed.
    """

    def __init__(self, rank: Rank, split: Sequence[int], seed: int) -> None:
        if len(split) != rank.world:
            raise ValueError(f"{len(split)} shares for {rank.world} processes")
        self.rank, self.world, self.split = rank.rank, rank.world, tuple(split)
        self._seed = seed
        self._own, self._all = 0, 0
        self._training = False

    @property
    def writes(self) -> bool:
        """Whether this is the rank that writes files and talks."""
        return self.rank == 0

    @contextmanager
    def batch(self, own: int, of_all: int, epoch: int, step: int) -> Iterator[None]:
        """Marks a training batch, of which this rank has ``own`` of ``of_all`` images.

        Random numbers of the forward pass (dropout) follow from seed, epoch, step and rank alone: a resume needs no
        state of the other ranks.
        """
        words = np.random.SeedSequence((self._seed, epoch, step, self.rank)).generate_state(1)
        paddle.seed(int(words[0]))
        self._own, self._all, self._training = own, of_all, True
        try:
            yield
        finally:
            self._training = False

    def sum(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns the sums over all ranks, float64 (n,)."""
        tensor = paddle.to_tensor(np.asarray(values, np.float64))
        self.add_up(tensor)
        return np.asarray(tensor.numpy())

    def add_up(self, tensor: paddle.Tensor) -> None:
        """Replaces a tensor by its sum over all ranks."""
        with _lost():
            dist.all_reduce(tensor)

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Replaces every gradient by its sum over all ranks; a rank without one counts as zeros."""
        with paddle.no_grad():
            for same_type in _by_type(parameters):
                grads = [p.grad if p.grad is not None else paddle.zeros_like(p) for p in same_type]
                flat = paddle.concat([g.flatten() for g in grads])
                self.add_up(flat)
                sizes = [int(np.prod(p.shape)) for p in same_type]
                for parameter, part in zip(same_type, paddle.split(flat, sizes), strict=True):
                    parameter.grad = part.reshape(parameter.shape)

    def average(self, buffers: Sequence[paddle.Tensor]) -> None:
        """Replaces buffers by their means over the images of the running batch."""
        if not buffers:
            return
        with paddle.no_grad():
            flat = paddle.concat([b.astype("float32").flatten() for b in buffers]) * (self._own / self._all)
            self.add_up(flat)
            sizes = [int(np.prod(b.shape)) for b in buffers]
            for buffer, part in zip(buffers, paddle.split(flat, sizes), strict=True):
                paddle.assign(part.reshape(buffer.shape).astype(buffer.dtype), buffer)

    def divisor(self, total: paddle.Tensor, floor: float, floor_per_image: float) -> paddle.Tensor:
        """Returns what a rank divides its sum by, so that the ranks' weighted losses add up to that of one process.

        One process divides the sum over all images by max(total, floor + floor_per_image * images). A rank's loss is
        weighted by its share of the images later, so its divisor has to hold that share.

        Args:
            total: The rank's own part of the total, a scalar.
            floor: Least divisor of a whole batch.
            floor_per_image: Its part that grows with the images.
        """
        summed = total.detach().clone()
        self.add_up(summed)
        # A rank without an image of its own has the weight 0: any finite divisor serves.
        share = self._own / self._all if self._own else 1.0
        return paddle.clip(summed, min=floor + floor_per_image * self._all) * share

    @property
    def training(self) -> bool:
        """Whether a training batch is under way, in which the ranks take every step together."""
        return self._training

    @property
    def own_images(self) -> int:
        """Images of this rank in the running batch; 0: a filler that must not count."""
        return self._own

    def broadcast_arrays(self, arrays: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        """Returns rank 0's arrays on every rank; the others pass None."""
        return self._arrays_of(0, arrays if self.writes else None)

    def broadcast_json(self, value: Any) -> Any:
        """Returns rank 0's JSON value on every rank."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8) if self.writes else None
        sent = self._arrays_of(0, None if text is None else {"json": text})
        return json.loads(sent["json"].tobytes())

    def gather_arrays(self, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Returns the arrays of every rank, in the ranks' order."""
        return [self._arrays_of(rank, arrays if rank == self.rank else None) for rank in range(self.world)]

    def _arrays_of(self, source: int, arrays: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        head = json.dumps([[k, list(v.shape), str(v.dtype)] for k, v in (arrays or {}).items()]).encode()
        body = b"".join(np.ascontiguousarray(v).tobytes() for v in (arrays or {}).values())
        own = [len(head), len(body)] if arrays is not None else [0, 0]
        lengths = [int(n) for n in self.sum(own)]
        held = np.frombuffer(head + body, np.uint8) if arrays is not None else np.zeros(sum(lengths), np.uint8)
        tensor = paddle.to_tensor(held)
        with _lost():
            dist.broadcast(tensor, src=source)
        raw = tensor.numpy().tobytes()
        result, offset = {}, lengths[0]
        for name, shape, dtype in json.loads(raw[: lengths[0]]):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            result[name] = np.frombuffer(raw[offset : offset + size], dtype).reshape(shape).copy()
            offset += size
        return result
