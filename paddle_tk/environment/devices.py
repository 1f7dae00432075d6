"""Which device a job runs on, and what the machine has. Paddle is imported only where it is asked."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from paddle_tk.environment.processor import cpu_model
from paddle_tk.environment.ranks import GPUS, Rank
from paddle_tk.environment.threads import available_cores
from paddle_tk.errors import BadInput

GPU_WHEELS = "https://www.paddlepaddle.org.cn/packages/stable/cu126/"
INSTALL_GPU = (
    f"install the GPU wheel, which is not on the public Python index: pip uninstall -y paddlepaddle && "
    f"pip install paddlepaddle-gpu -i {GPU_WHEELS} (one such index per CUDA version), or use accelerator=cpu"
)

# Private memory of a process that has only imported Paddle 3.3.1 (CPU): 132,288 KiB, measured 2026-11-29, n = 1.
_PROCESS_BYTES = 132_288 * 1024


def resolve_device(accelerator: str, devices: int | str) -> str:
    """Returns Paddle's device string ("cpu", "gpu:0") for what was asked. Imports Paddle: set threads first.

    Args:
        accelerator: "auto", "cpu" or "gpu".
        devices: "auto", "cpu", "gpu:1", or 1 for one process.

    Raises:
        BadInput: A contradiction, more than one process, a GPU this build or this machine does not have.
    """
    if accelerator == "cpu" or devices == "cpu":
        return choose_device(accelerator, devices, compiled_with_cuda=False, gpus=0)
    return choose_device(accelerator, devices, compiled_with_cuda=_compiled_with_cuda(), gpus=device_count())


def resolve_rank_device(accelerator: str, devices: int | str, rank: Rank) -> str:
    """Returns the device of one process of a job, each with one of its own. Imports Paddle: set threads first.

    Args:
        accelerator: "auto", "cpu" or "gpu".
        devices: "auto", "cpu" or the number of processes.
        rank: Its place in the job; ``FLAGS_selected_gpus``, which Paddle's launcher sets, says which GPU is its own.

    Raises:
        BadInput: One device for several processes, another number of them, or a GPU that is not there.
    """
    count = process_count(devices)
    if count not in (1, rank.world) or str(devices).startswith("gpu:"):
        raise BadInput(
            f"trainer.devices={devices}, but the job has {rank.world} processes",
            f"leave trainer.devices out, or set it to {rank.world}",
        )
    if accelerator == "cpu" or devices == "cpu":
        return choose_device(accelerator, "cpu", compiled_with_cuda=False, gpus=0)
    gpus = device_count()
    if accelerator == "auto" and gpus == 0:
        return "cpu"
    own = os.environ.get(GPUS, "").split(",")[0]
    return _checked_gpu(int(own) if own.isdigit() else rank.local_rank, _compiled_with_cuda(), gpus)


def process_count(devices: int | str) -> int:
    """Returns how many processes ``trainer.devices`` asks for: 1 where it names a device."""
    text = str(devices)
    return int(text) if text.isdigit() else 1


def require_room(processes: int, memory: int) -> None:
    """Refuses more processes than the memory has room for, before the first is started.

    Args:
        processes: Of one job on this machine.
        memory: RAM in bytes.

    Raises:
        BadInput: They do not fit, even before they load anything.
    """
    most = memory // _PROCESS_BYTES
    if processes > max(1, most):
        need = processes * _PROCESS_BYTES
        raise BadInput(
            f"trainer.devices={processes}: so many processes take at least {need / 1e9:,.1f} GB of memory before they "
            f"load anything, and there are {memory / 1e9:,.1f} GB",
            f"use at most {most}; one process for each GPU, or for each few CPU cores, is what helps",
        )


def choose_device(accelerator: str, devices: int | str, *, compiled_with_cuda: bool, gpus: int) -> str:
    """Decides as ``resolve_device`` does, from facts given instead of found.

    Args:
        compiled_with_cuda: Whether the installed Paddle was built for GPUs.
        gpus: GPUs it can see.
    """
    index = _gpu_index(devices)
    if accelerator not in ("auto", "cpu", "gpu"):
        raise BadInput(f"accelerator is '{accelerator}'", "use auto, cpu or gpu")
    if accelerator == "cpu" and index is not None:
        raise BadInput(f"accelerator=cpu contradicts devices={devices}", "give only one of them, or make them agree")
    if accelerator == "gpu" and devices == "cpu":
        raise BadInput("accelerator=gpu contradicts devices=cpu", "give only one of them, or make them agree")
    if accelerator == "cpu" or devices == "cpu":
        return "cpu"
    if accelerator == "auto" and index is None:
        return "gpu:0" if compiled_with_cuda and gpus > 0 else "cpu"
    return _checked_gpu(index or 0, compiled_with_cuda, gpus)


def _gpu_index(devices: int | str) -> int | None:
    """Returns the GPU's number in "gpu:1", None for "auto", "cpu" and a process count of 1."""
    text = str(devices)
    if text in ("auto", "cpu", "1") and not isinstance(devices, bool):
        return None
    if text.startswith("gpu:") and text[4:].isdigit():
        return int(text[4:])
    if text.isdigit() and int(text) > 1:
        raise BadInput(
            f"devices={text}: several processes are for tools/train.py only",
            "leave devices out, or name one device such as devices=gpu:0",
        )
    raise BadInput(f"devices is {devices!r}", "use auto, cpu, a device such as gpu:0, or 1")


def _checked_gpu(index: int, compiled_with_cuda: bool, gpus: int) -> str:
    if not compiled_with_cuda:
        raise BadInput(f"gpu:{index} was asked for, but the installed Paddle is the CPU wheel", INSTALL_GPU)
    if gpus == 0:
        raise BadInput(
            f"gpu:{index} was asked for, but Paddle sees no GPU",
            "check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus all; or use accelerator=cpu",
        )
    if index >= gpus:
        known = ", ".join(f"gpu:{number}" for number in range(gpus))
        raise BadInput(f"gpu:{index} was asked for, but Paddle sees {gpus} GPU(s)", f"use one of {known}")
    return f"gpu:{index}"


def _compiled_with_cuda() -> bool:
    if importlib.util.find_spec("paddle") is None:
        return False
    import paddle

    return bool(paddle.device.is_compiled_with_cuda())


def device_count() -> int:
    """Returns how many GPUs Paddle can use; 0 with the CPU wheel. Imports Paddle: set threads first."""
    if not _compiled_with_cuda():
        return 0
    import paddle

    return int(paddle.device.cuda.device_count())


def hardware() -> dict[str, Any]:
    """Returns what this process can use, as JSON types. Imports Paddle: set threads first.

    Returns:
        ``cpu`` (model name), ``cores`` (usable ones), ``memory_bytes`` (usable RAM), ``gpus`` (``name``,
        ``memory_bytes`` of each).
    """
    return {"cpu": cpu_model(), "cores": available_cores(), "memory_bytes": memory_bytes(), "gpus": _gpus()}


def memory_bytes(
    limits: tuple[Path, ...] = (
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ),
) -> int:
    """Returns the RAM in bytes, or the container's limit where that is lower.

    Args:
        limits: Files that may hold a control group's limit (version 2, version 1).
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limits:
        try:
            text = file.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def _gpus() -> list[dict[str, Any]]:
    found = []
    for index in range(device_count()):
        import paddle

        properties = paddle.device.cuda.get_device_properties(index)
        found.append({"name": str(properties.name), "memory_bytes": int(properties.total_memory)})
    return found
