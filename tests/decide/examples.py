"""The shipped examples, changed where a test wants it, and measurements that look like a comparison's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from paddle_tk.decide.requirements import Requirements, read_requirements
from paddle_tk.evidence import Evidence, Figure, NotMeasured, Option
from paddle_tk.types import Measurement

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "decide"
EXAMPLE, PUBLISHED = CONFIGS / "example", CONFIGS / "published"
SAID = {"model": "resnet18", "dataset": "digits", "input_size": [16, 16], "cpu": "Some CPU"}


def written(folder: Path, source: Path = EXAMPLE, **changes: Any) -> tuple[Path, Path]:
    """Writes an example with keys changed: create__team__name="x" or planning__options=[...]; ... deletes."""
    paths = []
    for name in ("CREATE.md", "PLANNING.md"):
        _, head, prose = (source / name).read_text(encoding="utf-8").split("---\n", 2)
        values = yaml.safe_load(head)
        for key, value in changes.items():
            file, *parts = key.split("__")
            if f"{file.upper()}.md" == name:
                _put(values, parts, value)
        path = folder / name
        path.write_text(f"---\n{yaml.safe_dump(values, allow_unicode=True)}---\n{prose}", encoding="utf-8")
        paths.append(path)
    return paths[0], paths[1]


def _put(values: dict[str, Any], parts: list[str], value: Any) -> None:
    *above, last = parts
    for part in above:
        values = values.setdefault(part, {})
    if value is ...:
        del values[last]
    else:
        values[last] = value


def example(folder: Path, source: Path = EXAMPLE, **changes: Any) -> Requirements:
    return read_requirements(*written(folder, source, **changes))


def evidence(
    changes: Mapping[str, float] | None = None, *, said: Mapping[str, Any] = SAID, platform: str = "Linux-6-x86_64"
) -> Evidence:
    """Returns measurements of paddle, torch and paddle-int8; ``changes`` are values by "option.figure"."""
    values = {
        "training_throughput": (900.0, "images/s"), "time_to_target": (20.0, "s"), "final_accuracy": (0.97, "share"),
        "inference_latency": (3.0, "ms"), "inference_throughput": (500.0, "images/s"), "onnx_latency": (2.0, "ms"),
        "peak_memory_training": (700.2, "MiB"), "peak_memory_inference": (300.0, "MiB"), "import_time": (1.0, "s"),
        "cold_start": (2.0, "s"), "installed_size": (900.0, "MiB"), "onnx_export": (1.0, "0/1"),
        "onnx_parity": (1e-6, ""), "int8_available": (1.0, "0/1"), "int8_latency_ratio": (0.5, "ratio"),
        "int8_accuracy": (0.965, "share"), "recipe_lines": (30.0, "lines"),
    }  # fmt: skip
    figures = []
    for option in ("paddle", "torch", "paddle-int8"):
        for name, (value, unit) in values.items():
            found = (changes or {}).get(f"{option}.{name}", value)
            tails = {"p50_ms": found, "p95_ms": 2 * found, "p99_ms": 3 * found} if unit == "ms" else {}
            conditions = {**said, **tails, **({"metric": "top1"} if name == "final_accuracy" else {})}
            figures.append(Figure(option, Measurement(name, found, unit, 60, "measured", (found,), "cpu", conditions)))
    options = (
        Option("paddle", "PaddlePaddle 3.3.1", "paddle", "3.3.1"),
        Option("torch", "PyTorch 2.13.0", "torch", "2.13.0"),
        Option("paddle-int8", "PaddlePaddle 3.3.1 INT8", "paddle", "3.3.1", "int8"),
    )
    return Evidence(
        options, tuple(figures), (NotMeasured("paddle", "gpu_utilisation", "no GPU"),),
        environment={"platform": platform}, created="2026-11-20T10:00:00+00:00",
    )  # fmt: skip
