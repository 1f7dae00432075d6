"""What a training takes besides its images, found by a real one: two batches of two images, in a process of its own.

A process maps and keeps far more than the tensors of its network: libraries, the heaps and stacks of threads, buffers
of the matrix library, the dataset, copies while a checkpoint is saved, loader processes. All of that is measured here
instead of being assumed; what grows with the batch comes from the memory model. The process inherits the limits of
the one that asks, so what does not run here would not run there.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.environment.memory_limits import process_memory
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.files import MIB
from paddle_tk.measure.fresh_process import answer, run_fresh

if TYPE_CHECKING:
    from paddle_tk.training.trainer import Trainer

_LESS = "raise the limit, or use a smaller network, a smaller data.image_size or trainer.recompute"
TRIAL_BATCH = 2  # one image may be special: batch norm has no variance over maps of one position
_TIMEOUT_SECONDS = 900.0
_POLL_SECONDS = 0.05
_STALL_SECONDS = 30.0
# A child of a process that is one of several must not take itself for one of them.
_JOB, _OURS = ("PADDLE_", "FLAGS_selected_gpus"), "PADDLE_TK_"


@dataclass(frozen=True)
class Trial:
    """What was measured in a training of a few batches of ``TRIAL_BATCH`` images.

    Attributes:
        batch: Images of a batch.
        images: In the training split.
        num_classes: Of the dataset.
        input_size: Largest height and width of a batch, in pixels.
        boxes_per_image: Mean over the training images that have any; 0 for classification.
        resident_mb: Largest resident memory of the process.
        mapped_mb: Largest address space.
        data_mb: Largest private data.
        workers_mb: Largest sum of what the loader's processes have for themselves.
        images_per_second: Of the training step alone, median of a few.
    """

    batch: int
    images: int
    num_classes: int
    input_size: tuple[int, int]
    boxes_per_image: int
    resident_mb: float
    mapped_mb: float
    data_mb: float
    workers_mb: float
    images_per_second: float


def run_trial(config: Config, device: str, threads: int) -> Trial:
    """Trains a little in a fresh process.

    Args:
        config: Of the run; its batch size is not used.
        device: "cpu" or "gpu:N".
        threads: CPU threads.

    Raises:
        BadInput: The config cannot be trained at all, or memory holds not even this.
    """
    job = {"config": trial_config(config).model_dump(mode="json"), "device": device}
    what = "a trial of two batches"
    try:
        found = run_fresh(__name__, job, threads=threads, what=what, timeout_seconds=_TIMEOUT_SECONDS)
    except CheckFailed as error:
        ended = error.problem.rpartition("process of its own")[2].strip(" :,")
        raise BadInput(
            f"data.batch_size=auto: {what} of {TRIAL_BATCH} images died, probably for want of memory ({ended})",
            f"{_LESS}; data.batch_size={TRIAL_BATCH} shows its messages",
        ) from error
    return Trial(**{**found, "input_size": tuple(found["input_size"])})


def trial_config(config: Config) -> Config:
    """Returns the config of a quick training of one process that tells nobody of itself."""
    data = config.data.model_copy(update={"batch_size": TRIAL_BATCH})
    trainer = config.trainer.model_copy(
        update={
            "fast_dev_run": True,
            "save_every_n_steps": None,
            "accumulate_grad_batches": 1,
            "target_batch_size": None,
            "devices": "auto",
            "rank_batch_sizes": None,
            "strategy": "ddp",
            "offload": False,
            "sync_batch_norm": False,
            "leak_watch": "off",
            "leak_tensors": False,
            "loggers": [name for name in config.trainer.loggers if name != "wandb"],
        }
    )
    return config.model_copy(update={"data": data, "trainer": trainer})


def _measure(job: Mapping[str, Any]) -> dict[str, Any]:
    for name in [name for name in os.environ if name.startswith(_JOB) and not name.startswith(_OURS)]:
        del os.environ[name]
    _end_when_stalled(_STALL_SECONDS)
    config = Config(**job["config"])
    from paddle_tk.environment.start import start_paddle
    from paddle_tk.training.batch_choice import is_out_of_memory

    try:
        start_paddle("auto")  # run_fresh has set them
        return asdict(_train(config, job["device"]))
    except BaseException as error:
        if not is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"memory does not hold a training with a batch of {TRIAL_BATCH}: {said[:160]}",
            _LESS,
        ) from error


def _end_when_stalled(seconds: float) -> None:
    """Ends this process when it has used no processor for so long.

    Where a thread or a library finds no memory, Paddle and OpenMP wait for it for ever. The timer is the interpreter's
    own and needs no lock of it; a thread sets it anew as long as there is progress.
    """
    nowhere = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives

    def follow() -> None:
        used = -1.0
        while True:
            if time.process_time() - used > seconds / 1000:
                faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
            used = time.process_time()
            time.sleep(seconds / 10)

    threading.Thread(target=follow, daemon=True).start()


def _train(config: Config, device: str) -> Trial:
    from paddle_tk.training.build import build_trainer

    with tempfile.TemporaryDirectory(prefix="paddle_tk-trial-") as folder, _WorkersWatch() as workers:
        trainer = build_trainer(config, Path(folder), "", device, Output(quiet=True))
        trainer.run()
        speed = _speed(trainer)
    memory = process_memory()
    loader = trainer.train_data
    return Trial(
        batch=TRIAL_BATCH,
        images=len(loader.split),
        num_classes=len(trainer.artifact.task.classes),
        input_size=_largest_size(config),
        boxes_per_image=_boxes(loader.split),
        resident_mb=memory["resident_peak"],
        mapped_mb=memory["mapped_peak"],
        # Linux keeps no peak of it; what was unmapped since the peak of the address space may have been data.
        data_mb=memory["data"] + memory["mapped_peak"] - memory["mapped"],
        workers_mb=workers.peak_mb,
        images_per_second=speed,
    )


def _speed(trainer: Trainer) -> float:
    import paddle

    from paddle_tk.hardware.plan import measure_speed

    loader = trainer.train_data
    loader.stop_when = None
    loader.start(0)
    images, labels = next(iter(loader))
    loader.close()
    gpu = paddle.device.get_device() != "cpu"

    def step() -> None:
        trainer.model.train_batch([images], [labels])
        if gpu:
            paddle.device.synchronize()

    return measure_speed(step, int(images.shape[0]))


def _largest_size(config: Config) -> tuple[int, int]:
    from paddle_tk.training.build_task import build_transforms, task_kind

    augmented, _ = build_transforms(config, task_kind(config), epochs=1)
    height, width = getattr(augmented, "largest_size", config.data.size)
    return int(height), int(width)


def _boxes(split: Any) -> int:
    counts = [len(boxes) for boxes in getattr(split, "annotations", ()) if len(boxes)]
    return -(-sum(counts) // max(1, len(counts)))


class _WorkersWatch:
    """Follows, from a thread, what the child processes of this one have for themselves."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _WorkersWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _follow(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._end.wait(_POLL_SECONDS):
            total = sum(_unique_bytes(child, psutil.Error) for child in own.children(recursive=True))
            self.peak_mb = max(self.peak_mb, total / MIB)


def _unique_bytes(process: Any, gone: type[Exception]) -> int:
    try:
        return int(process.memory_full_info().uss)
    except gone:
        return 0


if __name__ == "__main__":
    sys.exit(answer(_measure))
