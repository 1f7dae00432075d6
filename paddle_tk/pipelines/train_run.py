"""Trains in a run folder, in this process: alone, or as one of the processes of a job."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk.config.load import LoadedConfig, load_config
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.environment.ranks import GPUS, Rank
from paddle_tk.environment.start import start_paddle
from paddle_tk.environment.threads import OMP, available_cores
from paddle_tk.errors import Stopped
from paddle_tk.files import write_json
from paddle_tk.training.agreement import agreed
from paddle_tk.training.batch_choice import memory_watched
from paddle_tk.training.run_folder import CONFIG, ENVIRONMENT, Run, locked
from paddle_tk.training.supervise import die_with_parent

if TYPE_CHECKING:
    from paddle_tk.training.distributed import Parallel


def rank_threads(config: Config, local_processes: int) -> int | None:
    """Returns the CPU threads of each of several processes on this machine; None: the user has set them."""
    wanted = config.trainer.cpu_threads
    if wanted != "auto":
        return int(wanted)
    return None if os.environ.get(OMP) else max(1, available_cores() // local_processes)


def train_worker(folder: Path, rank: Rank | None, output: Output) -> None:
    """Trains in a run folder that another process of this machine has opened, from its newest checkpoint.

    Raises:
        PaddleTkError: What ended the training; ``Stopped`` after a signal.
    """
    die_with_parent()
    loaded = load_config(folder / CONFIG)
    device, parallel = _join(loaded.config, rank)
    with _parting(parallel):
        _train(loaded, folder, output, device, parallel)


def train_launched(loaded: LoadedConfig, rank: Rank, open_folder: Callable[[], Run], output: Output) -> Run:
    """Trains as one of the processes that Paddle's launcher has started, each with the same command line.

    Args:
        loaded: The config.
        rank: This process.
        open_folder: Opens the run folder; called by the first process only, which alone writes.
        output: Where to print.

    Returns:
        The run; ``finished`` where there was nothing to do.

    Raises:
        PaddleTkError: What ended the training; ``Stopped`` after a signal.
    """
    device, parallel = _join(loaded.config, rank)

    def opened() -> dict[str, Any]:
        run = open_folder()
        return {"folder": str(run.folder), "fresh": run.fresh, "finished": run.finished}

    with _parting(parallel):
        found = agreed(parallel, opened)
        run = Run(Path(found["folder"]), fresh=found["fresh"], finished=found["finished"])
        if not run.finished:
            _train(loaded, run.folder, output, device, parallel)
    return run


@contextmanager
def _parting(parallel: Parallel | None) -> Iterator[None]:
    """Lets go of the others at the end: those that still need this process will notice."""
    try:
        yield
    finally:
        if parallel is not None:
            parallel.leave()


def _join(config: Config, rank: Rank | None) -> tuple[str, Parallel | None]:
    """Loads Paddle, finds this process's device and joins the job's others."""
    trainer = config.trainer
    if rank is None:
        start_paddle(trainer.cpu_threads)
        from paddle_tk.environment.devices import resolve_device

        return resolve_device(trainer.accelerator, trainer.devices), None
    start_paddle(rank_threads(config, rank.local_world) or "auto")
    from paddle_tk.environment.devices import resolve_rank_device
    from paddle_tk.training.distributed import connect

    device = resolve_rank_device(trainer.accelerator, trainer.devices, rank)
    if device.startswith("gpu:"):
        os.environ.setdefault(GPUS, device.removeprefix("gpu:"))  # where Paddle opens its communication
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # Paddle tells its flags
        return device, connect(rank, device)


def _train(loaded: LoadedConfig, folder: Path, output: Output, device: str, parallel: Parallel | None) -> None:
    from paddle_tk.environment.versions import environment_report
    from paddle_tk.pipelines.training_plan import plan_training
    from paddle_tk.training.build import build_trainer

    writes = parallel is None or parallel.writes
    with locked(folder) if writes else nullcontext():
        if writes:
            write_json(folder / ENVIRONMENT, environment_report())
        config = plan_training(loaded.config, folder, device, parallel, output)
        with memory_watched(folder, int(config.data.batch_size), main_process=writes):
            trainer = build_trainer(config, folder, loaded.sha256, device, output, parallel=parallel)
            result = trainer.run()
    if result is None and trainer.model.stop_signal is not None:
        raise Stopped(
            f"stopped after update {trainer.model.progress.updates}; everything is saved",
            f"go on with: python tools/train.py --resume {folder}",
            trainer.model.stop_signal,
        )
