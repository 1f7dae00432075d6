"""Files: atomic writes, hashes, JSON, run folders. Standard library only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paddle_tk.errors import BadInput

MIB = 2**20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def sha256_bytes(payload: bytes) -> str:
    """Returns the hexadecimal SHA-256 of ``payload``."""
    return hashlib.sha256(payload).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """Returns the one JSON spelling of ``value`` that is hashed: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def no_space_error(path: Path) -> BadInput:
    """Returns the error for a full disk under ``path``."""
    free = shutil.disk_usage(existing_parent(path)).free
    return BadInput(
        f"no disk space left while writing {path} ({free / MIB:.1f} MiB free)",
        "free some space or choose another folder with --run-dir or --output",
    )


def write_error(path: Path, error: OSError) -> Exception:
    """Returns what a user can act on: a full disk, or a place that cannot be written to."""
    if error.errno in _NO_SPACE:
        return no_space_error(path)
    if error.errno in _NO_ACCESS:
        return BadInput(f"{path} cannot be written: {error.strerror}", "choose a place that you may write to")
    return error


def require_free_space(path: Path, needed_bytes: int, purpose: str) -> None:
    """Raises BadInput when the disk that holds ``path`` has less than ``needed_bytes`` free."""
    free = shutil.disk_usage(existing_parent(path)).free
    if free < needed_bytes:
        raise BadInput(
            f"not enough disk space for {purpose}: {path} has {free / MIB:.1f} MiB free, "
            f"about {needed_bytes / MIB:.1f} MiB are needed",
            "free some space or choose another folder",
        )


def existing_parent(path: Path) -> Path:
    """Returns ``path`` or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes_atomic(path: Path, payload: bytes) -> None:
    """Writes a file that is either whole or absent, also after a power cut.

    Raises:
        BadInput: The disk is full or the place cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".tmp-{path.name}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_bytes_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside ``target`` that replaces it, whole, when the block ends well.

    A folder that stood at ``target`` is moved aside first and removed last, so that at every moment one whole
    folder exists under one of the two names.

    Raises:
        BadInput: The disk is full; nothing is left behind.
    """
    staging = target.with_name(f".tmp-{target.name}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    except OSError as error:
        raise write_error(target, error) from error
    try:
        yield staging
        for file in staging.rglob("*"):
            _fsync(file)
        _fsync(staging)
        _swap_in(staging, target)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise write_error(target, error) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _swap_in(staging: Path, target: Path) -> None:
    old = target.with_name(f".tmp-old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(staging, target)
    _fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: Path) -> list[Path]:
    """Removes what interrupted writes left in ``folder`` and returns the removed paths."""
    found = sorted(folder.glob(".tmp-*")) if folder.is_dir() else []
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


def next_free_folder(base: Path) -> Path:
    """Returns ``base``, or ``base-2``, ``base-3``, ... : the first that does not exist."""
    candidate, number = base, 1
    while candidate.exists():
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate
