"""How much more memory this process may take, and what says so. Linux; imports no framework."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddle_tk.errors import BadInput
from paddle_tk.files import MIB

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_KIB_PER_MIB = 1024
# Mapped by a process that only loaded Paddle, over the size of its libraries: 1,023 of 645 MiB (Paddle 3.3.1 for CPUs,
# 2 threads); the rest are NumPy, buffers of the matrix library and the stacks and heaps of threads. With a limit of 600
# MiB the import never returned, with 1,000 MiB the process was killed by a segmentation fault.
_LOADED_OVER_LIBRARIES = 1.6
_UNLIMITED_CGROUP = 2**62  # version 1 writes a number near 2^63 for "none"

Counts = Literal["resident", "mapped", "data", "device"]


@dataclass(frozen=True)
class MemoryLimit:
    """One bound on a process's memory.

    Attributes:
        name: For messages ("free RAM").
        total_mb: Most that the process may have, what it has now included; units of 2^20 bytes.
        counts: What is counted: "resident" pages (VmRSS), "mapped" address space (VmSize), private "data" (VmData),
            or memory of the "device".
    """

    name: str
    total_mb: float
    counts: Counts


def process_memory(proc: Path = _PROC) -> dict[str, float]:
    """Returns in MB what this process has now and had at most.

    Returns:
        "resident", "mapped", "data" now, and "resident_peak", "mapped_peak"; "data" has no peak on Linux.
    """
    keys = {
        "VmRSS": "resident",
        "VmSize": "mapped",
        "VmData": "data",
        "VmHWM": "resident_peak",
        "VmPeak": "mapped_peak",
    }
    found = {}
    for line in (proc / "self" / "status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in keys:
            found[keys[name]] = int(value.split()[0]) / _KIB_PER_MIB
    return found


def host_limits(local_processes: int = 1, *, proc: Path = _PROC, cgroup: Path = _CGROUP) -> tuple[MemoryLimit, ...]:
    """Returns every bound on this process's host memory, the tightest of each kind being what counts.

    RAM and a container's limit are shared: what is free there is divided among the job's processes on this machine.
    Limits of ``ulimit -v`` and ``ulimit -d`` are each process's own.

    Args:
        local_processes: Processes of this job on this machine.
        proc: Of the kernel; replaced in tests.
        cgroup: Where control groups are mounted; replaced in tests.
    """
    now = process_memory(proc)
    limits = []
    free = _available_mb(proc)
    if free is not None:
        limits.append(MemoryLimit("free RAM", now["resident"] + free / local_processes, "resident"))
    group = _cgroup_free_mb(proc, cgroup)
    if group is not None:
        name = "the container's or control group's limit"
        limits.append(MemoryLimit(name, now["resident"] + group / local_processes, "resident"))
    kinds: tuple[tuple[str, int, Counts], ...] = (
        ("the address-space limit (ulimit -v)", resource.RLIMIT_AS, "mapped"),
        ("the data limit (ulimit -d)", resource.RLIMIT_DATA, "data"),
    )
    for name, kind, counts in kinds:
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            limits.append(MemoryLimit(name, soft / MIB, counts))
    return tuple(limits)


def _available_mb(proc: Path) -> float | None:
    for line in (proc / "meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / _KIB_PER_MIB
    return None


def _cgroup_free_mb(proc: Path, mount: Path) -> float | None:
    """Returns the least room of this process's control groups, file pages that can be dropped counted as free."""
    rooms = [room for folder, names in _groups(proc, mount) if (room := _room(folder, *names)) is not None]
    return min(rooms, default=None)


def _groups(proc: Path, mount: Path) -> list[tuple[Path, tuple[str, str]]]:
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = mount if controllers == "" else mount / "memory"
        names = ("memory.max", "memory.current")
        if controllers == "memory":
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        own = Path(path.lstrip("/"))
        # Inside a container the path may name a folder of the host that is not mounted: the root is read as well.
        found += [(base / part, names) for part in (own, *own.parents)]
    return found


def _room(folder: Path, limit_name: str, usage_name: str) -> float | None:
    try:
        text = (folder / limit_name).read_text(encoding="utf-8").strip()
        if not text.isdigit() or int(text) >= _UNLIMITED_CGROUP:
            return None
        used = int((folder / usage_name).read_text(encoding="utf-8"))
        statistics = (folder / "memory.stat").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    values = dict(zip(statistics[::2], statistics[1::2], strict=False))
    droppable = int(values.get("total_inactive_file", values.get("inactive_file", "0")))
    return max(0, int(text) - max(0, used - droppable)) / MIB


def require_room_for_paddle(limit_bytes: int | None = None) -> None:
    """Refuses an address-space limit under which Paddle cannot even be loaded: its import would hang or crash.

    Args:
        limit_bytes: None: this process's RLIMIT_AS.

    Raises:
        BadInput: The limit is too low.
    """
    soft = resource.getrlimit(resource.RLIMIT_AS)[0] if limit_bytes is None else limit_bytes
    if soft == resource.RLIM_INFINITY:
        return
    needed = paddle_library_mb() * _LOADED_OVER_LIBRARIES
    if soft / MIB < needed:
        raise BadInput(
            f"the address-space limit (ulimit -v) of {soft / MIB:.0f} MB does not hold Paddle itself, which maps about "
            f"{needed:.0f} MB before anything is trained",
            "raise the limit, or limit resident memory instead (a container's or systemd's memory limit)",
        )


def paddle_library_mb() -> float:
    """Returns the size of the libraries that Paddle maps, without importing it; 0 where it is not installed."""
    found = importlib.util.find_spec("paddle")
    if found is None or found.origin is None:
        return 0.0
    folder = Path(found.origin).parent
    files = [file for part in ("base", "libs") for file in (folder / part).glob("*.so*")]
    return sum(file.stat().st_size for file in files) / MIB


def gpu_free_mb(
    index: int, *, environment: Mapping[str, str] = os.environ, ask: Callable[[list[str]], str] | None = None
) -> float | None:
    """Returns the free memory of a GPU as its driver tells it, None where nvidia-smi is not there (Jetson).

    Args:
        index: Paddle's number, which counts the devices that CUDA_VISIBLE_DEVICES lets through.
        environment: Of the process.
        ask: Runs a command and returns what it prints; replaced in tests.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").strip()
    names = [name.strip() for name in visible.split(",")] if visible else []
    device = names[index] if index < len(names) else str(index)
    command = ["nvidia-smi", "-i", device, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        return float((ask or _ask)(command).split()[0])  # MiB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _ask(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
