"""Fills a part file from one origin, several segments at once, with retries."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial

import httpx

from paddle_tk.data.fetching.http import Origin, Transient, Unusable, Wires, open_range
from paddle_tk.data.fetching.part import PartFile
from paddle_tk.data.fetching.settings import Patience

# An attempt that brought this share of a segment is progress, and the count of failures starts again.
_PROGRESS_SHARE = 16


class _Cancelled(Exception):
    """Another segment has failed for good."""


def fill(
    part: PartFile,
    client: httpx.Client,
    *,
    connections: int,
    patience: Patience,
    advance: Callable[[int], None],
    head: bytes = b"",
) -> None:
    """Fetches every missing segment.

    Args:
        part: Where the bytes go; its origin is asked.
        client: Shared by the threads.
        connections: Segments at once.
        patience: When to give up.
        advance: Told how many bytes came, or with a negative number how many were dropped again.
        head: First bytes of the file that are already here.

    Raises:
        Changed: The file at the origin is another now.
        Unusable: The origin failed too often.
        BadInput: The disk is full.
    """
    waiting, stop, wires = deque(part.missing()), threading.Event(), Wires()
    ask = partial(open_range, client, stall_seconds=patience.stall_seconds, wires=wires)

    def work() -> None:
        while not stop.is_set():
            try:
                index = waiting.popleft()
            except IndexError:
                return
            try:
                _segment(part, ask, index, patience, stop, advance, head if index == 0 else b"")
            except _Cancelled:
                return
            except BaseException:
                stop.set()
                raise

    with ThreadPoolExecutor(max_workers=max(1, min(connections, len(waiting)))) as pool:
        jobs = [pool.submit(work) for _ in range(min(connections, len(waiting)))]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            # Also on Ctrl-C: the pool is left when the last of its threads has noticed.
            stop.set()
            wires.cut()
    failures = [error for job in jobs if (error := job.exception()) is not None]
    for error in sorted(failures, key=lambda e: isinstance(e, Unusable)):
        raise error


def _segment(
    part: PartFile,
    ask: Callable[[Origin, int, int], AbstractContextManager[Iterator[bytes]]],
    index: int,
    patience: Patience,
    stop: threading.Event,
    advance: Callable[[int], None],
    head: bytes,
) -> None:
    first, end = part.bounds(index)
    head = head[: end - first]
    part.write(first, head)
    advance(len(head))
    at, crc, failures, tries = first + len(head), zlib.crc32(head), 0, 0
    while at < end:
        before, why, wait_seconds = at, "the answer ended early", 0.0
        try:
            with ask(part.origin, at, end - 1) as blocks:
                for block in blocks:
                    if stop.is_set():
                        raise _Cancelled
                    if at + len(block) > end:
                        raise Transient("more bytes than were asked for", void=True)
                    part.write(at, block)
                    at, crc = at + len(block), zlib.crc32(block, crc)
                    advance(len(block))
        except Transient as error:
            why, wait_seconds = str(error), error.wait_seconds
            if error.void:
                advance(first - at)
                at, crc = first, 0
        if at < end:
            tries += 1
            failures = 1 if (at - before) * _PROGRESS_SHARE >= end - first else failures + 1
            # The second bound is for answers that bring something and void it again, for ever.
            if failures > patience.attempts or tries > patience.attempts * _PROGRESS_SHARE:
                raise Unusable(f"{failures} failure(s) in a row, {tries} of one segment, the last: {why}")
            if stop.wait(patience.delay(failures, wait_seconds)):
                raise _Cancelled
    part.finish(index, crc)
