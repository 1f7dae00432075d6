"""The process that one candidate is timed in: reads a job from the standard input, writes one line with figures.

It runs nothing but the model, confined to the candidate's processors, so its figures are those of a deployed process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paddle_tk.environment.threads import available_cores
from paddle_tk.manifest import artifact_from_dict
from paddle_tk.measure.fresh_process import answer, peak_mib
from paddle_tk.measure.throughput import measure_throughput
from paddle_tk.runtime.asynchronous import run_stream
from paddle_tk.runtime.base import Array, Predictor, noise_batch
from paddle_tk.runtime.engines import PADDLE
from paddle_tk.runtime.load import ModelSource, load_predictor
from paddle_tk.runtime.timing import sample_ms

_PROBES = 3  # batches that tell how many fit into the time of a round


def _measured(job: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the job's model and times it.

    Args:
        job: "folder" and "artifact" of the model; "engine", "threads", "options", "affinity", "batch_size" and
            "in_flight" of the candidate; "warmup", "least", "most" (timed batches) and "seconds" (of the timed part);
            "streams": batches in flight that the rate is also measured with.

    Returns:
        "samples_ms" of each batch, "images_per_second", "cpu_cores" (CPU seconds per second), "cores", "peak_mib",
        "engine", "arithmetic", "device"; "rates": samples of the rate by batches in flight.
    """
    affinity = set(job["affinity"])
    cores = available_cores()
    if affinity:
        os.sched_setaffinity(0, affinity)  # before any library starts threads, which inherit it
    predictor = _load(job)
    if len(affinity) > 1 and "affinity" in job["options"]:
        os.sched_setaffinity(0, {job["affinity"][0]})  # the calling thread; ONNX Runtime has pinned its own
    batch = noise_batch(predictor.artifact, job["batch_size"])
    repeats = _repeats(predictor, batch, job)
    began, used = time.perf_counter(), time.process_time()
    samples = _samples(predictor, batch, job["in_flight"], repeats)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {
        "samples_ms": samples,
        "images_per_second": len(samples) * len(batch) / max(seconds, 1e-9),
        "cpu_cores": used / max(seconds, 1e-9),
        "cores": cores,
        "peak_mib": peak_mib(),
        "engine": predictor.engine,
        "arithmetic": predictor.arithmetic,
        "device": predictor.device,
        "rates": {str(count): list(_rate(predictor, batch, count)) for count in job["streams"]},
    }


def _load(job: Mapping[str, Any]) -> Predictor:
    artifact = artifact_from_dict(job["artifact"])
    if artifact.format == PADDLE:
        from paddle_tk.environment.start import start_paddle

        start_paddle(job["threads"])
    source = ModelSource(artifact, Path(job["folder"]) / artifact.path, config=None)
    return load_predictor(source, threads=job["threads"], engine=job["engine"], options=job["options"])


def _repeats(predictor: Predictor, batch: Array, job: Mapping[str, Any]) -> int:
    """Warms the predictor up; returns how many batches fill the time."""
    sample_ms(lambda: predictor.predict(batch), repeats=1, warmup=job["warmup"])
    once = min(sample_ms(lambda: predictor.predict(batch), repeats=_PROBES, warmup=0))
    wanted = int(1e3 * job["seconds"] / max(once, 1e-3))
    return int(max(job["least"], min(job["most"], wanted)))


def _samples(predictor: Predictor, batch: Array, in_flight: int, repeats: int) -> list[float]:
    if in_flight == 1:
        return sample_ms(lambda: predictor.predict(batch), repeats=repeats, warmup=0)
    taken: list[float] = []

    def given() -> Iterator[Array]:
        for _ in range(repeats):
            taken.append(time.perf_counter())
            yield batch

    found = run_stream(predictor, given(), in_flight=in_flight)
    return [1e3 * (time.perf_counter() - taken[number]) for number, _ in enumerate(found)]


def _rate(predictor: Predictor, batch: Array, in_flight: int) -> tuple[float, ...]:
    return measure_throughput(predictor, batch, in_flight=in_flight).samples


if __name__ == "__main__":
    sys.exit(answer(_measured))
