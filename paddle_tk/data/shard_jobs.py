"""Runs one function over many jobs, all shards of a dataset: in this process, in several, or on Ray Data."""

from __future__ import annotations

import importlib.util
import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from paddle_tk.errors import BadInput, DataError, PaddleTkError

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")
Job = Mapping[str, Any]
Work = Callable[[Job], dict[str, Any]]
# What a shard's record takes is little: images are read and written within a job and never pass through the store.
_OBJECT_STORE_BYTES = 256 * 2**20
_work: list[Work] = []  # of a worker process, set once when it starts


def run_jobs(
    work: Work, jobs: Sequence[Job], *, engine: Engine, workers: int, advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Returns what ``work`` makes of each job, in the order of the jobs.

    Args:
        work: Takes a job and returns a record of plain JSON types; it can be pickled.
        jobs: Each with its number of images under "rows". A value that can be called is, when the job is handed out,
            and what it returns takes its place: so each process is sent its own part of a large whole.
        engine: "local": this process, or as many as ``workers`` says. "ray": a Ray cluster, the one that RAY_ADDRESS
            names, or one started on this machine and ended afterwards.
        workers: Processes at most.
        advance: Called with the images of each finished job.

    Raises:
        BadInput: Ray is not installed.
        PaddleTkError: What ``work`` raises.
    """
    records = _by_ray(work, jobs, workers) if engine == "ray" else _here(work, jobs, workers)
    found = []
    for job, record in zip(jobs, records, strict=True):
        found.append(record)
        advance(int(job["rows"]))
    return found


def _here(work: Work, jobs: Sequence[Job], workers: int) -> Iterator[dict[str, Any]]:
    if min(workers, len(jobs)) <= 1:
        yield from map(work, map(_ready, jobs))
        return
    # Fresh processes: those of a fork would inherit the locks of threads that they do not have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start, initargs=(work,)) as pool:
        try:
            yield from pool.map(_one, map(_ready, jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ready(job: Job) -> Job:
    return {name: value() if callable(value) else value for name, value in job.items()}


def _start(work: Work) -> None:
    _work[:] = [work]


def _one(job: Job) -> dict[str, Any]:
    return _work[0](job)


def _by_ray(work: Work, jobs: Sequence[Job], workers: int) -> list[dict[str, Any]]:
    if importlib.util.find_spec("ray") is None:
        raise BadInput("the engine ray needs Ray, which is not installed", "pip install 'paddle_tk[ray]'")
    with _cluster(workers):
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every plan
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"number": number, "job": _Wrapped(_ready(job))} for number, job in enumerate(jobs)]
        # A block for each job: Ray gives every block to one task, and a task that is lost is done again.
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        done = data.map(_Reported(work), compute=ray.data.TaskPoolStrategy(min(workers, len(jobs)))).take_all()
    found = []
    for row in sorted(done, key=lambda row: int(row["number"])):
        if row["problem"]:
            raise DataError(row["problem"], row["fix"])
        found.append(json.loads(row["record"]))
    return found


@dataclass(frozen=True)
class _Wrapped:
    """A job as an object of its own: Ray would make columns of what is in a dictionary."""

    job: Job


class _Reported:
    """Does a job and says an expected failure in words: Ray would wrap it in errors of its own and try again.

    Args:
        work: What is done.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        said = {"number": row["number"], "record": "", "problem": "", "fix": ""}
        try:
            return said | {"record": json.dumps(self._work(row["job"].job))}
        except PaddleTkError as error:
            return said | {"problem": error.problem, "fix": error.fix}


@contextmanager
def _cluster(workers: int) -> Iterator[None]:
    """Connects to a running cluster, or starts one that listens on this machine only; neither reports to anybody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    remote = bool(os.environ.get("RAY_ADDRESS"))
    if not remote:
        # What Ray does on macOS and Windows: all its servers listen on the loopback address. Its argument
        # _node_ip_address=127.0.0.1 is replaced by the machine's address instead (2.60).
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if ray.is_initialized():
        yield
        return
    local = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    ray.init(logging_level="error", log_to_driver=False, **({} if remote else local))
    try:
        yield
    finally:
        ray.shutdown()
