"""Is this installation fit for work? Every check says what it found and, where it failed, how to mend it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from paddle_tk.environment.devices import INSTALL_GPU, memory_bytes
from paddle_tk.environment.threads import available_cores
from paddle_tk.environment.versions import (
    SUPPORTED_PYTHON,
    Problem,
    check_versions,
    installed_versions,
    live_versions,
)
from paddle_tk.files import MIB, existing_parent

Stage = Literal["venv", "docker"]
Status = Literal["ok", "failed", "warning", "info"]
GIB = 1024 * MIB
MIN_DISK_BYTES, MIN_MEMORY_BYTES = 2 * GIB, 2 * GIB
# Distribution -> what it is imported as. Needed by every training.
REQUIRED = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "omegaconf": "omegaconf",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "rich": "rich",
    "packaging": "packaging",
    "visualdl": "visualdl",
}
OPTIONAL = {
    "paddle2onnx": "ONNX export",
    "onnx": "ONNX export",
    "onnxruntime": "ONNX inference",
    "openvino": "OpenVINO inference",
    "paddleslim": "quantization",
    "paddledet": "detection",
    "torch": "comparison",
    "tensorboardx": "the TensorBoard logger",
    "wandb": "the W&B logger",
}
_PROBE = """
import json, sys
import numpy as np
import paddle
a = np.arange(4096, dtype="float32").reshape(64, 64) % 7
error = float(abs(paddle.matmul(paddle.to_tensor(a), paddle.to_tensor(a)).numpy() - a @ a).max())
cuda = bool(paddle.device.is_compiled_with_cuda())
count = paddle.device.cuda.device_count() if cuda else 0
found = {"version": paddle.__version__, "cuda": str(paddle.version.cuda()) if cuda else None, "error": error,
         "gpus": [str(paddle.device.cuda.get_device_properties(i).name) for i in range(count)]}
print("PROBE" + json.dumps(found))
"""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        status: "failed" makes the doctor say no, "warning" and "info" do not.
        found: What was found.
        fix: How to mend it; empty where nothing is wrong.
    """

    name: str
    status: Status
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Returns plain JSON types."""
        return asdict(self)


def examine(stage: Stage, folder: Path) -> list[Check]:
    """Runs every check.

    Args:
        stage: "venv": a virtual environment on any machine; "docker": the GPU image, where a GPU is required.
        folder: Where runs would be written.
    """
    probe = probe_paddle()
    versions = live_versions(probe.get("cuda"))
    return [
        check_python(versions),
        check_virtual_environment(stage),
        check_paddle(probe),
        *check_imports(REQUIRED),
        *check_combinations(check_versions(versions)),
        check_optional(versions),
        check_threads(),
        check_memory(memory_bytes()),
        check_disk(folder),
        check_writing(folder),
        check_gpu(probe, stage),
        check_driver(versions),
        check_browser(),
    ]


def check_python(versions: Mapping[str, str]) -> Check:
    """Checks the interpreter's version."""
    found = versions["python"]
    minor = tuple(int(part) for part in found.split(".")[:2])
    if (3, 10) <= minor < (3, 13):
        return Check("python", "ok", found)
    return Check("python", "failed", f"{found}, needs {SUPPORTED_PYTHON}", "run 'make setup' with Python 3.11 or 3.12")


def check_virtual_environment(stage: Stage) -> Check:
    """Checks that packages do not land in the system's Python; inside an image that is of no matter."""
    if sys.prefix != sys.base_prefix:
        return Check("virtual environment", "ok", "active")
    if stage == "docker":
        return Check("virtual environment", "info", "none, not needed in an image")
    return Check(
        "virtual environment",
        "failed",
        "none: this is the system's Python",
        "run 'make setup', then use .venv/bin/python",
    )


def probe_paddle(python: str = sys.executable, timeout_seconds: float = 120.0) -> dict[str, Any]:
    """Imports Paddle and multiplies two 64 x 64 matrices, in another process: a crash is a finding only.

    Returns:
        ``version``, ``cuda`` (what it was built for, or None), ``error`` (largest deviation from NumPy),
        ``gpus`` (names); or only ``failure``, the reason it did not work.
    """
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"no answer within {timeout_seconds:.0f} s"}
    for line in done.stdout.splitlines():
        if line.startswith("PROBE"):
            found: dict[str, Any] = json.loads(line.removeprefix("PROBE"))
            return found
    if done.returncode < 0:
        return {"failure": f"the process was ended by signal {-done.returncode}"}
    return {"failure": (done.stderr.strip().splitlines() or ["no output"])[-1]}


