"""What a training's "auto" comes to on this machine: images of each process in a step, and steps of an update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.hardware.plan import Device, choose_accumulation, plan_split
from paddle_tk.pipelines.choose_batch import choose_batch, measure_device
from paddle_tk.training.agreement import agreed
from paddle_tk.training.checkpoint import recorded_batch
from paddle_tk.training.run_folder import CHECKPOINTS

if TYPE_CHECKING:
    from paddle_tk.training.distributed import Parallel


def plan_training(config: Config, folder: Path, device: str, parallel: Parallel | None, output: Output) -> Config:
    """Decides what the config leaves to the machine; every process of a job must call this.

    Args:
        config: The resolved config.
        folder: The run folder, in which an automatic batch is kept.
        device: "cpu" or "gpu:N".
        parallel: The job; None: this process is alone.
        output: Where to say what was picked and why.

    Returns:
        The config with numbers for ``data.batch_size``, ``trainer.rank_batch_sizes`` (None: all alike) and
        ``trainer.accumulate_grad_batches``.

    Raises:
        BadInput: The settings contradict each other or the number of processes.
        CheckFailed: An automatic batch was tried and memory does not hold it.
    """
    world, local = (1, 1) if parallel is None else (parallel.world, parallel.place.local_world)
    if config.data.batch_size == "auto":
        batch = agreed(parallel, lambda: choose_batch(config, folder, device, world, local, output))
        config = _with(config, "data", batch_size=batch)
    if config.trainer.rank_batch_sizes == "auto":
        config = _uneven(config, device, parallel, output)
    target, sizes = config.trainer.target_batch_size, config.trainer.rank_batch_sizes
    if target is None or agreed(parallel, lambda: recorded_batch(folder / CHECKPOINTS) is not None):
        return config  # a run goes on with the batch and the accumulation of its checkpoint
    step = (sum(sizes), 1) if isinstance(sizes, list) else (int(config.data.batch_size), world)
    return _with(config, "trainer", accumulate_grad_batches=choose_accumulation(target, *step))


def _with(config: Config, section: str, **values: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def _uneven(config: Config, device: str, parallel: Parallel | None, output: Output) -> Config:
    """Splits the global batch by what each process's device holds and how fast it is, both found by trying."""
    if parallel is None:
        return _with(config, "trainer", rank_batch_sizes=None)
    own = measure_device(config, device, parallel.place.local_world)
    rows = [one["figures"] for one in parallel.gather_arrays({"figures": own.figures})]
    devices = [Device(f"process {number + 1}", float(row[0]), float(row[1])) for number, row in enumerate(rows)]

    def planned() -> dict[str, Any]:
        plan = plan_split(int(config.data.batch_size) * len(devices), devices, own.memory.peak_mb)
        for remark in plan.remarks:
            output.warn(remark)
        pairs = zip(plan.batches, devices, strict=True)
        told = ", ".join(f"{size} ({one.images_per_second:.0f} images/s)" for size, one in pairs)
        output.say(f"images of each process in a step, by measured speed and memory: {told}")
        return {"sizes": plan.batches, "accumulation": plan.accumulation}

    found = agreed(parallel, planned)
    accumulate = config.trainer.accumulate_grad_batches * int(found["accumulation"])
    return _with(config, "trainer", rank_batch_sizes=found["sizes"], accumulate_grad_batches=accumulate)
