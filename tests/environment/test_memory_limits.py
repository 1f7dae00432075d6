from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from paddle_tk.environment.memory_limits import (
    gpu_free_mb,
    host_limits,
    paddle_library_mb,
    process_memory,
    require_room_for_paddle,
)
from paddle_tk.errors import BadInput
from paddle_tk.files import MIB

STATUS = "Name:\tpython\nVmPeak:\t 4096 kB\nVmSize:\t 3072 kB\nVmHWM:\t 2048 kB\nVmRSS:\t 1024 kB\nVmData:\t 512 kB\n"
MEMINFO = "MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\n"


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """A kernel of its own: 1 MB resident, 8,192 MB available, no control group."""
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    cgroup.mkdir()
    (proc / "self" / "status").write_text(STATUS)
    (proc / "meminfo").write_text(MEMINFO)
    return proc, cgroup


def _group(folder: Path, limit: str, usage: int, stat: str = "", *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(stat)


def _resident(machine: tuple[Path, Path], processes: int = 1) -> dict[str, float]:
    limits = host_limits(processes, proc=machine[0], cgroup=machine[1])
    return {limit.name: limit.total_mb for limit in limits if limit.counts == "resident"}


def test_process_memory_is_what_the_kernel_says(machine: tuple[Path, Path]) -> None:
    found = process_memory(machine[0])
    assert found == {"resident": 1, "mapped": 3, "data": 0.5, "resident_peak": 2, "mapped_peak": 4}


def test_process_memory_of_this_process_is_plausible() -> None:
    found = process_memory()
    assert 10 < found["resident"] <= found["resident_peak"] <= found["mapped_peak"]


def test_free_ram_is_shared_by_the_processes_of_a_job(machine: tuple[Path, Path]) -> None:
    assert _resident(machine) == {"free RAM": 8193}
    assert _resident(machine, 4) == {"free RAM": 2049}


@pytest.mark.parametrize(
    ("version", "line", "place"),
    [(2, "0::/job/one", "job/one"), (1, "5:memory:/job", "memory/job"), (2, "0::/not/mounted", ".")],
)
def test_a_control_groups_limit_counts_with_file_pages_as_free(
    machine: tuple[Path, Path], version: int, line: str, place: str
) -> None:
    proc, cgroup = machine
    (proc / "self" / "cgroup").write_text(f"{line}\n3:cpu:/elsewhere\n")
    key = "inactive_file" if version == 2 else "total_inactive_file"
    _group(cgroup / place, str(1000 * MIB), 700 * MIB, f"anon 5\n{key} {100 * MIB}\n", version=version)
    assert _resident(machine)["the container's or control group's limit"] == 401


def test_the_tightest_group_above_counts(machine: tuple[Path, Path]) -> None:
    proc, cgroup = machine
    (proc / "self" / "cgroup").write_text("0::/outer/inner\n")
    _group(cgroup / "outer" / "inner", "max", 0)
    _group(cgroup / "outer", str(500 * MIB), 300 * MIB)
    assert _resident(machine)["the container's or control group's limit"] == 201


def test_a_full_group_leaves_nothing_rather_than_less(machine: tuple[Path, Path]) -> None:
    proc, cgroup = machine
    (proc / "self" / "cgroup").write_text("0::/job\n")
    _group(cgroup / "job", str(100 * MIB), 300 * MIB)
    assert _resident(machine)["the container's or control group's limit"] == 1


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_a_group_without_limit_does_not_count(machine: tuple[Path, Path], limit: str) -> None:
    proc, cgroup = machine
    (proc / "self" / "cgroup").write_text("0::/job\n")
    _group(cgroup / "job", limit, 300 * MIB)
    assert set(_resident(machine)) == {"free RAM"}


def test_ulimits_are_each_processes_own(machine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = {resource.RLIMIT_AS: 4096 * MIB, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (set_to[kind], resource.RLIM_INFINITY))
    found = {limit.counts: limit for limit in host_limits(8, proc=machine[0], cgroup=machine[1])}
    assert found["mapped"].total_mb == 4096
    assert "data" not in found


def test_room_for_paddle_is_refused_when_the_address_space_is_too_small() -> None:
    require_room_for_paddle(resource.RLIM_INFINITY)
    require_room_for_paddle(int(paddle_library_mb() * 2 * MIB))
    with pytest.raises(BadInput, match="ulimit -v"):
        require_room_for_paddle(int(paddle_library_mb() * MIB))


def test_free_gpu_memory_is_asked_of_the_visible_device() -> None:
    asked: list[list[str]] = []

    def answer(command: list[str]) -> str:
        asked.append(command)
        return "7936\n"

    assert gpu_free_mb(1, environment={"CUDA_VISIBLE_DEVICES": "3, 5"}, ask=answer) == 7936
    assert gpu_free_mb(2, environment={}, ask=answer) == 7936
    assert [command[2] for command in asked] == ["5", "2"]


@pytest.mark.parametrize("failure", [FileNotFoundError("nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 20)])
def test_free_gpu_memory_is_unknown_when_the_driver_does_not_tell(failure: Exception) -> None:
    def fail(command: list[str]) -> str:
        raise failure

    assert gpu_free_mb(0, environment={}, ask=fail) is None
    assert gpu_free_mb(0, environment={}, ask=lambda command: "[N/A]") is None
    assert gpu_free_mb(0, environment={}, ask=lambda command: "") is None
