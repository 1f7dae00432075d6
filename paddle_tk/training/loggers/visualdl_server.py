"""VisualDL's own server with a reader that outlives damaged files. Run as a program, by ``viewer.Viewer``:

    python -m paddle_tk.training.loggers.visualdl_server --logdir . --host 127.0.0.1 --port 8040 ...

VisualDL 2.5.3 ends at its start, or answers every request with an error, when one record of one run was cut
off by a kill, cannot be decoded, or is just being written; a file that vanishes has the same effect.
``WholeRecords`` replaces its reader and hands out whole records only; nothing on disk is changed.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
import traceback
from pathlib import Path

_HEADER_BYTES = 8


class WholeRecords:
    """Reads a record file as it grows, with the methods of VisualDL's ``_RecordReader``.

    Args:
        filepath: The record file.
    """

    def __init__(self, filepath: str) -> None:
        self._path = Path(filepath)
        self._offset = 0  # of the first byte that was not handed out yet
        self._buffer = b""
        self._current = b""
        self._damaged = False

    def get_next(self) -> None:
        """Moves to the next record.

        Raises:
            EOFError: There is no further whole record, for now or for good.
        """
        if self._damaged:
            raise EOFError
        record = self._take()
        if record is None:
            self._refill()
            record = self._take()
        if record is None:
            raise EOFError
        if not _decodable(record):
            self._damaged = True  # what follows cannot be trusted: a record's length may be what is wrong
            raise EOFError
        self._current = record

    def record(self) -> bytes:
        """Returns the record ``get_next`` moved to."""
        return self._current

    def _take(self) -> bytes | None:
        if len(self._buffer) < _HEADER_BYTES:
            return None
        end = _HEADER_BYTES + int(struct.unpack_from("<Q", self._buffer)[0])
        if len(self._buffer) < end:
            return None
        record, self._buffer = self._buffer[_HEADER_BYTES:end], self._buffer[end:]
        self._offset += end
        return record

    def _refill(self) -> None:
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                self._buffer = stream.read()
        except OSError:  # deleted: nothing more will come
            self._buffer = b""


def _decodable(record: bytes) -> bool:
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record

    try:
        values = Record.FromString(record).values
    except DecodeError:
        return False
    return bool(values) and values[0].WhichOneof("one_value") is not None


def _end_with(parent: int) -> None:
    """Ends this process when the one that started it is gone, also when that was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    """Serves until it is ended; the arguments are VisualDL's."""
    from visualdl.reader import record_reader
    from visualdl.server import app

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    record_reader._RecordReader = WholeRecords
    try:
        app.main()
    except Exception:
        traceback.print_exc()
    except SystemExit:  # the reason has been printed
        pass
    finally:
        # A thread of VisualDL's would wait for ever for a server that could not start, for a port in use.
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
