"""What the workers of both frameworks share once their framework is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paddle_tk.compare.backend import Backend
from paddle_tk.compare.inputs import Plan, open_inputs
from paddle_tk.compare.phases import Phases


def run_job(
    make: Callable[[Plan], Backend], job: Mapping[str, Any], *, began: float, import_seconds: float
) -> dict[str, Any]:
    """Runs a job's phases.

    Args:
        make: Builds the framework's backend for a plan.
        job: See ``phases.JOB_KEYS``.
        began: When the process began, by ``time.perf_counter``.
        import_seconds: What importing the framework took.

    Returns:
        "framework", "version", "device", "threads", "import_seconds", "trainer_import_seconds" (of the high-level
        trainer, None where no phase needed it), "inputs_sha256", and the figures of each phase under its name.
    """
    inputs = open_inputs(Path(job["inputs"]))
    backend = make(inputs.plan)
    found = Phases(backend, inputs, job, began).run()
    return {
        "framework": backend.framework,
        "version": backend.version,
        "device": backend.device,
        "threads": job["threads"],
        "import_seconds": import_seconds,
        "trainer_import_seconds": backend.trainer_import_seconds,
        "inputs_sha256": inputs.sha256,
        **found,
    }
