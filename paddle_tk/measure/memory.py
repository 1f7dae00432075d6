"""What a model takes in a process of its own: cold start, first inference, peak memory, CPU time.

The process is a fresh one, so that nothing is counted that another model or a framework has left behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from paddle_tk.environment.processor import cpu_model
from paddle_tk.manifest import artifact_to_dict
from paddle_tk.measure.fresh_process import run_fresh
from paddle_tk.runtime.engines import AUTO
from paddle_tk.runtime.load import ModelSource
from paddle_tk.types import Measurement

_CHILD = "paddle_tk.measure.child"


@dataclass(frozen=True)
class ProcessFigures:
    """What a process that does nothing but predict took.

    Attributes:
        cold_start_seconds: From the process' first own instruction until the model is loaded: imports and loading.
        first_inference_ms: The first batch after that.
        peak_mib: Largest resident memory of the whole process, Python and all libraries included, in MiB.
        cpu_cores: CPU seconds per second while it predicts one batch after the other.
        cores: Cores that it may use.
        repeats: Batches behind ``cpu_cores``.
        engine: What computed.
        arithmetic: In what.
        threads: CPU threads it was given.
        batch_size: Images in a batch.
    """

    cold_start_seconds: float
    first_inference_ms: float
    peak_mib: float
    cpu_cores: float
    cores: int
    repeats: int
    engine: str
    arithmetic: str
    threads: int
    batch_size: int

    @property
    def cpu_share(self) -> float:
        """Share of the cores that was busy, 0..1."""
        return self.cpu_cores / self.cores

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {**asdict(self), "cpu_share": self.cpu_share, "origin": "measured"}

    def measurements(self) -> tuple[Measurement, ...]:
        """Returns the figures as measurements; each but the CPU share is a single observation."""
        conditions = {
            "engine": self.engine,
            "arithmetic": self.arithmetic,
            "threads": self.threads,
            "batch_size": self.batch_size,
            "cores": self.cores,
            "cpu": cpu_model(),
            "process": "fresh, whole",
        }
        rows = (
            ("cold_start", self.cold_start_seconds, "s", 1),
            ("first_inference", self.first_inference_ms, "ms", 1),
            ("peak_memory", self.peak_mib, "MiB", 1),
            ("cpu_share", self.cpu_share, "share", self.repeats),
        )
        return tuple(
            Measurement(name, value, unit, n, "measured", conditions=conditions) for name, value, unit, n in rows
        )


def measure_process(
    source: ModelSource,
    *,
    engine: str | None = None,
    threads: int = 1,
    batch_size: int = 1,
    repeats: int = 30,
    options: Mapping[str, Any] | None = None,
    timeout_seconds: float = 600.0,
) -> ProcessFigures:
    """Loads and runs a model in a fresh process.

    Args:
        source: From ``open_model``; its hashes are not checked again, so that they do not count as loading.
        engine: As in ``load_predictor``, but not "auto"; None: the format's own.
        threads: CPU threads.
        batch_size: Images in a batch of noise.
        repeats: Batches after the first.
        options: Further arguments of the engine's predictor, of JSON types.
        timeout_seconds: After which the process is ended.

    Raises:
        BadInput: The engine does not exist, is not installed or does not run the format.
        ArtifactError: The model cannot be loaded.
        CheckFailed: The process ended without an answer.
        ValueError: The engine is "auto", whose measurement would count as loading.
    """
    if engine == AUTO:
        raise ValueError("the engine must be chosen before: see choose_engine")
    job = {
        "folder": str(source.file.parent.resolve()),
        "artifact": artifact_to_dict(source.artifact),
        "engine": engine,
        "threads": threads,
        "batch_size": batch_size,
        "repeats": repeats,
        "options": dict(options or {}),
    }
    found = run_fresh(_CHILD, job, threads=threads, what=str(source.file), timeout_seconds=timeout_seconds)
    return ProcessFigures(**found)
