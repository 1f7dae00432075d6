"""The process that Paddle is measured in: reads a job from the standard input, writes one line with figures."""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()  # before anything else is imported: the imports are part of a cold start

import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from typing import Any  # noqa: E402

from paddle_tk.environment.start import start_paddle  # noqa: E402
from paddle_tk.measure.fresh_process import answer  # noqa: E402


def _measured(job: Mapping[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    start_paddle(job["threads"])
    import_seconds = time.perf_counter() - began
    from paddle_tk.compare.paddle_backend import PaddleBackend
    from paddle_tk.compare.worker import run_job

    device = job.get("device", "cpu")
    return run_job(lambda plan: PaddleBackend(plan, device), job, began=_BEGAN, import_seconds=import_seconds)


if __name__ == "__main__":
    sys.exit(answer(_measured))
