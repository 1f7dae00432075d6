"""build_engine.sh: how a bundle's TensorRT engine is built on the device."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

from paddle_tk.export.edge.devices import Device
from paddle_tk.export.edge.plan import Run

NAME = "build_engine.sh"
# Scratch memory the builder may use. Of the 4 GB that a Jetson Nano shares with its CPU a quarter is safe; more is
# of no use to networks of this size anywhere.
WORKSPACE_MIB = 1024
_FLAGS = {"fp32": "", "fp16": "--fp16", "int8": "--int8 --fp16"}
# trtexec of TensorRT 8.2 has --workspace=MiB; --memPoolSize came in 8.4, and 10 dropped --workspace.
_POOLS_SINCE = (8, 4)


def build_script(device: Device, runs: Sequence[Run]) -> str:
    """Returns the script for a device's TensorRT release.

    Args:
        device: One with TensorRT.
        runs: The bundle's ways to run; those with TensorRT can be built, the first of them by default.
    """
    engines = [run for run in runs if run.engine == "tensorrt"]
    assert device.tensorrt is not None
    assert engines
    pools = tuple(int(part) for part in device.tensorrt.split(".")[:2]) >= _POOLS_SINCE
    cases = "\n".join(f"  {run.precision}) {_assignments(run)} ;;" for run in engines)
    filled = {
        "TITLE": device.title,
        "TENSORRT": device.tensorrt,
        "PRECISIONS": "|".join(run.precision for run in engines),
        "DEFAULT": engines[0].precision,
        "POWER_MODE": device.recommended_power_mode,
        "WORKSPACE": str(WORKSPACE_MIB),
        "WORKSPACE_OPTION": "--memPoolSize" if pools else "--workspace",
        "WORKSPACE_FLAG": '--memPoolSize=workspace:"$workspace"' if pools else '--workspace="$workspace"',
        "CASES": cases,
    }
    text = importlib.resources.files(__package__).joinpath("templates", NAME).read_text(encoding="utf-8")
    for key, value in filled.items():
        text = text.replace(f"@{key}@", value)
    return text


def _assignments(run: Run) -> str:
    name = run.engine_file.removeprefix("engines/").removesuffix(".engine")
    return f"name={name} model={run.model} flags='{_FLAGS[run.precision]}'"
