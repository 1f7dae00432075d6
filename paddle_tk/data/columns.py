"""Columns of numbers in one file that is mapped into memory: opened at once, shared by all processes, checked.

Of a dataset's index 1.28 million Python strings would be built at every start and copied into every process; columns
are pages of a file, which the system reads once. A column pickles as its place in the file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.data.home import cache_folder
from paddle_tk.errors import DataError
from paddle_tk.files import sha256_bytes

# Magic, length of the header, its SHA-256, the header as JSON, then the columns. The magic changes with the layout.
_MAGIC = b"PTKCOLS1"
_FIXED = len(_MAGIC) + 8 + 32
_ALIGNED = 64
_LEFTOVER_SECONDS = 3600.0


class MappedColumn(np.ndarray):
    """A column of a file; what is cut out of it or computed from it is an ordinary array in all but name.

    Attributes:
        origin: (file, the header's digest, column), what it is pickled as; None for everything derived.
    """

    origin: tuple[str, str, str] | None = None

    def __reduce__(self) -> Any:
        return super().__reduce__() if self.origin is None else (_reopened, self.origin)


@dataclass(frozen=True)
class Columns:
    """Named arrays and what is told of them.

    Attributes:
        key: What they were made from; they are valid as long as it is the same.
        meta: Whatever else the maker keeps with them, as JSON.
        arrays: By name; read-only where they are mapped from a file.
        checksums: CRC-32 by name, where they come from a file.
    """

    key: Any
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    checksums: Mapping[str, int] | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def whole(self) -> bool:
        """Reads every column once (57 MB in 0.02 s) and tells whether all are as they were written."""
        known = self.checksums or {}
        return all(zlib.crc32(_raw(array)) == known.get(name, -1) for name, array in self.arrays.items())


def index_path(kind: str, source: Path) -> Path:
    """Returns where the index of a file or folder is kept: by its path as it was given and as it is."""
    place = os.fsencode(source) + b"\0" + os.fsencode(os.path.realpath(source))
    return cache_folder() / "index" / f"{kind}-{sha256_bytes(place)[:16]}.columns"


def cached_columns(path: Path, key: Any, build: Callable[[], tuple[Mapping[str, np.ndarray], Any]]) -> Columns:
    """Returns the columns of ``key``: those kept at ``path`` where they are whole, else new ones, which are kept.

    Args:
        path: The file.
        key: Says from what they are made, as JSON.
        build: Makes the arrays, and the meta they are kept with.
    """
    found = open_columns(path)
    if found is not None and found.key == key and found.whole():
        return found
    return keep_columns(path, key, *build())


def keep_columns(path: Path, key: Any, arrays: Mapping[str, np.ndarray], meta: Any) -> Columns:
    """Writes columns and returns them mapped from the file, or as they are where the file cannot be written."""
    try:
        write_columns(path, key, arrays, meta)
    except OSError:
        return Columns(key, meta, arrays)  # a home that cannot be written costs time at the next run, nothing else
    found = open_columns(path)
    return found if found is not None and found.key == key else Columns(key, meta, arrays)  # another was quicker


def write_columns(path: Path, key: Any, arrays: Mapping[str, np.ndarray], meta: Any) -> None:
    """Writes a file that appears whole or not at all.

    It is not forced to the disk: what a power cut may leave of it is found out by the checksums and made again.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    places, size = [], 0
    for name, array in plain.items():
        places.append([name, array.dtype.str, list(array.shape), size, zlib.crc32(_raw(array))])
        size += _padded(array.nbytes)
    header = json.dumps({"key": key, "meta": meta, "columns": places, "bytes": size}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".tmp-{path.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as stream:
            stream.write(_MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header)
            stream.write(bytes(_padded(_FIXED + len(header)) - _FIXED - len(header)))
            for array in plain.values():
                stream.write(_raw(array))
                stream.write(bytes(_padded(array.nbytes) - array.nbytes))
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def open_columns(path: Path) -> Columns | None:
    """Maps a file and checks its header and length, not the columns (see ``Columns.whole``); None: unusable."""
    try:
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # there is none, or it is empty
        return None
    length = int.from_bytes(mapped[len(_MAGIC) : len(_MAGIC) + 8], "little")
    header = mapped[_FIXED : _FIXED + length]
    digest = hashlib.sha256(header)
    if mapped[: len(_MAGIC)] != _MAGIC or mapped[_FIXED - 32 : _FIXED] != digest.digest():
        return None
    told = json.loads(header)
    start = _padded(_FIXED + length)
    if len(mapped) != start + told["bytes"]:
        return None
    arrays: dict[str, np.ndarray] = {}
    for name, kind, shape, offset, _ in told["columns"]:
        dtype, count = np.dtype(kind), int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(mapped, dtype, count, start + offset) if count else np.empty(0, dtype)
        column = flat.reshape(shape).view(MappedColumn)
        column.origin = (str(path), digest.hexdigest(), name)
        arrays[name] = column
    return Columns(told["key"], told["meta"], arrays, {place[0]: place[4] for place in told["columns"]})


def _raw(array: np.ndarray) -> memoryview:
    return np.asarray(array).reshape(-1).view(np.uint8).data


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _reopened(path: str, digest: str, name: str) -> np.ndarray:
    """Returns a column in another process than the one that opened it first."""
    return _opened(path, digest)[name]


@lru_cache(maxsize=16)
def _opened(path: str, digest: str) -> Columns:
    found = open_columns(Path(path))
    first = next(iter(found.arrays.values()), None) if found is not None else None
    if found is None or not isinstance(first, MappedColumn) or first.origin is None or first.origin[1] != digest:
        raise DataError(f"{path} was removed or replaced while it was in use", "start again")
    return found


def _remove_leftovers(path: Path) -> None:
    """Removes what killed processes left, but nothing so young that another may be writing it."""
    for old in path.parent.glob(".tmp-*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _LEFTOVER_SECONDS:
                old.unlink()
