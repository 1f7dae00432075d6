"""Specifications, projects written from them, and their programs run as their users run them."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from paddle_tk.decide.project import DatasetSpec, ProjectSpec

FRAMEWORKS = ("paddle", "torch")
VERSIONS = {
    "venv": {"python": "3.11", "numpy": "2.3.5", "paddlepaddle": "3.3.1", "torch": "2.13.0"},
    "docker": {"python": "3.10", "numpy": "2.2.6", "cuda": "12.6", "driver": ">=550.54.14", "torch": "2.13.0"},
}


def project(framework: str = "paddle", dataset: DatasetSpec | None = None, **changes: Any) -> ProjectSpec:
    base = ProjectSpec(
        name="shelf-check",
        task="classification",
        framework=framework,  # type: ignore[arg-type]
        model="resnet18",
        dataset=dataset or DatasetSpec("digits", 10, (16, 16)),
        batch_size=32,
        epochs=3,
        learning_rate=0.05,
        versions=VERSIONS,
        initial_sha256="0123456789abcdef" * 4,
        team="Vision",
    )
    return dataclasses.replace(base, **changes)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a project's own folder, where `import paddle_tk` fails."""
    barrier = folder.parent / f"{folder.name}-barrier"
    barrier.mkdir(exist_ok=True)
    (barrier / "paddle_tk.py").write_text("raise ImportError('a project stands by itself')\n")
    # One thread: threads that wait for one another are slow where other tests compute beside them.
    environment = {**os.environ, "PYTHONPATH": str(barrier), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
