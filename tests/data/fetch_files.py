"""What the tests of downloads share: random files, quick settings, a description of what is fetched."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from paddle_tk.data.catalog import Checksum, RemoteFile
from paddle_tk.data.fetching.settings import FetchSettings, Patience

SEGMENT = 16 * 1024
QUICK = FetchSettings(
    connections=4,
    segment_bytes=SEGMENT,
    probe_bytes=4096,
    probe_seconds=1.0,
    connect_seconds=2.0,
    patience=Patience(attempts=4, first_delay=0.005, longest_delay=0.02, stall_seconds=0.4),
)
ONE_AT_A_TIME = replace(QUICK, connections=1)


def content(size: int, seed: int = 0) -> bytes:
    """Returns random bytes."""
    return np.random.default_rng(seed).bytes(size)


def remote(payload: bytes, *urls: str, checksum: bool = True, size: bool = True, **values: Any) -> RemoteFile:
    """Describes a file with this content."""
    published = Checksum(algorithm="sha256", value=hashlib.sha256(payload).hexdigest(), source="the test")
    return RemoteFile(
        name="file.bin",
        urls=list(urls),
        size_bytes=len(payload) if size else None,
        checksum=published if checksum else None,
        **values,
    )
