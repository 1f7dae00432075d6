"""Splits a global batch over devices of unequal memory and speed, and sets the accumulation. Imports no framework."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paddle_tk.errors import BadInput, some

MARGIN = 0.5
_MOST_IMAGES = 2**24  # above any global batch; bounds the search for a device's largest batch


@dataclass(frozen=True)
class Device:
    """One device of a job, with a process of its own.

    Attributes:
        name: For messages and tables.
        memory_mb: What it holds, in units of 2^20 bytes.
        images_per_second: Training speed; only the ratios between devices matter to the split.
    """

    name: str
    memory_mb: float
    images_per_second: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.memory_mb) and self.memory_mb >= 0):
            raise BadInput(f"{self.name} has a memory of {self.memory_mb} MB", "give a number of 0 or more")
        if not (math.isfinite(self.images_per_second) and self.images_per_second > 0):
            raise BadInput(f"{self.name} has a speed of {self.images_per_second} images/s", "give a number above 0")


@dataclass(frozen=True)
class Share:
    """What one device does in each step.

    Attributes:
        device: Its name.
        batch: Images in a step; 0: it takes no part.
        largest_batch: Most images that its memory holds, the margin kept.
        seconds: Of its own step, ``batch / images_per_second``.
        idle: Share of the common step in which it waits for the slowest, 0..1.
        memory_mb: Needed for ``batch``, without margin; 0 where it takes no part.
        bound_by: "memory" where it is at its largest batch and could take more in the same time, else "speed".
    """

    device: str
    batch: int
    largest_batch: int
    seconds: float
    idle: float
    memory_mb: float
    bound_by: Literal["memory", "speed"]


@dataclass(frozen=True)
class Plan:
    """How a global batch is split.

    Attributes:
        global_batch: Images of one update; the sum of the shares' batches times ``accumulation``.
        accumulation: Steps of an update; 1 where the batch fits at once.
        shares: In the order of the devices.
        step_seconds: Of the slowest device, communication not counted.
        update_seconds: ``accumulation`` steps.
        bound_by: "memory" where more memory would make the step shorter or the accumulation smaller, else "speed".
        remarks: In words: devices that take no part, a batch that splits badly.
    """

    global_batch: int
    accumulation: int
    shares: tuple[Share, ...]
    step_seconds: float
    update_seconds: float
    bound_by: Literal["memory", "speed"]
    remarks: tuple[str, ...] = ()

    @property
    def batches(self) -> list[int]:
        """Images of each device in a step: what ``trainer.rank_batch_sizes`` takes where none is 0."""
        return [share.batch for share in self.shares]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {**asdict(self), "batches": self.batches}


def plan_split(
    global_batch: int, devices: Sequence[Device], memory_mb_at: Callable[[int], float], margin: float = MARGIN
) -> Plan:
    """Splits a batch so that the slowest device's step is as short as the memories allow.

    The time of a device is taken as proportional to its images. With limits b_i <= c_i and speeds s_i, the largest
    b_i / s_i is least where all devices share one time, those at their limit apart; whole images are then handed out
    one by one to the device that would be done first, which keeps the minimum (the times rise with each image).

    Args:
        global_batch: Images of one update, all devices together.
        devices: At least one.
        memory_mb_at: Memory that training with so many images takes on one device; must not fall with the images.
        margin: Share of that memory which has to stay free besides it.

    Returns:
        The plan. Where the devices together cannot hold the batch, it has the least accumulation that divides the batch
        and makes it fit.

    Raises:
        BadInput: A batch below 1, no devices, a negative margin, or no device that can hold one image.
    """
    if global_batch < 1:
        raise BadInput(f"a global batch of {global_batch} images cannot be split", "use a whole number of at least 1")
    if not devices:
        raise BadInput("no devices to split a batch over", "name at least one")
    if not margin >= 0:
        raise BadInput(f"the safety margin is {margin}", "use a share of 0 or more, such as 0.5")
    limits = [largest_batch(device.memory_mb, memory_mb_at, margin, global_batch) for device in devices]
    if not any(limits):
        best = max(devices, key=lambda device: device.memory_mb)
        raise BadInput(
            f"no device holds even one image: that takes {memory_mb_at(1) * (1 + margin):.0f} MB with a margin of "
            f"{margin:.0%}, {best.name} has {best.memory_mb:.0f} MB",
            "use recompute, a smaller input, a smaller network or a device with more memory",
        )
    accumulation = _least_accumulation(global_batch, sum(limits))
    batches = _split(global_batch // accumulation, [device.images_per_second for device in devices], limits)
    return _plan(global_batch, accumulation, devices, batches, limits, memory_mb_at)


def largest_batch(memory_mb: float, memory_mb_at: Callable[[int], float], margin: float, most: int) -> int:
    """Returns the most images, up to ``most``, whose memory and margin fit; 0 where not even one does."""

    def fits(batch: int) -> bool:
        return memory_mb_at(batch) * (1 + margin) <= memory_mb

    most = min(most, _MOST_IMAGES)
    if most < 1 or not fits(1):
        return 0
    low, high = 1, 2
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:  # low fits, high does not or is not asked for
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _least_accumulation(global_batch: int, room: int) -> int:
    """Returns the least divisor of the batch whose quotient is at most ``room``, which is at least 1."""
    # The quotient falls as the divisor rises: the largest divisor of the batch up to ``room`` gives it.
    for step in range(min(room, global_batch), 0, -1):
        if global_batch % step == 0:
            return global_batch // step
    raise AssertionError("unreachable: 1 divides every batch")


def _split(total: int, speeds: Sequence[float], limits: Sequence[int]) -> list[int]:
    """Returns whole batches with the least largest time; ``total`` is at most the sum of the limits."""
    batches = [0] * len(speeds)
    free = [i for i, limit in enumerate(limits) if limit]
    left = total
    while free:
        level = left / sum(speeds[i] for i in free)  # the time at which all free devices would be done together
        full = [i for i in free if level * speeds[i] >= limits[i]]
        if not full:
            for i in free:
                batches[i] = int(level * speeds[i])
            break
        for i in full:
            batches[i] = limits[i]
        free = [i for i in free if i not in full]
        left = total - sum(batches)
    while sum(batches) > total:  # rounding of the level, at most an image a device
        worst = max((i for i in range(len(speeds)) if batches[i]), key=lambda i: batches[i] / speeds[i])
        batches[worst] -= 1
    for _ in range(total - sum(batches)):
        room = [i for i in range(len(speeds)) if batches[i] < limits[i]]
        batches[min(room, key=lambda i: ((batches[i] + 1) / speeds[i], i))] += 1
    return batches


def _plan(
    global_batch: int,
    accumulation: int,
    devices: Sequence[Device],
    batches: Sequence[int],
    limits: Sequence[int],
    memory_mb_at: Callable[[int], float],
) -> Plan:
    seconds = [batch / device.images_per_second for batch, device in zip(batches, devices, strict=True)]
    step = max(seconds)
    shares = tuple(
        Share(
            device=device.name,
            batch=batch,
            largest_batch=limit,
            seconds=own,
            idle=1 - own / step,
            memory_mb=memory_mb_at(batch) if batch else 0.0,
            bound_by="memory" if batch == limit and (batch + 1) / device.images_per_second <= step else "speed",
        )
        for device, batch, limit, own in zip(devices, batches, limits, seconds, strict=True)
    )
    free = _split(global_batch, [d.images_per_second for d in devices], [global_batch] * len(devices))
    unlimited = max(batch / device.images_per_second for batch, device in zip(free, devices, strict=True))
    slowed = accumulation > 1 or step > unlimited
    return Plan(
        global_batch,
        accumulation,
        shares,
        step,
        accumulation * step,
        "memory" if slowed else "speed",
        tuple(_remarks(global_batch, accumulation, devices, batches, limits)),
    )


def _remarks(
    global_batch: int, accumulation: int, devices: Sequence[Device], batches: Sequence[int], limits: Sequence[int]
) -> list[str]:
    said = []
    small = [device.name for device, limit in zip(devices, limits, strict=True) if not limit]
    if small:
        said.append(f"cannot hold one image: {some(small)}")
    slow = [d.name for d, batch, limit in zip(devices, batches, limits, strict=True) if limit and not batch]
    if slow:
        said.append(f"too slow to help with this batch: {some(slow)}")
    room = sum(limits)
    least = -(-global_batch // room)
    if accumulation > least:
        better = max(1, round(global_batch / (least * room)) * least * room)
        said.append(
            f"{global_batch} images split exactly only into {accumulation} steps of {global_batch // accumulation}; "
            f"the devices hold {room} in a step, so {better} images would take {better // room}"
        )
    return said


def choose_accumulation(target_batch: int, batch: int, processes: int) -> int:
    """Returns the steps of an update such that ``steps * batch * processes == target_batch``, exactly.

    A target that cannot be met is refused rather than rounded: a rate chosen for 256 images shall not meet 240.

    Args:
        target_batch: Images of one update, all processes together.
        batch: Images of one process in a step.
        processes: How many train together.

    Raises:
        BadInput: A value below 1, or no whole number of steps; names the nearest targets that work.
    """
    for name, value in (("target batch", target_batch), ("batch size", batch), ("number of processes", processes)):
        if value < 1:
            raise BadInput(f"the {name} is {value}", "use a whole number of at least 1")
    step = batch * processes
    if target_batch % step == 0:
        return target_batch // step
    below, above = target_batch // step * step, -(-target_batch // step) * step
    nearest = f"{below} or {above}" if below else f"{above}"
    each = f"{batch} images" if processes == 1 else f"{processes} processes x {batch} images"
    raise BadInput(
        f"target_batch_size={target_batch} is no multiple of the {step} images of a step ({each})",
        f"use {nearest}, or another data.batch_size",
    )


def measure_speed(
    step: Callable[[], None],
    images: int,
    *,
    warm_up: int = 1,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the images a second of one device: median over a few steps.

    Args:
        step: One whole training step; must return only when the device is done.
        images: In that step.
        warm_up: Steps before the first measured one, in which libraries are loaded and kernels chosen.
        repeats: Measured steps.
        clock: Seconds; replaced in tests.

    Raises:
        ValueError: ``images`` or ``repeats`` below 1.
    """
    if images < 1 or repeats < 1:
        raise ValueError(f"images and repeats must be at least 1, got {images} and {repeats}")
    for _ in range(warm_up):
        step()
    seconds = []
    for _ in range(repeats):
        began = clock()
        step()
        seconds.append(clock() - began)
    return images / max(statistics.median(seconds), 1e-9)
