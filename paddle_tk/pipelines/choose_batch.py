"""``data.batch_size: auto``: the largest batch whose predicted memory, margin included, every bound at hand holds.

What a training takes besides its images is measured in a trial (``batch_trial``); what grows with them is predicted by
the memory model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.environment.memory_limits import MemoryLimit, gpu_free_mb, host_limits
from paddle_tk.environment.threads import OMP, available_cores
from paddle_tk.errors import BadInput
from paddle_tk.files import MIB
from paddle_tk.hardware.plan import MARGIN
from paddle_tk.pipelines.batch_trial import TRIAL_BATCH, Trial, run_trial
from paddle_tk.pipelines.memory_estimate import estimate_of_config
from paddle_tk.training.batch_choice import BatchChoice, back_off, candidates, read_choice, write_choice

# A batch that makes an epoch of a handful of updates fits every memory and trains nothing.
_LEAST_STEPS = 16
_FLOAT_BYTES = 4


class Predicted(Protocol):
    """The memory of a training on its device."""

    def peak_mb(self, batch: int) -> float:
        """Returns the peak with so many images in a step, in units of 2^20 bytes."""


@dataclass(frozen=True)
class Room:
    """What bounds a training on this machine, and what it takes.

    Attributes:
        limits: Of this process.
        trial: Measured with a batch of ``TRIAL_BATCH``.
        memory: Predicted.
        on_gpu: Whether the tensors lie in the device's own memory.
        device_mb: What a GPU holds besides them.
        queued: Batches that the loader keeps ready.
    """

    limits: Sequence[MemoryLimit]
    trial: Trial
    memory: Predicted
    on_gpu: bool
    device_mb: float
    queued: int

    def needed_mb(self, limit: MemoryLimit, batch: int, margin: float) -> float:
        """Returns what the process takes of what the limit counts."""
        if limit.counts == "device":
            return self.device_mb + self.memory.peak_mb(batch) * (1 + margin)
        height, width = self.trial.input_size
        image_mb = 3 * height * width * _FLOAT_BYTES / MIB
        grown = (batch - TRIAL_BATCH) * image_mb * self.queued
        if not self.on_gpu:
            grown += self.memory.peak_mb(batch) * (1 + margin) - self.memory.peak_mb(TRIAL_BATCH)
        base = {"resident": self.trial.resident_mb, "mapped": self.trial.mapped_mb, "data": self.trial.data_mb}
        workers = self.trial.workers_mb if limit.counts == "resident" else 0.0
        return base[limit.counts] + workers + grown

    def tightest(self, batch: int) -> MemoryLimit:
        """Returns the limit that leaves least."""
        return min(self.limits, key=lambda limit: limit.total_mb - self.needed_mb(limit, batch, MARGIN))

    def holds(self, batch: int, margin: float = MARGIN) -> bool:
        """Whether every limit holds the batch."""
        return all(self.needed_mb(limit, batch, margin) <= limit.total_mb for limit in self.limits)

    @property
    def for_training_mb(self) -> float:
        """What the tensors of a training may take."""
        rooms = []
        for limit in self.limits:
            if limit.counts == "device":
                rooms.append(limit.total_mb - self.device_mb)
            elif not self.on_gpu:
                taken = self.needed_mb(limit, TRIAL_BATCH, 0.0) - self.memory.peak_mb(TRIAL_BATCH)
                rooms.append(limit.total_mb - taken)
        return min(rooms)


@dataclass(frozen=True)
class MeasuredDevice:
    """One process's device, tried.

    Attributes:
        memory: Predicted memory of the training.
        figures: Memory in MB, images a second; float64 (2,).
    """

    memory: Predicted
    figures: np.ndarray


def choose_batch(config: Config, folder: Path, device: str, world: int, local_processes: int, output: Output) -> int:
    """Returns the images of one process in a step: the run's own choice where it has one, else a new one.

    Args:
        config: Of the run.
        folder: Its folder, where the choice is kept.
        device: "cpu" or "gpu:N".
        world: Processes of the job.
        local_processes: Of them on this machine, which share its RAM.
        output: Where to say what was picked and why.

    Raises:
        BadInput: Memory does not hold the smallest training.
        CheckFailed: The run was killed in its first updates and its batch cannot be made smaller.
    """
    choice = read_choice(folder)
    if choice is None:
        choice = _choose(config, device, world, local_processes)
        write_choice(folder, choice)
    elif choice.running and not choice.confirmed:
        choice = back_off(folder, choice, "the process was killed before its second update")
    output.say(f"batch size {choice.picked} (auto): {choice.reason}")
    return choice.picked


def _choose(config: Config, device: str, world: int, local_processes: int) -> BatchChoice:
    room = measure_room(config, device, local_processes)
    target = config.trainer.target_batch_size
    if target is not None and target % world:
        raise BadInput(
            f"trainer.target_batch_size={target} cannot be split over {world} processes", f"use a multiple of {world}"
        )
    most = max(TRIAL_BATCH, room.trial.images // (world * _LEAST_STEPS))
    sizes = candidates(min(most, room.trial.images // world), target // world if target is not None else None)
    if not sizes:
        raise BadInput(f"{room.trial.images} training images for {world} processes", "use fewer processes")
    picked, reason = _largest(room, sizes)
    limit = room.tightest(picked)
    predictions = {str(size): round(room.needed_mb(limit, size, 0.0), 1) for size in sizes}
    accumulate = config.trainer.accumulate_grad_batches if target is None else target // (picked * world)
    return BatchChoice(
        picked=picked,
        reason=reason,
        limit=limit.name,
        limit_mb=round(limit.total_mb, 1),
        predicted_mb=predictions[str(picked)],
        margin=MARGIN,
        global_batch=picked * world * accumulate,
        origin={"limit_mb": "measured", "predicted_mb": "estimated"},
        predictions=predictions,
        first_picked=picked,
    )


def _largest(room: Room, sizes: Sequence[int]) -> tuple[int, str]:
    """Returns the batch and why, in words."""
    fitting = [size for size in sizes if room.holds(size)]
    picked = fitting[-1] if fitting else max((s for s in sizes if s <= TRIAL_BATCH), default=0)
    if not picked:
        limit = room.tightest(sizes[0])
        raise BadInput(
            f"data.batch_size=auto: {limit.name} of {limit.total_mb:.0f} MB does not hold a batch of {sizes[0]}, which "
            f"takes {room.needed_mb(limit, sizes[0], MARGIN):.0f} MB with a margin of {MARGIN:.0%} (estimated)",
            "use trainer.recompute, a smaller data.image_size or network, or a trainer.target_batch_size with more "
            "divisors",
        )
    limit = room.tightest(picked)
    told = f"takes {room.needed_mb(limit, picked, 0.0):.0f} MB (estimated) of {limit.total_mb:.0f} MB, {limit.name}"
    if not fitting:
        return picked, f"{told}; it ran in a trial, a margin of {MARGIN:.0%} does not stay free"
    if picked == sizes[-1]:
        return picked, f"{told}; more images would leave an epoch too few updates"
    over = sizes[sizes.index(picked) + 1]
    limit = room.tightest(over)
    more = room.needed_mb(limit, over, MARGIN)
    return picked, f"{told}; {over} would need {more:.0f} MB with a margin of {MARGIN:.0%}"


def measure_device(config: Config, device: str, local_processes: int) -> MeasuredDevice:
    """Tries a training on this process's device, for ``trainer.rank_batch_sizes: auto``.

    Raises:
        BadInput: It cannot be trained there.
    """
    room = measure_room(config, device, local_processes)
    return MeasuredDevice(room.memory, np.array([room.for_training_mb, room.trial.images_per_second]))


def measure_room(config: Config, device: str, local_processes: int) -> Room:
    """Tries and predicts what a training takes here.

    Raises:
        BadInput: The training does not run at all, or a GPU does not tell its memory.
    """
    threads = int(os.environ.get(OMP, "").split(",")[0] or available_cores())
    trial = run_trial(config, device, threads)
    estimate = estimate_of_config(
        config, num_classes=trial.num_classes, boxes_per_image=trial.boxes_per_image, input_size=trial.input_size,
        device=device, threads=threads,
    )  # fmt: skip
    limits = list(host_limits(local_processes))
    on_gpu = device != "cpu"
    if on_gpu:
        limits.append(_gpu_limit(device))
    return Room(limits, trial, estimate, on_gpu, estimate.device_overhead_mb, _queued(config))


def _gpu_limit(device: str) -> MemoryLimit:
    index = int(device.removeprefix("gpu:"))
    free = gpu_free_mb(index)
    if free is None:
        import paddle

        # A Jetson's GPU shares the host's memory and has no nvidia-smi.
        free = paddle.device.cuda.get_device_properties(index).total_memory / MIB
    return MemoryLimit(f"the memory of {device}", free, "device")


def _queued(config: Config) -> int:
    """Returns how many batches the loader holds at most, the one in use included, as the workers are chosen."""
    data = config.data
    workers = available_cores() if data.num_workers == "auto" else int(data.num_workers)
    prefetch = 2 if data.prefetch_factor == "auto" else int(data.prefetch_factor)
    return max(1, workers) * max(1, prefetch) + 2
