from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.data.shard_check import check_shards
from paddle_tk.data.shard_jobs import Engine, run_jobs
from paddle_tk.data.shards import ShardSettings, _jobs
from paddle_tk.errors import BadInput, DataError
from tests.data.detection_sets import coco_root, load
from tests.data.shard_sets import sharded

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'paddle_tk[ray]'"
)


def square(job: Any) -> dict[str, Any]:
    if job["n"] == 7:
        raise DataError("seven is out", "leave it out")
    return {"square": job["n"] ** 2, "pid": os.getpid()}


def jobs(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "rows": n + 1} for n in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_run_jobs_returns_records_in_order_and_tells_progress(workers: int) -> None:
    done: list[int] = []
    found = run_jobs(square, jobs(5), engine="local", workers=workers, advance=done.append)
    assert [record["square"] for record in found] == [0, 1, 4, 9, 16]
    assert done == [1, 2, 3, 4, 5]
    assert (os.getpid() in {record["pid"] for record in found}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_run_jobs_raises_what_a_job_raises(workers: int) -> None:
    with pytest.raises(DataError, match="seven is out"):
        run_jobs(square, jobs(9), engine="local", workers=workers, advance=lambda _: None)


def test_run_jobs_names_the_extra_when_ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"not installed. Fix: pip install 'paddle_tk\[ray\]'"):
        run_jobs(square, jobs(1), engine="ray", workers=1, advance=lambda _: None)


def same_bytes(first: Path, second: Path) -> None:
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_shards_are_equal_byte_for_byte_when_several_processes_write_them(tmp_path: Path) -> None:
    sharded(tmp_path / "one")
    sharded(tmp_path / "two", workers=2)
    same_bytes(tmp_path / "one", tmp_path / "two")


def test_shards_of_files_and_boxes_are_equal_when_several_processes_write_them(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco", 24))
    settings = ShardSettings(rows_per_shard=5)
    sharded(tmp_path / "one", bundle, settings)
    sharded(tmp_path / "two", bundle, settings, workers=2)
    same_bytes(tmp_path / "one", tmp_path / "two")


def test_a_job_of_sharding_carries_its_own_images_and_no_others(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco", 240))
    sizes = {}
    for rows in (1000, 10):
        made = _jobs(bundle, "train", 1000.0, ShardSettings(rows_per_shard=rows))
        assert len(made) == -(-len(bundle.splits["train"]) // rows)
        sizes[rows] = max(len(pickle.dumps(job["part"]())) for job in made)
    assert sizes[10] < sizes[1000] / 5


@needs_ray
def test_shards_are_equal_byte_for_byte_when_ray_writes_them_and_ray_finds_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # its servers listen on the loopback address
    import ray

    engine: Engine = "ray"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    try:
        index = sharded(tmp_path / "one")
        sharded(tmp_path / "two", engine=engine, workers=2)
        same_bytes(tmp_path / "one", tmp_path / "two")
        assert check_shards(str(tmp_path / "two"), engine=engine, workers=2).good
        (tmp_path / "two" / index.splits["val"][0].file).write_bytes(b"PAR1")
        report = check_shards(str(tmp_path / "two"), engine=engine, workers=2)
        assert {shard for shard, _ in report.problems} == {index.splits["val"][0].file}
        with pytest.raises(DataError, match="seven is out"):
            run_jobs(square, jobs(9), engine=engine, workers=2, advance=lambda _: None)
    finally:
        ray.shutdown()
