"""What a dataset will cost in time, disk and memory, from sizes and measured speeds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddle_tk.data.catalog import Entry
from paddle_tk.data.states import RECORD, DatasetState, read_record


@dataclass(frozen=True)
class Forecast:
    """What a dataset will cost. None: not known.

    Attributes:
        download_bytes: Still to come.
        download_seconds: At the measured speed.
        disk_bytes: Once it is set up, archives not counted where they are unpacked.
        memory_bytes: Of images that are held in memory; 0 where they are read from disk.
        decode_seconds: To decode all images once, on all cores.
        basis: What each figure rests on.
    """

    download_bytes: int | None
    download_seconds: float | None
    disk_bytes: int | None
    memory_bytes: int | None
    decode_seconds: float | None
    basis: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON types; every figure is an estimate and says what it rests on."""
        units = {"bytes": "bytes", "seconds": "s"}
        names = ("download_bytes", "download_seconds", "disk_bytes", "memory_bytes", "decode_seconds")
        return {
            name: {
                "value": getattr(self, name),
                "unit": units[name.rsplit("_", 1)[1]],
                "origin": "estimated",
                "basis": self.basis.get(name, "not known"),
            }
            for name in names
        }

    def text(self) -> str:
        """Returns one line for a person."""
        download = f"download {_bytes(self.download_bytes)} in {_seconds(self.download_seconds)}"
        memory = f"memory {_bytes(self.memory_bytes)}, all images held" if self.memory_bytes else "memory for batches"
        parts = [
            "nothing to download" if self.download_bytes == 0 else download,
            f"disk {_bytes(self.disk_bytes)}",
            memory if self.memory_bytes is not None else "memory unknown",
            f"decoding every image once {_seconds(self.decode_seconds)}" if self.decode_seconds else "",
        ]
        return f"estimated: {', '.join(part for part in parts if part)}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "of unknown size"
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _seconds(count: float | None) -> str:
    if count is None:
        return "an unknown time"
    if count < 120:
        return f"{count:.0f} s" if count >= 1 else "less than a second"
    return f"{count / 60:.0f} min" if count < 7200 else f"{count / 3600:.1f} h"


def forecast(
    entry: Entry,
    state: DatasetState,
    *,
    cores: int,
    bytes_per_second: float | None,
    speed_basis: str,
    images_rate: float,
) -> Forecast:
    """Forecasts what a dataset costs.

    Args:
        entry: Which.
        state: What of it is here.
        cores: That decode.
        bytes_per_second: Of the connection; None: not measured.
        speed_basis: Where that figure is from.
        images_rate: Images of its size that one core decodes in a second; see ``decoding_rate``.
    """
    download = 0 if state.ready else entry.download_bytes
    if download is not None and state.state == "partial" and entry.download_bytes is not None:
        download = max(0, download - state.size_bytes)
    seconds = None
    if download == 0:
        seconds = 0.0
    elif download is not None and bytes_per_second:
        seconds = download / bytes_per_second
    on_disk = entry.memory_bytes is None and entry.image is not None
    disk = state.size_bytes if state.ready else entry.unpacked_bytes or entry.download_bytes
    basis = {
        "download_bytes": "the catalog's sizes, less what is here",
        "download_seconds": speed_basis if seconds else "nothing to download" if seconds == 0 else "speed not measured",
        "disk_bytes": "measured" if state.ready else "the catalog's sizes",
        "memory_bytes": "images stay on disk" if on_disk else "the catalog: images x height x width x 3",
        "decode_seconds": f"{images_rate:.0f} images/s and core (measured on a picture of that size) x {cores} cores",
    }
    return Forecast(
        download_bytes=download,
        download_seconds=seconds,
        disk_bytes=disk,
        memory_bytes=0 if on_disk else entry.memory_bytes,
        decode_seconds=entry.images / (images_rate * cores) if on_disk else 0.0,
        basis=basis,
    )


def decoding_rate(width: int, height: int, *, seconds: float = 0.1) -> float:
    """Measures how many JPEGs of a size one core decodes in a second, on a picture made here.

    Args:
        width: Pixels.
        height: Pixels.
        seconds: How long to measure.
    """
    coarse = np.random.default_rng(0).integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or count < 3:
        cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        count += 1
    return count / passed


def last_speed(root: Path, names: Mapping[str, Entry]) -> float | None:
    """Returns the bytes per second of the newest recorded download of any dataset; None where there was none."""
    newest: tuple[float, float] | None = None
    for name in names:
        try:
            when = (root / name / RECORD).stat().st_mtime
        except OSError:
            continue
        speeds = [noted.get("bytes_per_second") for noted in read_record(root / name).get("files", {}).values()]
        known = [float(speed) for speed in speeds if speed]
        if known and (newest is None or when > newest[0]):
            newest = (when, known[-1])
    return newest[1] if newest is not None else None
