"""Several processes that train one network: what they say to each other, and nothing else.

hapi's own way (``paddle.Model`` wraps the network in ``DataParallel``) trains the ranks apart on a CPU in Paddle 3.3
and weighs every rank alike, so it is switched off: gradients are summed here, each weighted by its rank's share of the
images, which makes the result that of one process with the whole batch, whatever the split. Batch-norm statistics that
are not synchronised are averaged by images after every batch, so that every rank holds the same state, one rank can
write it, and any number of processes can go on from it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

from paddle_tk.environment.ranks import BACKEND, ENDPOINT, WORLD, Rank
from paddle_tk.models.losses import own_divisor
from paddle_tk.training.presence import Hub, Presence, lost_process, reach

# What Paddle's transports call a peer that is gone; any other failure is a fault and stays one.
_TRANSPORT = re.compile(r"gloo|nccl|socket|connection|timed? ?out|tcp", re.IGNORECASE)
_BUCKET_BYTES = 2**26  # of one collective: the copies that it needs stay small, and it ends long before gloo's 30 s


def connect(rank: Rank, device: str) -> Parallel:
    """Joins the job's processes; every one of them must call this, before any network is built.

    Args:
        rank: As ``own_rank()`` told it, which tells nothing any more afterwards.
        device: "cpu" or "gpu:N".

    Raises:
        LostProcess: The others cannot be reached.
    """
    os.environ.setdefault(BACKEND, "nccl" if device.startswith("gpu") else "gloo")
    with _lost():
        dist.init_parallel_env()
    # hapi reads it and would wrap the network in its own data parallelism.
    os.environ.pop(WORLD, None)
    return Parallel(rank, all_at_once=os.environ[BACKEND] == "gloo")


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not _TRANSPORT.search(str(error)):
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise lost_process(lines[-1].strip()[:160]) from error


class Parallel:
    """This process among the others of a data-parallel training.

    Every method is called by all ranks, in the same order.

    Args:
        rank: Its number and how many there are.
        all_at_once: Let no rank enter a collective before all are about to, as gloo needs it; see ``presence``.

    Attributes:
        place: The rank.
        rank: Its number.
        world: How many there are.
    """

    def __init__(self, rank: Rank, all_at_once: bool = True) -> None:
        self.place, self.rank, self.world = rank, rank.rank, rank.world
        self._own, self._all, self._first = 0, 0, 0
        self._running = self._training = False
        self._presence: Presence | None = None
        presence = self._open_presence()
        self._presence = presence if all_at_once else None
        self._watch = presence

    def _open_presence(self) -> Presence:
        if not self.writes:
            return Presence([reach(self.broadcast_json(None))], first=False)
        hub = Hub(os.environ.get(ENDPOINT, "127.0.0.1").rsplit(":", 1)[0])
        self.broadcast_json(hub.address)
        return Presence(hub.accept(self.world - 1), first=True)

    @property
    def writes(self) -> bool:
        """Whether this is the rank that writes files and talks."""
        return self.rank == 0

    def close(self) -> None:
        """Parts from the others in peace, once all have come to this place.

        Raises:
            LostProcess: One of them is gone.
        """
        try:
            self._watch.meet()
        finally:
            self._watch.close()

    def leave(self) -> None:
        """Parts from the others without waiting for them; those that still need this rank will miss it."""
        self._watch.close()

    @contextmanager
    def batch(
        self, own: int, of_all: int, first: int, *, training: bool = True, key: Sequence[int] = ()
    ) -> Iterator[None]:
        """Marks a batch that all ranks are in.

        Args:
            own: Images of this rank; 0: a filler that must not count.
            of_all: Images of all ranks.
            first: Where this rank's begin.
            training: Whether it is a training batch.
            key: What the random numbers of its forward pass (dropout) follow from, together with the rank: a resume
                needs no state of the other ranks.
        """
        if training:
            words = np.random.SeedSequence((*key, self.rank)).generate_state(1)
            paddle.seed(int(words[0]))
        self._own, self._all, self._first = own, of_all, first
        self._running, self._training = True, training
        try:
            yield
        finally:
            self._running = self._training = False

    @property
    def training(self) -> bool:
        """Whether a training batch is under way, in which the ranks take every step together."""
        return self._training

    @property
    def own_images(self) -> int:
        """Images of this rank in the running batch; 0: a filler that must not count."""
        return self._own

    @property
    def own_places(self) -> slice:
        """Where they are among the images of all ranks."""
        return slice(self._first, self._first + self._own)

    def sum(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns the sums over all ranks, float64 (n,)."""
        tensor = paddle.to_tensor(np.asarray(values, np.float64))
        self.add_up(tensor)
        return np.asarray(tensor.numpy())

    def add_up(self, tensor: paddle.Tensor) -> None:
        """Replaces a tensor by its sum over all ranks."""
        self._meet()
        with _lost():
            dist.all_reduce(tensor)

    def _meet(self) -> None:
        if self._presence is not None:
            self._presence.meet()

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Replaces every gradient by its sum over all ranks; one that no rank has stays absent."""
        trained = [p for p in parameters if not p.stop_gradient]
        with paddle.no_grad():
            for bucket in _buckets(trained):
                has = paddle.to_tensor([float(p.grad is not None) for p in bucket]).astype(bucket[0].dtype)
                grads = [p.grad if p.grad is not None else paddle.zeros_like(p) for p in bucket]
                flat = paddle.concat([*(g.flatten() for g in grads), has])
                self.add_up(flat)
                found = flat[-len(bucket) :].tolist() if any(p.grad is None for p in bucket) else [1.0] * len(bucket)
                for parameter, part, ranks in zip(bucket, _parts(flat, bucket), found, strict=True):
                    if ranks:
                        parameter.grad = part.reshape(parameter.shape)

    def average(self, buffers: Sequence[paddle.Tensor]) -> None:
        """Replaces buffers by their means over the images of the running batch."""
        if not buffers:
            return
        with paddle.no_grad():
            flat = paddle.concat([b.astype("float32").flatten() for b in buffers]) * (self._own / self._all)
            self.add_up(flat)
            for buffer, part in zip(buffers, _parts(flat, buffers), strict=True):
                paddle.assign(part.reshape(buffer.shape).astype(buffer.dtype), buffer)

    def whole_batch(self, own: paddle.Tensor) -> paddle.Tensor:
        """Returns the rows of all ranks in the running batch, in its order, from this rank's rows."""
        whole = paddle.zeros([self._all, *own.shape[1:]], dtype=own.dtype)
        if self._own:
            whole[self.own_places] = own
        self.add_up(whole)
        return whole

    def divisor(self, total: paddle.Tensor, floor: float, floor_per_image: float, images: int) -> paddle.Tensor:
        """Returns what a rank divides its sum by, so that the ranks' weighted losses add up to that of one process.

        One process divides the sum over all images by max(total, floor + floor_per_image * images). A rank's loss is
        weighted by its share of the images later, so its divisor has to hold that share.

        Args:
            total: The rank's own part of the total, a scalar.
            floor: Least divisor of a whole batch.
            floor_per_image: Its part that grows with the images.
            images: Of this rank, fillers included; used outside a batch that all ranks are in.
        """
        if not self._running:
            return own_divisor(total, floor, floor_per_image, images)
        summed = total.detach() * float(self._own > 0)
        self.add_up(summed)
        # A rank without an image of its own has the weight 0: any finite divisor serves.
        share = self._own / self._all if self._own else 1.0
        return own_divisor(summed, floor, floor_per_image, self._all) * share

    def broadcast_tensors(self, tensors: Iterable[paddle.Tensor]) -> None:
        """Gives every rank the values of rank 0."""
        with paddle.no_grad():
            for tensor in tensors:
                self._meet()
                with _lost():
                    dist.broadcast(tensor, src=0)

    def broadcast_arrays(self, arrays: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        """Returns rank 0's arrays on every rank; the others pass None."""
        return self._arrays_of(0, arrays if self.writes else None)

    def broadcast_json(self, value: Any) -> Any:
        """Returns rank 0's JSON value on every rank."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8) if self.writes else None
        sent = self._arrays_of(0, None if text is None else {"json": text})
        return json.loads(sent["json"].tobytes())

    def gather_json(self, value: Any) -> list[Any]:
        """Returns the JSON values of every rank, in the ranks' order."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        return [json.loads(sent["json"].tobytes()) for sent in self.gather_arrays({"json": text})]

    def gather_arrays(self, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Returns the arrays of every rank, in the ranks' order."""
        return [self._arrays_of(rank, arrays if rank == self.rank else None) for rank in range(self.world)]

    def _arrays_of(self, source: int, arrays: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        head = json.dumps([[k, list(v.shape), str(v.dtype)] for k, v in (arrays or {}).items()]).encode()
        body = b"".join(np.ascontiguousarray(v).tobytes() for v in (arrays or {}).values())
        own = [len(head), len(body)] if arrays is not None else [0, 0]
        lengths = [int(n) for n in self.sum(own)]
        raw = self._bytes_of(source, head + body if arrays is not None else None, sum(lengths))
        result, offset = {}, lengths[0]
        for name, shape, dtype in json.loads(raw[: lengths[0]]):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            result[name] = np.frombuffer(raw[offset : offset + size], dtype).reshape(shape).copy()
            offset += size
        return result

    def _bytes_of(self, source: int, payload: bytes | None, length: int) -> bytes:
        received = []
        for start in range(0, length, _BUCKET_BYTES):
            end = min(length, start + _BUCKET_BYTES)
            held = np.zeros(end - start, np.uint8) if payload is None else np.frombuffer(payload[start:end], np.uint8)
            tensor = paddle.to_tensor(held.copy())
            self._meet()
            with _lost():
                dist.broadcast(tensor, src=source)
            received.append(tensor.numpy().tobytes())
        return b"".join(received)


def _buckets(tensors: Sequence[paddle.Tensor]) -> Iterator[list[paddle.Tensor]]:
    """Yields the tensors in groups of one type and of limited size; a larger one is a group of its own."""
    by_type: dict[Any, list[paddle.Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same in by_type.values():
        bucket: list[paddle.Tensor] = []
        size = 0
        for tensor in same:
            own = int(np.prod(tensor.shape)) * int(tensor.element_size())
            if bucket and size + own > _BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(tensor)
            size += own
        yield bucket


def _parts(flat: paddle.Tensor, like: Sequence[paddle.Tensor]) -> Iterator[paddle.Tensor]:
    start = 0
    for tensor in like:
        size = int(np.prod(tensor.shape))
        yield flat[start : start + size]
        start += size
