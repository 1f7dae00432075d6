"""Downloads one file, whole and checked or not at all, whatever servers and networks do.

Mirrors are looked at first and taken in the order of the list unless a later one is clearly quicker. Segments come over
several connections into ``NAME.part``; a journal beside it says which are whole, so that a killed download goes on with
those that are missing. What arrives is compared with size and checksum before it gets its name.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from paddle_tk.data.catalog import RemoteFile
from paddle_tk.data.fetching.content import Wrong, check_content
from paddle_tk.data.fetching.download import Download
from paddle_tk.data.fetching.http import Probe, Transient, Unusable, make_client, probe
from paddle_tk.data.fetching.settings import FetchSettings, Meter, Silent
from paddle_tk.data.locks import exclusive
from paddle_tk.errors import BadInput, DataError
from paddle_tk.files import MIB

OFFLINE = "PADDLE_TK_OFFLINE"


@dataclass(frozen=True)
class Fetched:
    """A file that is there.

    Attributes:
        path: Where.
        size_bytes: Its size.
        sha256: Of its content.
        verified: Whether a published checksum says that it is the right one.
        url: Where it came from; None: it was there already.
        resumed_bytes: What an earlier process had left.
        seconds: Spent downloading and checking.
        failures: What went wrong with which address on the way.
    """

    path: Path
    size_bytes: int
    sha256: str
    verified: bool
    url: str | None
    resumed_bytes: int
    seconds: float
    failures: tuple[str, ...]


def offline() -> bool:
    """Whether ``PADDLE_TK_OFFLINE`` forbids any connection."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def look(file: RemoteFile, *, seconds: float = 3.0, wanted: int = MIB // 4) -> Probe | None:
    """Returns a first look at the first mirror of a file that answers; None where none does in time.

    Args:
        file: What is looked for.
        seconds: How long a connection or an answer is waited for; all together take at most twice as long.
        wanted: Bytes that are asked for, by which its speed is measured.

    Raises:
        BadInput: A proxy of the environment cannot be used.
    """
    if offline():
        return None
    found: queue.SimpleQueue[Probe | None] = queue.SimpleQueue()
    # A thread that may be left behind: no timeout holds while a name is resolved.
    client = make_client(connections=1, connect_seconds=seconds, stall_seconds=seconds)
    looking = threading.Thread(target=lambda: found.put(_first(client, file.urls, seconds, wanted)), daemon=True)
    looking.start()
    try:
        return found.get(timeout=2 * seconds)
    except queue.Empty:
        return None


def _first(client: httpx.Client, urls: Sequence[str], seconds: float, wanted: int) -> Probe | None:
    with client:
        for url in urls:
            try:
                return probe(client, url, wanted=wanted, stall_seconds=seconds)
            except (Transient, Unusable):
                continue
    return None


def fetch(
    file: RemoteFile,
    target: Path,
    *,
    pinned_sha256: str | None = None,
    settings: FetchSettings | None = None,
    meter: Meter | None = None,
) -> Fetched:
    """Returns the file, downloaded unless it is there.

    Args:
        file: Addresses, size and checksum.
        target: Where it goes.
        pinned_sha256: What an earlier download of a file without published checksum had.
        settings: None: the defaults.
        meter: Shown progress.

    Raises:
        DataError: No address gave the right file, with the reason for each; or what lies at ``target`` is another.
        BadInput: Another process downloads it, the disk is full, the place cannot be written.
    """
    began = time.monotonic()
    if offline() and not target.is_file():
        raise BadInput(f"{file.name} is not at {target}, and {OFFLINE} is set", f"unset {OFFLINE}, or put it there")
    with exclusive(target.with_name(f".{target.name}.lock"), f"downloading {target}"):
        if target.is_file():
            return _found(file, target, pinned_sha256, began)
        job = Download(file, target, pinned_sha256, settings or FetchSettings(), meter or Silent())
        with job.opened():
            sha256, url = job.run()
        return Fetched(
            path=target,
            size_bytes=target.stat().st_size,
            sha256=sha256,
            verified=file.checksum is not None,
            url=url,
            resumed_bytes=job.resumed_bytes,
            seconds=time.monotonic() - began,
            failures=tuple(job.failures),
        )


def _found(file: RemoteFile, target: Path, pinned_sha256: str | None, began: float) -> Fetched:
    try:
        sha256 = check_content(file, target, pinned_sha256)
    except Wrong as error:
        raise DataError(f"{target} is not the file it should be: {error}", "remove it, and it is downloaded") from error
    size, seconds = target.stat().st_size, time.monotonic() - began
    return Fetched(target, size, sha256, file.checksum is not None, None, 0, seconds, ())
