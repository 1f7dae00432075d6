"""VisualDL's record files: 8 bytes of length (little endian), then one protobuf ``Record``, again and again.

Found out with VisualDL 2.5.3, and what the rest of this module is about:

- Of several record files in one folder a starting server reads only the one whose name sorts last; a running
  server keeps what it read from the older ones and adds the newer, so that steps appear twice until it is
  restarted.
- A running server fails for all runs, for good, when a file that it has read is deleted.
- A record that was cut off by a kill makes the server fail at its start, for all runs, and a record appended
  after such a tail cannot be found again.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paddle_tk.files import write_bytes_atomic
from paddle_tk.training.loggers.base import finished_step, replay_points

_HEADER = struct.Struct("<Q")
_NAME = re.compile(r"vdlrecords\.(\d+)\.log")
_STAGING = "next.tmp"  # must not contain "vdlrecords": a server takes any such file for a run's record file


def record_files(folder: Path) -> list[Path]:
    """Returns the record files of a run's folder, the one a server reads last."""
    return sorted(path for path in folder.glob("*vdlrecords*") if path.is_file())


def split_records(payload: bytes) -> Iterator[bytes]:
    """Yields the whole records at the start of a file; stops at one that is cut off."""
    offset = 0
    while offset + _HEADER.size <= len(payload):
        (length,) = _HEADER.unpack_from(payload, offset)
        start, offset = offset + _HEADER.size, offset + _HEADER.size + length
        if offset > len(payload):
            return
        yield payload[start:offset]


def join_records(records: Sequence[bytes]) -> bytes:
    """Returns the contents of a file that holds these records."""
    return b"".join(_HEADER.pack(len(record)) + record for record in records)


def start_file(folder: Path, replay: Sequence[Mapping[str, Any]]) -> Path:
    """Begins the record file of a run that starts or resumes, and returns its path; older files are emptied.

    The new file holds every figure of ``replay`` once, with the time it was first logged where that is known,
    and the pictures of finished epochs. It is complete before it gets its name, and its name sorts last, so
    that at every moment of a kill a viewer finds either the old file or the new one. Old files are emptied
    rather than deleted, see above.

    Args:
        folder: The run's VisualDL folder; made when missing.
        replay: History records up to the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    old = record_files(folder)
    known = [record for path in old[-1:] for record in split_records(path.read_bytes())]
    target = folder / _next_name(old)
    staging = folder / _STAGING
    write_bytes_atomic(staging, join_records(_resumed(known, replay)))
    os.replace(staging, target)
    for path in old:
        if path.stat().st_size:
            os.truncate(path, 0)
    return target


def _next_name(old: Sequence[Path]) -> str:
    """Returns a name that sorts after the old ones, also with the clock set back or starts in one second."""
    numbers = [int(match[1]) for path in old if (match := _NAME.search(path.name))]
    return f"vdlrecords.{max([int(time.time()), *(number + 1 for number in numbers)]):010d}.log"


def _resumed(known: Sequence[bytes], replay: Sequence[Mapping[str, Any]]) -> list[bytes]:
    from visualdl.component.base_component import meta_data, scalar

    now, last = round(time.time() * 1000), finished_step(replay)
    logged_at: dict[tuple[str, int], int] = {}
    pictures = []
    for raw, value in _parsed(known):
        if value.WhichOneof("one_value") == "image" and value.id <= last:
            pictures.append(raw)
        logged_at.setdefault((_plain(value.tag), value.id), value.timestamp)
    # The server takes the first record for proof that this is a record file, so it comes first here as well.
    first = meta_data(display_name="", walltime=now).SerializeToString()
    points = [
        scalar(point.tag, point.value, point.step, logged_at.get((point.tag, point.step), now)).SerializeToString()
        for point in replay_points(replay)
    ]
    return [first, *points, *pictures]


def _plain(tag: str) -> str:
    return tag.replace("%", "/")


def _parsed(records: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
    """Yields each record's bytes and its value; stops at the first that cannot be decoded."""
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record

    for raw in records:
        try:
            values = Record.FromString(raw).values
        except DecodeError:
            return
        if values:
            yield raw, values[0]
