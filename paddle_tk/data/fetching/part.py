"""A file that is being downloaded: ``NAME.part``, and ``NAME.part.journal`` that says which segments are whole.

The journal is JSON lines: the origin first, then a line for each finished segment, written after the segment's bytes
are on disk. So whatever kills the process, even a power cut, a line means that its bytes are there; their CRC-32 is
checked again before they are believed.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddle_tk.data.fetching.http import Origin
from paddle_tk.files import MIB, write_error


def part_path(target: Path) -> Path:
    """Returns where a file lies until it is whole."""
    return target.with_name(f"{target.name}.part")


def journal_path(target: Path) -> Path:
    """Returns where the finished segments are noted."""
    return target.with_name(f"{target.name}.part.journal")


def discard_part(target: Path) -> None:
    """Removes what was downloaded of ``target`` so far."""
    for path in (journal_path(target), part_path(target)):
        path.unlink(missing_ok=True)


class PartFile:
    """The bytes and the journal of one download; segments may be written from several threads.

    Args:
        target: The file it will be.
        origin: Where it comes from; its size is known.
        segment_bytes: All segments but the last have this size.
        mixed: Whether segments of another origin, or of an earlier process, are among them.
    """

    def __init__(self, target: Path, origin: Origin, segment_bytes: int, *, mixed: bool) -> None:
        if origin.size is None:
            raise ValueError("a file of unknown size has no segments")
        self.target, self.origin, self.segment_bytes, self.mixed = target, origin, segment_bytes, mixed
        self.size = origin.size
        self._finished: dict[int, int] = {}  # CRC-32 of each segment that is there
        self._lock = threading.Lock()
        try:
            self._bytes = os.open(part_path(target), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            self._journal = os.open(journal_path(target), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise write_error(target, error) from error

    @classmethod
    def create(cls, target: Path, origin: Origin, segment_bytes: int) -> PartFile:
        """Begins anew.

        Raises:
            BadInput: The disk is full or the place cannot be written.
        """
        discard_part(target)
        part = cls(target, origin, segment_bytes, mixed=False)
        os.ftruncate(part._bytes, part.size)
        part._note({"origin": asdict(origin), "segment_bytes": segment_bytes})
        return part

    @classmethod
    def resume(cls, target: Path) -> PartFile | None:
        """Goes on with what an earlier process left, or returns None where there is nothing to go on with."""
        origins, segment_bytes, lines = _read_journal(journal_path(target))
        bytes_file = part_path(target)
        usable = origins and origins[-1].size is not None and bytes_file.is_file()
        if not usable or bytes_file.stat().st_size != origins[-1].size:
            return None
        size = int(origins[-1].size or 0)
        finished = {index: crc for index, crc in lines.items() if 0 <= index * segment_bytes < size}
        part = cls(target, origins[-1], segment_bytes, mixed=bool(finished))
        part._finished = {index: crc for index, crc in finished.items() if part._crc(index) == crc}
        part._end_line()
        return part

    def switch(self, origin: Origin) -> None:
        """Goes on from another origin of the same size."""
        if origin.size != self.size:
            raise ValueError(f"{origin.size} bytes cannot go on from {self.size}")
        self.mixed = self.mixed or (bool(self._finished) and origin.url != self.origin.url)
        self.origin = origin
        self._note({"origin": asdict(origin), "segment_bytes": self.segment_bytes})

    def bounds(self, index: int) -> tuple[int, int]:
        """Returns a segment's first byte and the one after its last."""
        first = index * self.segment_bytes
        return first, min(first + self.segment_bytes, self.size)

    def missing(self) -> list[int]:
        """Returns the segments that are not there yet, in order."""
        count = -(-self.size // self.segment_bytes)
        return [index for index in range(count) if index not in self._finished]

    @property
    def done_bytes(self) -> int:
        """Bytes of the finished segments."""
        return sum(stop - first for first, stop in map(self.bounds, self._finished))

    def write(self, offset: int, payload: bytes) -> None:
        """Writes bytes at their place.

        Raises:
            BadInput: The disk is full.
        """
        try:
            view = memoryview(payload)
            while view:
                written = os.pwrite(self._bytes, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise write_error(part_path(self.target), error) from error

    def finish(self, index: int, crc: int) -> None:
        """Notes a segment as whole, once its bytes are on disk."""
        try:
            os.fdatasync(self._bytes)
            with self._lock:
                self._note({"segment": index, "crc32": crc})
                self._finished[index] = crc
        except OSError as error:
            raise write_error(part_path(self.target), error) from error

    def close(self) -> None:
        """Closes both files; what is on disk stays."""
        os.close(self._bytes)
        os.close(self._journal)

    def _note(self, line: Mapping[str, Any]) -> None:
        os.write(self._journal, (json.dumps(line) + "\n").encode())
        os.fsync(self._journal)

    def _end_line(self) -> None:
        """Ends a line that was cut off, so that the next one is not lost with it."""
        payload = journal_path(self.target).read_bytes()
        if payload and not payload.endswith(b"\n"):
            os.write(self._journal, b"\n")

    def _crc(self, index: int) -> int:
        first, stop = self.bounds(index)
        crc = 0
        while first < stop and (block := os.pread(self._bytes, min(MIB, stop - first), first)):
            crc, first = zlib.crc32(block, crc), first + len(block)
        return crc if first == stop else -1


def _read_journal(path: Path) -> tuple[list[Origin], int, dict[int, int]]:
    """Returns origins, segment size and segments; lines that are not whole are passed over."""
    origins: list[Origin] = []
    segment_bytes, finished = 0, {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], 0, {}
    for text in lines:
        try:
            line = json.loads(text)
            if "origin" in line:
                origins.append(Origin(**line["origin"]))
                segment_bytes = int(line["segment_bytes"])
            else:
                finished[int(line["segment"])] = int(line["crc32"])
        except (ValueError, KeyError, TypeError):
            continue
    return (origins, segment_bytes, finished) if segment_bytes > 0 else ([], 0, {})
