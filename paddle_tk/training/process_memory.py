"""What this process holds now, read in microseconds: the host's pages and what Paddle's allocators gave out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import paddle

from paddle_tk.environment.memory_limits import gpu_free_mb, host_limits, process_memory
from paddle_tk.files import MIB

HOST, ALLOCATOR, GPU = "host", "allocator", "gpu"
_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def readers(device: str) -> Mapping[str, Callable[[], float]]:
    """Returns what can be read here, in MB (2^20 bytes).

    Args:
        device: "cpu" or "gpu:N".

    Returns:
        "host": resident pages of the whole process, libraries and NumPy included, on Linux only. "allocator": bytes of
        tensors in the host's memory. "gpu": bytes of tensors on the GPU.
    """
    found: dict[str, Callable[[], float]] = {ALLOCATOR: allocator_mb}
    if _STATM.exists():
        found[HOST] = host_mb
    if device.startswith("gpu"):
        found[GPU] = lambda: float(paddle.device.cuda.memory_allocated(device)) / MIB
    return found


def host_mb() -> float:
    """Returns the resident memory of this process in MB."""
    return int(_STATM.read_bytes().split()[1]) * _PAGE / MIB


def allocator_mb() -> float:
    """Returns what Paddle's allocator on the host has given out, in MB."""
    return float(paddle.base.core.host_memory_stat_current_value("Allocated", 0)) / MIB


def room_mb(series: str, device: str) -> float | None:
    """Returns how much more memory of a kind there is by what the system or the driver says; None: unknown."""
    if series == GPU:
        return gpu_free_mb(int(device.partition(":")[2] or 0))
    if not _STATM.exists():
        return None
    now = process_memory()
    rooms = [limit.total_mb - now[limit.counts] for limit in host_limits()]
    return min(rooms, default=None)
