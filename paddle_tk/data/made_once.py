"""Folders that are made once and then only read, by however many processes."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from paddle_tk.files import atomic_folder, write_error

_LEFTOVER_SECONDS = 3600.0


def made_once(target: Path, fill: Callable[[Path], None]) -> Path:
    """Returns ``target``, filled by ``fill`` unless it exists already.

    A process that is killed leaves no ``target``. Of several processes that fill it at once the first to finish wins,
    and what the others made is dropped, so that nobody ever sees the folder change.

    Args:
        target: The folder; its name should change whenever its content would.
        fill: Writes the content into the empty folder it is given.

    Raises:
        BadInput: The disk is full or the place cannot be written.
    """
    if target.is_dir():
        return target
    _remove_leftovers(target)
    private = target.with_name(f".tmp-{target.name}-{secrets.token_hex(4)}")
    with atomic_folder(private) as staging:
        fill(staging)
    try:
        os.rename(private, target)  # fails where another process has put its folder
    except OSError as error:
        shutil.rmtree(private, ignore_errors=True)
        if not target.is_dir():
            raise write_error(target, error) from error
    return target


def _remove_leftovers(target: Path) -> None:
    """Removes what killed processes left behind, but nothing so young that another may be writing it."""
    if not target.parent.is_dir():
        return
    for path in target.parent.glob(f".tmp-*{target.name}-*"):
        try:
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # another process was quicker
