"""What a training's "auto" comes to on this machine: images of each process in a step, and steps of an update."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.environment.ranks import Rank
from paddle_tk.errors import BadInput
from paddle_tk.hardware.plan import Device, choose_accumulation, plan_split
from paddle_tk.pipelines.agreement import agreed
from paddle_tk.pipelines.choose_batch import choose_batch, measure_device

if TYPE_CHECKING:
    from paddle_tk.training.distributed import Parallel


@dataclass(frozen=True)
class TrainingPlan:
    """A training's settings without "auto".

    Attributes:
        config: With numbers for ``data.batch_size``, ``trainer.rank_batch_sizes`` (None: all alike) and
            ``trainer.accumulate_grad_batches``.
        split: Images of each process in a step.
    """

    config: Config
    split: tuple[int, ...]

    def own_batch(self, rank: Rank | None) -> int:
        """Returns the images of one process in a step."""
        return self.split[rank.rank if rank is not None else 0]


def plan_training(
    config: Config, folder: Path, device: str, rank: Rank | None, parallel: Parallel | None, output: Output
) -> TrainingPlan:
    """Decides what the config leaves to the machine; every process of a job must call this.

    Args:
        config: The resolved config.
        folder: The run folder, in which an automatic batch is kept.
        device: "cpu" or "gpu:N".
        rank: This process's place in the job; None: it is alone.
        parallel: The job's means to agree.
        output: Where to say what was picked and why.

    Raises:
        BadInput: The settings contradict each other or the number of processes.
        CheckFailed: An automatic batch was tried and memory does not hold it.
    """
    world = 1 if rank is None else rank.world
    if config.data.batch_size == "auto":
        local = 1 if rank is None else rank.local_world
        batch = agreed(parallel, lambda: choose_batch(config, folder, device, world, local, output))
        config = _with(config, "data", batch_size=batch)
    batch = int(config.data.batch_size)
    sizes, accumulate = config.trainer.rank_batch_sizes, config.trainer.accumulate_grad_batches
    if sizes == "auto":
        split, accumulate = _uneven(config, device, rank, parallel, output)
    else:
        split = _split(sizes, batch, world)
    target = config.trainer.target_batch_size
    if target is not None:
        alike = len(set(split)) == 1
        accumulate = choose_accumulation(target, split[0] if alike else sum(split), world if alike else 1)
    sizes = None if len(set(split)) == 1 else list(split)
    config = _with(config, "data", batch_size=max(split))
    return TrainingPlan(_with(config, "trainer", rank_batch_sizes=sizes, accumulate_grad_batches=accumulate), split)


def _with(config: Config, section: str, **values: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def _split(sizes: list[int] | None, batch: int, world: int) -> tuple[int, ...]:
    if sizes is None:
        return (batch,) * world
    if len(sizes) != world:
        raise BadInput(
            f"trainer.rank_batch_sizes={sizes} names {len(sizes)} process(es), the job has {world}",
            "give one number for each process, or leave it out",
        )
    return tuple(sizes)


def _uneven(
    config: Config, device: str, rank: Rank | None, parallel: Parallel | None, output: Output
) -> tuple[tuple[int, ...], int]:
    """Splits the global batch by what each process's device holds and how fast it is, both found by trying."""
    if rank is None or parallel is None:
        return (int(config.data.batch_size),), config.trainer.accumulate_grad_batches
    own = measure_device(config, device, rank.local_world)
    rows = [one["figures"] for one in parallel.gather_arrays({"figures": own.figures})]
    devices = [Device(f"process {number + 1}", float(row[0]), float(row[1])) for number, row in enumerate(rows)]
    total = int(config.data.batch_size) * rank.world

    def planned() -> dict[str, Any]:
        plan = plan_split(total, devices, own.memory.peak_mb)
        for remark in plan.remarks:
            output.warn(remark)
        if 0 in plan.batches:
            raise BadInput(
                f"trainer.rank_batch_sizes=auto would give process {plan.batches.index(0) + 1} no image",
                "leave that device out, or raise data.batch_size",
            )
        pairs = zip(plan.batches, devices, strict=True)
        told = ", ".join(f"{size} ({one.images_per_second:.0f} images/s)" for size, one in pairs)
        output.say(f"images of each process in a step, by measured speed and memory: {told}")
        return {"batches": plan.batches, "accumulation": plan.accumulation}

    found = agreed(parallel, planned)
    return tuple(found["batches"]), config.trainer.accumulate_grad_batches * int(found["accumulation"])
