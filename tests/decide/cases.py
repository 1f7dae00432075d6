"""Options, evidence and scores that the tests of the matrix share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paddle_tk.evidence import Comparison, Evidence, Figure, NotMeasured, Option
from paddle_tk.types import Measurement, Score

WEIGHTS = {"team_familiarity": 0.30, "deployment_ease": 0.25, "performance": 0.25, "community": 0.20}
PUBLISHED = {
    "torch": dict(zip(WEIGHTS, (4.0, 3.5, 4.0, 5.0), strict=True)),
    "paddle": dict(zip(WEIGHTS, (3.0, 4.2, 4.0, 3.5), strict=True)),
}
PADDLE = Option("paddle", "PaddlePaddle", "paddle", "3.3.1")
TORCH = Option("torch", "PyTorch", "torch", "2.13.0")
PADDLE_INT8 = Option("paddle-int8", "PaddlePaddle INT8", "paddle", "3.3.1", "int8")

# By figure: unit, then paddle, torch, paddle-int8.
MEASURED: dict[str, tuple[str, tuple[float, float, float]]] = {
    "training_throughput": ("images/s", (150, 300, 150)),
    "time_to_target": ("s", (20, 10, 20)),
    "final_accuracy": ("share", (0.975, 0.970, 0.965)),
    "inference_latency": ("ms", (8, 4, 2)),
    "inference_throughput": ("images/s", (200, 400, 800)),
    "onnx_latency": ("ms", (4, 8, 2)),
    "peak_memory_training": ("MiB", (800, 400, 800)),
    "peak_memory_inference": ("MiB", (200, 400, 100)),
    "onnx_export": ("", (1, 1, 1)),
    "onnx_parity": ("", (1e-5, 8e-6, 1e-5)),
    "int8_available": ("", (1, 0, 1)),
    "int8_latency_ratio": ("ratio", (0.5, 0.5, 0.5)),
    "int8_accuracy": ("share", (0.965, 0.965, 0.965)),
    "installed_size": ("MiB", (800, 400, 800)),
    "cold_start": ("s", (4, 2, 1)),
    "import_time": ("s", (2, 2, 1)),
    "recipe_lines": ("lines", (40, 40, 80)),
}


def evidence(
    *,
    change: Mapping[tuple[str, str], float] | None = None,
    without: Sequence[tuple[str, str]] = (),
    reason: str = "no time",
    same: Sequence[tuple[str, str, str]] = (),
    options: Sequence[Option] = (PADDLE, TORCH, PADDLE_INT8),
) -> Evidence:
    """Returns what was measured, with figures changed or left out, and pairs that show no difference."""
    change = change or {}
    order = (PADDLE.name, TORCH.name, PADDLE_INT8.name)
    figures = [
        Figure(o.name, Measurement(name, change.get((o.name, name), values[order.index(o.name)]), unit, 5, "measured"))
        for name, (unit, values) in MEASURED.items()
        for o in options
        if (o.name, name) not in without
    ]
    return Evidence(
        tuple(options),
        tuple(figures),
        not_measured=tuple(NotMeasured(o, n, reason) for o, n in without),
        comparisons=tuple(Comparison(n, a, b, 1.0, 0.99, 1.01, 0.95, 5, "no difference") for n, a, b in same),
    )


def known(option: str, criterion: str, value: float) -> Score:
    return Score(option, criterion, value, value, value, f"{value}")


def open_score(option: str, criterion: str, low: float = 0.0, high: float = 5.0) -> Score:
    return Score(option, criterion, None, low, high, "?", (), (f"{criterion} (not asked)",))


def all_known(table: Mapping[str, Mapping[str, float]]) -> list[Score]:
    return [known(o, c, v) for o, row in table.items() for c, v in row.items()]


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(n, n) for n in names]
