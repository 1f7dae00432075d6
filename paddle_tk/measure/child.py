"""The process that ``measure_process`` starts: reads a job from the standard input, writes one line with figures."""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()  # before anything else is imported: the imports are part of a cold start

import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from paddle_tk.environment.threads import available_cores  # noqa: E402
from paddle_tk.manifest import artifact_from_dict  # noqa: E402
from paddle_tk.measure.fresh_process import answer, peak_mib  # noqa: E402
from paddle_tk.runtime.base import noise_batch  # noqa: E402
from paddle_tk.runtime.engines import PADDLE  # noqa: E402
from paddle_tk.runtime.load import ModelSource, load_predictor  # noqa: E402


def _measured(job: Mapping[str, Any]) -> dict[str, Any]:
    artifact = artifact_from_dict(job["artifact"])
    if artifact.format == PADDLE:
        from paddle_tk.environment.start import start_paddle

        start_paddle(job["threads"])
    source = ModelSource(artifact, Path(job["folder"]) / artifact.path, config=None)
    predictor = load_predictor(source, threads=job["threads"], engine=job["engine"], options=job["options"])
    loaded = time.perf_counter()
    batch = noise_batch(artifact, job["batch_size"])
    began = time.perf_counter()
    predictor.predict(batch)
    first = time.perf_counter() - began
    began, used = time.perf_counter(), time.process_time()
    for _ in range(job["repeats"]):
        predictor.predict(batch)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {
        "cold_start_seconds": loaded - _BEGAN,
        "first_inference_ms": 1e3 * first,
        "peak_mib": peak_mib(),
        "cpu_cores": used / max(seconds, 1e-9),
        "cores": available_cores(),
        "repeats": job["repeats"],
        "engine": predictor.engine,
        "arithmetic": predictor.arithmetic,
        "threads": job["threads"],
        "batch_size": job["batch_size"],
    }


if __name__ == "__main__":
    sys.exit(answer(_measured))
