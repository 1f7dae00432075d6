"""Bundles made once per test session, and the runner as a device would start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from paddle_tk.export.edge.devices import load_device
from paddle_tk.pipelines.edge_bundle import build_bundle
from paddle_tk.runtime.load import open_model
from tests.export.edge.int8 import write_int8

BLOCKED = ("paddle", "paddle_tk", "onnx", "torch", "matplotlib", "PIL", "yaml", "openvino")


@lru_cache(maxsize=1)
def make_bundles(base: Path, models: Path, detectors: Path) -> Path:
    """Makes ``x86`` (FP32 and INT8), ``nano``, ``batch2`` and ``boxes`` (a detector) below ``base``."""
    int8 = open_model(write_int8(models / "onnx", base / "int8", variant="x86"))
    run, file = open_model(models / "run"), open_model(models / "onnx")
    for name, source, device, settings in (
        ("x86", file, "x86-cpu", {"quantization": "int8", "make_int8": lambda folder: int8}),
        ("nano", run, "jetson-nano", {}),
        ("batch2", open_model(models / "onnx-dynamic"), "x86-cpu", {"quantization": "fp32", "batch_size": 2}),
        ("boxes", open_model(detectors / "picodet_xs-onnx"), "raspberry-pi-5", {"quantization": "fp32"}),
    ):
        (base / name).mkdir()
        build_bundle(source, base / name, device=load_device(device), samples=4, **settings)
    return base


def blocked_path(folder: Path) -> Path:
    """Returns a folder of modules that cannot be imported: what a device does not have."""
    folder.mkdir(exist_ok=True)
    for name in BLOCKED:
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} is not on the device')\n")
    return folder


def run(bundle: Path, *arguments: str, block: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``bundle/runner.py`` in a process that cannot import Paddle or the toolkit."""
    return subprocess.run(
        [sys.executable, str(bundle / "runner.py"), *arguments],
        cwd=block, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(blocked_path(block)), **environment},
    )  # fmt: skip


def copy(bundle: Path, to: Path) -> Path:
    """Returns a copy that a test may change."""
    return Path(shutil.copytree(bundle, to))
