from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddle_tk.data.catalog import catalog, shipped_entry
from paddle_tk.data.forecast import decoding_rate, forecast, last_speed
from paddle_tk.data.states import DatasetState, write_record

ABSENT = DatasetState("absent", None, 0, "")


def test_forecast_multiplies_what_is_known() -> None:
    entry = shipped_entry("coco2017")
    got = forecast(entry, ABSENT, cores=4, bytes_per_second=1e7, speed_basis="measured here", images_rate=250.0)
    assert got.download_bytes == 252907541 + 815585330 + 19336861798
    assert got.download_seconds == pytest.approx(got.download_bytes / 1e7)
    assert got.decode_seconds == pytest.approx((118287 + 5000) / 1000)
    assert (got.memory_bytes, got.disk_bytes) == (0, entry.unpacked_bytes)
    told = got.to_dict()
    assert told["download_seconds"] == {
        "value": got.download_seconds,
        "unit": "s",
        "origin": "estimated",
        "basis": "measured here",
    }
    assert "download 20.4 GB in 34 min" in got.text()


def test_forecast_leaves_unknown_what_nobody_measured_or_published() -> None:
    got = forecast(shipped_entry("coco128"), ABSENT, cores=1, bytes_per_second=None, speed_basis="", images_rate=100.0)
    assert (got.download_bytes, got.download_seconds) == (None, None)
    assert got.to_dict()["download_seconds"]["value"] is None
    assert "download of unknown size in an unknown time" in got.text()


def test_forecast_counts_what_is_here_already() -> None:
    entry = shipped_entry("cifar10")
    begun = forecast(
        entry,
        DatasetState("partial", None, 70498071, ""),
        cores=1,
        bytes_per_second=1e6,
        speed_basis="x",
        images_rate=1.0,
    )
    assert (begun.download_bytes, begun.download_seconds) == (100_000_000, 100.0)
    ready = forecast(
        entry, DatasetState("verified", None, 17, ""), cores=1, bytes_per_second=None, speed_basis="", images_rate=1.0
    )
    assert (ready.download_bytes, ready.download_seconds, ready.disk_bytes) == (0, 0.0, 17)
    assert ready.memory_bytes == 60_000 * 32 * 32 * 3
    assert ready.text() == "estimated: nothing to download, disk 0 kB, memory 184.3 MB, all images held"


def test_decoding_rate_is_measured_and_falls_with_size() -> None:
    small = decoding_rate(32, 32, seconds=0.02)
    assert small > decoding_rate(1600, 1200, seconds=0.02) > 0


def test_last_speed_is_that_of_the_newest_record(tmp_path: Path) -> None:
    assert last_speed(tmp_path, catalog()) is None
    write_record(tmp_path / "cifar10", shipped_entry("cifar10"), {"a": {"bytes_per_second": 5.0}})
    assert last_speed(tmp_path, catalog()) == 5.0
    assert json.loads((tmp_path / "cifar10" / ".paddle_tk.json").read_text())["dataset"] == "cifar10"
