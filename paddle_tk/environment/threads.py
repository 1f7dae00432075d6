"""CPU threads. They must be set before Paddle is imported: its kernels read the variables while they load."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from paddle_tk.errors import BadInput

# Paddle uses one thread unless OMP_NUM_THREADS says otherwise, and MKL_NUM_THREADS overrides it for matrix
# products (a 1500 x 1500 product took 52 ms with OMP 2 / MKL 1 and 29 ms with 2 / 2). OPENBLAS_NUM_THREADS
# changed nothing.
OMP, MKL = "OMP_NUM_THREADS", "MKL_NUM_THREADS"
# Paddle's OpenMP threads spin for 200 ms after each parallel region and keep other threads off their cores: the
# compiled convolutions' and the loader's. After 1 ms they let go (a MobileNetV2 step took 134 instead of 190 ms, Paddle
# alone 426 instead of 433 ms; 0 is harmful).
BLOCKTIME = "KMP_BLOCKTIME"


def configure_threads(requested: int | Literal["auto"]) -> int:
    """Sets the number of CPU threads for this process and its children.

    Call it before Paddle is imported; after that it can only warn.

    Args:
        requested: Threads, >= 1, or "auto": ``OMP_NUM_THREADS`` where the user set it, else all available
            cores.

    Returns:
        The threads that are in effect.

    Raises:
        BadInput: ``requested`` or the user's ``OMP_NUM_THREADS`` is not a number from 1 on.
    """
    wanted = _wanted(requested)
    if "paddle" in sys.modules and (current := _from_environment(os.environ)) is not None and current != wanted:
        warnings.warn(
            f"Paddle is already loaded with {current} CPU thread(s), so {wanted} cannot be set any more: "
            f"call configure_threads before 'import paddle' or start with {OMP}={wanted}",
            stacklevel=2,
        )
        return current
    os.environ[OMP] = str(wanted)
    os.environ.setdefault(BLOCKTIME, "1")
    if requested == "auto":
        os.environ.setdefault(MKL, str(wanted))
    else:
        os.environ[MKL] = str(wanted)
    return wanted


def _wanted(requested: int | Literal["auto"]) -> int:
    if requested == "auto":
        return _from_environment(os.environ) or available_cores()
    if isinstance(requested, bool) or not isinstance(requested, int) or requested < 1:
        raise BadInput(f"cpu_threads is {requested!r}", "give 'auto' or a number from 1 on")
    return requested


def _from_environment(environment: Mapping[str, str]) -> int | None:
    """Returns the first level of ``OMP_NUM_THREADS`` ("4,2" is for nested regions), None when unset."""
    text = environment.get(OMP, "").strip()
    if not text:
        return None
    first = text.split(",")[0].strip()
    if not first.isdigit() or int(first) < 1:
        raise BadInput(f"the environment variable {OMP} is '{text}'", "set it to a number from 1 on, or unset it")
    return int(first)


def available_cores(cgroup_root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Returns the cores this process may use: its CPU affinity, and no more than its container's quota.

    Args:
        cgroup_root: Where the control groups are mounted.
        membership: The kernel's list of this process' control groups.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cores(cgroup_root, membership)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cgroup_cores(root: Path, membership: Path) -> float | None:
    """Returns the CPU quota in cores (1.5 is one and a half), None where there is none.

    Source: Linux documentation, admin-guide/cgroup-v2 ("cpu.max") and scheduler/sched-bwc
    ("cpu.cfs_quota_us").
    """
    quotas = [_quota_v2(folder / "cpu.max") for folder in _own_folders(root, membership)]
    quotas.append(_quota_v1(root / "cpu"))
    limits = [quota for quota in quotas if quota is not None]
    return min(limits) if limits else None


def _own_folders(root: Path, membership: Path) -> list[Path]:
    """Returns the version 2 group of this process and all groups above it: each may hold a quota."""
    lines = _read(membership).splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / own.strip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _quota_v2(file: Path) -> float | None:
    parts = _read(file).split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
