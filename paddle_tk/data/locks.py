"""A lock that ends with its process, against two that change the same files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paddle_tk.errors import BadInput
from paddle_tk.files import write_error


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Holds ``path`` as a lock while the block runs; the kernel lets go of it however the process ends.

    Args:
        path: The lock's file; made, and removed at the end.
        doing: What is locked ("downloading X"), for the message.

    Raises:
        BadInput: Another process holds it, or the place cannot be written.
    """
    descriptor = _acquire(path, doing)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before letting go: whoever waits would lock a file without a name
        os.close(descriptor)


def _acquire(path: Path, doing: str) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise BadInput(f"another process (pid {holder}) is {doing}", "wait until it has ended") from error
        if _names(path, descriptor):
            return descriptor
        os.close(descriptor)  # its last holder removed it in between


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
