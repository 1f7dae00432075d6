"""Finds image files that cannot be decoded, in parallel, and remembers the verdict."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from paddle_tk.data.bundle import decode_image
from paddle_tk.data.home import cache_folder
from paddle_tk.errors import BadInput, DataError, some
from paddle_tk.files import sha256_bytes, write_bytes_atomic

_MAX_THREADS = 16
_AT_ONCE = 8192  # files handed to the threads at once: each waits in an object of 1 kB


class FileStat(NamedTuple):
    """A file as it was listed: path, size in bytes, modification time in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


def checked_images(root: Path, groups: Mapping[str, Sequence[FileStat]], *, skip_unreadable: bool) -> list[str]:
    """Decodes what has not been seen before; see ``unreadable_files``.

    Returns:
        Paths that cannot be decoded, sorted; none but where they may be skipped.

    Raises:
        DataError: Files cannot be decoded and are not to be skipped.
    """
    return accepted(unreadable_files(root, groups), skip_unreadable=skip_unreadable)


def accepted(bad: list[str], *, skip_unreadable: bool) -> list[str]:
    """Returns the paths of unreadable files where they may be skipped.

    Raises:
        DataError: There are some, and they may not.
    """
    if bad and not skip_unreadable:
        raise DataError(
            f"{len(bad)} image file(s) cannot be decoded: {some(bad)}",
            "repair or remove them, or go on without them with data.skip_unreadable=true",
        )
    return bad


def unreadable_files(root: Path, groups: Mapping[str, Sequence[FileStat]]) -> list[str]:
    """Decodes every file that has changed since it was last seen.

    The cache holds per group one digest over (path, size, modification time) and the names of the files that
    failed, so it stays small; one changed file makes its group, not the whole dataset, be decoded again.

    Args:
        root: The dataset's folder: which cache to use.
        groups: Files by group, usually one group per class folder.

    Returns:
        Paths that cannot be decoded, sorted.
    """
    digests = {
        name: listing_digest((os.path.basename(file.path), file.size, file.mtime_ns) for file in files)
        for name, files in groups.items()
    }
    return unreadable_since(root, digests, lambda name: [file.path for file in groups[name]])


def unreadable_since(root: Path, digests: Mapping[str, str], paths_of: Callable[[str], Sequence[str]]) -> list[str]:
    """The same for groups that are known by their digests.

    Args:
        root: The dataset's folder.
        digests: ``listing_digest`` by group.
        paths_of: Returns the paths of a group; called where the group has changed or has files that failed.

    Returns:
        Paths that cannot be decoded, sorted.
    """
    cache_path = cache_folder() / f"images-{sha256_bytes(os.fsencode(root.resolve()))[:16]}.json"
    known = _read_cache(cache_path)
    cache = {name: known[name] for name, digest in digests.items() if known.get(name, {}).get("digest") == digest}
    stale = [name for name in digests if name not in cache]
    unseen = [path for name in stale for path in paths_of(name)]
    failed = {path for i in range(0, len(unseen), _AT_ONCE) for path in _failures(unseen[i : i + _AT_ONCE])}
    for name in stale:
        bad = [os.path.basename(path) for path in paths_of(name) if path in failed]
        cache[name] = {"digest": digests[name], "bad": bad}
    if stale or set(known) != set(cache):
        _write_cache(cache_path, cache)
    doubted = [name for name in digests if cache[name]["bad"]]
    return sorted(path for name in doubted for path in paths_of(name) if os.path.basename(path) in cache[name]["bad"])


def listing_digest(files: Iterable[tuple[str, int, int]]) -> str:
    """Returns the SHA-256 over names, sizes and modification times (nanoseconds) of a group, in the order given."""
    rows = [os.fsencode(name) + b"\0%d\0%d\n" % (size, mtime_ns) for name, size, mtime_ns in files]
    # Another decoder may judge differently, so its version is part of what was seen.
    return hashlib.sha256(cv2.__version__.encode() + b"".join(rows)).hexdigest()


def _failures(paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    # Decoding leaves Python's lock, so threads are enough.
    with quiet_decoder(), ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return [path for path, good in zip(paths, pool.map(_is_readable, paths), strict=True) if not good]


def _is_readable(path: str) -> bool:
    try:
        return decode_image(np.fromfile(path, np.uint8)) is not None
    except OSError:
        return False


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Silences what the C decoders print about damaged files, which our one message names already."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
        return {str(k): {"digest": str(v["digest"]), "bad": [str(n) for n in v["bad"]]} for k, v in raw.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_cache(path: Path, cache: Mapping[str, Any]) -> None:
    try:
        write_bytes_atomic(path, json.dumps(cache).encode())
    except (OSError, BadInput):
        return  # a home that cannot be written costs time at the next run, nothing else
