"""Loader processes: how many, how they start, and how they end, whatever happens to the training process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

_MAX_WORKERS = 8
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_STOP_SECONDS = 10
_GRACE_SECONDS = 20


def choose_workers(n_samples: int, on_disk: bool, cores: int) -> tuple[int, int]:
    """Chooses loader processes and the batches each prepares ahead.

    Images in memory are augmented in about 20 microseconds each (32x32), quicker than a batch passes between
    processes, so they are loaded in the training process itself, in a thread. Files have to be decoded (about
    0.1 ms for a 32x32, 3 ms for a 640x480 JPEG), so they get every core but the one that feeds the device,
    and no more than 8, so that a large machine's disk and memory are not flooded. A set smaller than a few
    batches is read sooner than workers start. Few workers hide an uneven decoding time behind a deeper queue
    (4), many by their number (2), which bounds memory.

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


def init_worker(worker_id: int) -> None:
    """Prepares a worker process: one thread, deaf to the signals meant for training, never an orphan."""
    cv2.setNumThreads(0)
    # Ctrl-C and a service manager signal the whole group; the training process finishes its step and then
    # ends the workers itself, so they must outlive the signal for a while.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_later)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()


def _leave_later(signum: int, frame: FrameType | None) -> None:
    timer = threading.Timer(_GRACE_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _leave_with_parent(parent: int) -> None:
    """Ends this process soon after a killed parent; Paddle's own check waits for a batch that never comes."""
    while os.getppid() == parent:
        time.sleep(0.5)
    sys.setswitchinterval(60)  # the thread that makes batches shall not go on in between
    # Batches in shared memory would outlive both processes. Paddle's own clean-up forgets those that were handed over
    # and not yet taken, so they are found by their names, which begin with the pid of the process that made them.
    for file in _SHARED_MEMORY.glob(f"paddle_{os.getpid()}_*"):
        file.unlink(missing_ok=True)
    os._exit(0)


def shared_memory_holds(needed_bytes: int) -> bool:
    """Tells whether batches can pass through shared memory, which takes a tenth of a pipe's time in the
    trainer.

    Containers often have 64 MB of it, and a process that writes more dies of a bus error.
    """
    return _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > 2 * needed_bytes


def shut_down(iterator: Any) -> None:
    """Ends a Paddle iterator's thread or processes now, not when it happens to be collected."""
    workers = getattr(iterator, "_workers", None)
    if workers is None:
        # Paddle keeps the last single-process iterator in a global, so dropping our reference ends nothing.
        iterator._try_shutdown_all()
        return
    iterator._try_shutdown_all(_STOP_SECONDS)
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()


def await_exit(thread_id: int) -> None:
    """Waits until a thread that Python has joined is gone from the system as well, which is a little later.

    On its way out it takes a lock of Paddle's memory statistics. A worker that is forked at that moment inherits the
    lock and hangs at its first allocation (seen once in about a hundred passes).
    """
    task, end = Path(f"/proc/self/task/{thread_id}"), time.monotonic() + 1
    while task.exists() and time.monotonic() < end:
        time.sleep(0.0005)