def check_paddle(probe: Mapping[str, Any]) -> Check:
    """Checks that Paddle loads and computes."""
    if "failure" in probe:
        return Check("paddle", "failed", str(probe["failure"]), "pip install -r requirements.txt")
    if probe["error"] != 0.0:  # small whole numbers: every product and sum is exact in float32
        return Check("paddle", "failed", f"a matrix product is wrong by {probe['error']}", "reinstall paddlepaddle")
    build = f"CUDA {probe['cuda']}" if probe["cuda"] else "CPU build"
    return Check("paddle", "ok", f"{probe['version']}, {build}, multiplies correctly")


def check_imports(required: Mapping[str, str]) -> list[Check]:
    """Imports what every training needs.

    Args:
        required: Module by distribution name.
    """
    return [_check_import(name, module) for name, module in required.items()]


def _check_import(name: str, module: str) -> Check:
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken package may raise anything while it is imported
        return Check(
            name,
            "failed",
            f"cannot be imported: {type(error).__name__}: {error}",
            "pip install -r requirements.txt",
        )
    return Check(name, "ok", installed_versions().get(name, "of unknown version"))


def check_combinations(problems: list[Problem]) -> list[Check]:
    """Turns the known bad combinations of versions into findings."""
    if not problems:
        return [Check("versions", "ok", "no combination that is known not to work")]
    return [
        Check("versions", "failed", f"{p.package} {p.found}: needs {p.allowed}, {p.why} ({p.source})", p.fix)
        for p in problems
    ]


def check_optional(versions: Mapping[str, str]) -> Check:
    """Names what is not installed and what it would be for."""
    missing = [f"{name} ({purpose})" for name, purpose in OPTIONAL.items() if name not in versions]
    return Check("optional packages", "info", f"not installed: {', '.join(missing)}" if missing else "all installed")


def check_threads() -> Check:
    """Compares the threads Paddle will use with the cores there are."""
    cores, threads = available_cores(), os.environ.get("OMP_NUM_THREADS", "")
    found = f"{threads or 'OMP_NUM_THREADS unset'}, {cores} core(s) available"
    if threads.isdigit() and int(threads) > cores:
        return Check("threads", "warning", found, f"unset OMP_NUM_THREADS or set it to {cores} at most")
    if threads.isdigit() and int(threads) < cores:
        return Check("threads", "warning", found, "unset OMP_NUM_THREADS to let training use all cores")
    return Check("threads", "ok", found)


def check_memory(total_bytes: int) -> Check:
    """Checks the RAM this process may use."""
    found = f"{total_bytes / GIB:.1f} GiB"
    if total_bytes >= MIN_MEMORY_BYTES:
        return Check("memory", "ok", found)
    return Check(
        "memory",
        "failed",
        f"{found}, needs {MIN_MEMORY_BYTES / GIB:.0f} GiB",
        "raise the container's memory limit or use another machine",
    )


def check_disk(folder: Path, needed_bytes: int = MIN_DISK_BYTES) -> Check:
    """Checks the free space where runs are written."""
    free = shutil.disk_usage(existing_parent(folder)).free
    found = f"{free / GIB:.1f} GiB free"
    if free >= needed_bytes:
        return Check("disk", "ok", found)
    return Check(
        "disk",
        "failed",
        f"{found} at {folder}, needs {needed_bytes / GIB:.0f} GiB",
        "free some space or write runs elsewhere with --run-dir",
    )


def check_writing(folder: Path) -> Check:
    """Checks that runs can be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=existing_parent(folder)):
            pass
    except OSError as error:
        return Check(
            "writing",
            "failed",
            f"{folder} cannot be written: {error.strerror}",
            "change the folder's owner or write runs elsewhere with --run-dir",
        )
    return Check("writing", "ok", f"{folder} can be written")


def check_gpu(probe: Mapping[str, Any], stage: Stage) -> Check:
    """Checks the GPU: required in the GPU image, only told elsewhere."""
    gpus = list(probe.get("gpus", []))
    if gpus:
        return Check("gpu", "ok", ", ".join(gpus))
    if stage == "venv":
        return Check("gpu", "info", "none; training uses the CPU")
    if probe.get("cuda"):
        return Check("gpu", "failed", "Paddle sees none", "start the container with --gpus all, check nvidia-smi")
    return Check("gpu", "failed", "the installed Paddle is the CPU wheel", INSTALL_GPU)


def check_driver(versions: Mapping[str, str]) -> Check:
    """Tells the NVIDIA driver and what the frameworks were built for; whether they fit is a matter of the versions."""
    builds = {"cuda": "Paddle", "torch-cuda": "torch"}
    built = [f"{framework} for CUDA {versions[key]}" for key, framework in builds.items() if key in versions]
    driver = f"NVIDIA {versions['driver']}" if "driver" in versions else "no NVIDIA driver"
    return Check("driver", "info", ", ".join([driver, *built]))


def check_browser() -> Check:
    """Tells whether the browser test can run; a browser is needed for nothing else."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name) and shutil.which("chromedriver"):
            return Check("browser", "info", f"{name} with chromedriver")
    return Check("browser", "info", "no chromium with chromedriver: the browser test is skipped")
