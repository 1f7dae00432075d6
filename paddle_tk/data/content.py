"""The SHA-256 of a file, remembered as long as the system says that the file is the same."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from paddle_tk.data.home import cache_folder
from paddle_tk.errors import BadInput
from paddle_tk.files import sha256_bytes, sha256_file, write_bytes_atomic

# A file that was written so shortly before it was looked at may be written again within one tick of its clock, and
# would look the same. Its digest is not remembered, so that it is computed again. (Git calls such files racy.)
_SETTLED_NS = 2 * 10**9

Stamp = tuple[int, int, int, int]


def stamp_of(path: Path | int) -> Stamp:
    """Returns size, modification time, change time and number of a file.

    The change time is the system's own: a program that puts the modification time back, as ``touch -r`` and ``cp -p``
    do, changes it. It also changes when a file gets another name or other rights; then the digest is computed again
    and found to be the same.

    Raises:
        OSError: There is no such file.
    """
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def known_sha256(path: Path) -> str | None:
    """Returns the digest that was remembered of a file that has not changed since, None where there is none."""
    try:
        told = json.loads(_record(path).read_bytes())
        same = tuple(told["stamp"]) == stamp_of(path)
        return str(told["sha256"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def content_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, computed only where it may have changed since the last time.

    Raises:
        OSError: It cannot be read.
    """
    known = known_sha256(path)
    if known is not None:
        return known
    before = stamp_of(path)
    digest = sha256_file(path)
    remember_sha256(path, before, digest)
    return digest


def remember_sha256(path: Path, before: Stamp, sha256: str) -> None:
    """Remembers the digest of what was read from a file.

    Args:
        path: The file.
        before: Its stamp before it was read; where it is another now, it was being written, and nothing is remembered.
        sha256: The digest of what was read.
    """
    try:
        settled = max(before[1], before[2]) < time.time_ns() - _SETTLED_NS
        if settled and stamp_of(path) == before:
            write_bytes_atomic(_record(path), json.dumps({"stamp": before, "sha256": sha256}).encode())
    except (OSError, BadInput):
        return  # it costs time at the next run, nothing else


def _record(path: Path) -> Path:
    return cache_folder() / "index" / f"content-{sha256_bytes(os.fsencode(os.path.realpath(path)))[:16]}.json"
