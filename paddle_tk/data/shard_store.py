"""Where shards lie: in a local folder, mapped into memory, or behind any URL that fsspec knows, read by ranges."""

from __future__ import annotations

import io
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from paddle_tk.data.shard_index import INDEX, Shard, ShardIndex, parse_index
from paddle_tk.errors import BadInput, DataError

_OPEN_FILES = 64
_TRIES = 4
_FIRST_WAIT_SECONDS = 0.2
_PAGE = mmap.ALLOCATIONGRANULARITY
_FAULT_AROUND_BYTES = 65536  # Linux maps pages around one that is read
_FOOTER_BYTES = 65536  # what Parquet reads of a file's end, if the footer is no longer
_Found = TypeVar("_Found")


def is_url(root: str) -> bool:
    """Whether a place is a URL rather than a path."""
    return "://" in root


class ShardStore:
    """The shards of one dataset, wherever they are.

    Files and connections are opened on use and belong to the process that opened them; a copy in another process opens
    its own.

    Args:
        root: A folder, or a URL of one: ``s3://bucket/set``, ``https://host/set``, ``memory://set``.
    """

    def __init__(self, root: str) -> None:
        self.root = root if is_url(root) else str(Path(root).expanduser())
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._remote: tuple[Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.root = state["root"]
        self._reset()

    def __str__(self) -> str:
        return self.root

    def place(self, file: str) -> str:
        """Returns where a file of the dataset lies, for messages."""
        return f"{self.root.rstrip('/')}/{file}"

    def index(self, *, lengths: bool = True) -> ShardIndex:
        """Reads the index.

        Args:
            lengths: Also look that the shards of a local folder are there in their full length.

        Raises:
            DataError: There is no index, it is damaged, or a shard is missing or of another length.
        """
        index = parse_index(self._whole(INDEX), self.place(INDEX))
        if lengths and not is_url(self.root):
            for shards in index.splits.values():
                for shard in shards:
                    self._check_length(shard)
        return index

    def read(self, shard: Shard) -> bytes:
        """Returns a whole shard.

        Raises:
            DataError: It cannot be read.
        """
        return self._whole(shard.file)

    def source(self, shard: Shard, start: int, size: int) -> Any:
        """Returns what pyarrow reads a stretch of a shard from, as if it were the whole file.

        Args:
            shard: The shard.
            start: First byte of the stretch.
            size: Its length in bytes.

        Raises:
            DataError: The shard cannot be read.
        """
        if is_url(self.root):
            return pa.PythonFile(_Stretch(self._range(shard, start, start + size), start, shard.size_bytes), mode="r")
        return pa.BufferReader(pa.py_buffer(self._map(shard)))

    def footer(self, shard: Shard) -> Any:
        """Returns what pyarrow reads a shard's footer from."""
        last = max(start + size for _, start, size in shard.groups)
        start = min(last, max(0, shard.size_bytes - _FOOTER_BYTES))
        return self.source(shard, start, shard.size_bytes - start)

    def done_with(self, shard: Shard, start: int, size: int) -> None:
        """Lets the pages of a stretch go; they stay in the system's cache but no longer count as this process's."""
        mapped = self._maps.get(shard.file) if self._pid == os.getpid() else None
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            first = max(0, start - _FAULT_AROUND_BYTES) // _PAGE * _PAGE
            mapped.madvise(mmap.MADV_DONTNEED, first, min(start + size + _FAULT_AROUND_BYTES, len(mapped)) - first)

    def _check_length(self, shard: Shard) -> None:
        path = Path(self.root) / shard.file
        try:
            found = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", "copy the shards whole") from error
        if found != shard.size_bytes:
            raise DataError(f"{path} has {found} bytes, its index says {shard.size_bytes}", "copy the shards whole")

    def _map(self, shard: Shard) -> mmap.mmap:
        if self._pid != os.getpid():
            self._reset()
        mapped = self._maps.get(shard.file)
        if mapped is None:
            self._check_length(shard)
            with (Path(self.root) / shard.file).open("rb") as stream:
                mapped = self._maps[shard.file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            if len(self._maps) > _OPEN_FILES:
                self._maps.popitem(last=False)  # unmapped once nobody reads it any more
        self._maps.move_to_end(shard.file)
        return mapped

    def _whole(self, file: str) -> bytes:
        if is_url(self.root):
            return self._try(file, lambda system, path: bytes(system.cat_file(path)))
        path = Path(self.root) / file
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}",
                "give the folder of shards with data.root=PATH; python tools/dataset.py shard makes one",
            ) from error

    def _range(self, shard: Shard, start: int, stop: int) -> bytes:
        found = self._try(shard.file, lambda system, path: bytes(system.cat_file(path, start=start, end=stop)))
        if len(found) != stop - start:
            raise DataError(
                f"{self.place(shard.file)} gave {len(found)} bytes for the range {start} to {stop}",
                "use a server that serves ranges, and shards copied whole",
            )
        return found

    def _try(self, file: str, read: Callable[[Any, str], _Found]) -> _Found:
        """Reads from a URL, again after a while where that fails.

        Raises:
            DataError: It failed every time, or at once where there is no such file.
        """
        system, folder = self._system()
        wait = _FIRST_WAIT_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                return read(system, f"{folder.rstrip('/')}/{file}")
            except Exception as error:  # each file system has errors of its own
                if not left or isinstance(error, FileNotFoundError | PermissionError):
                    told = f"{type(error).__name__}: {error}"
                    raise DataError(
                        f"{self.place(file)} cannot be read ({told})", "check the URL, the network and your rights"
                    ) from error
                time.sleep(wait)
                wait *= 2
        raise AssertionError("the last try returns or raises")

    def _system(self) -> tuple[Any, str]:
        if self._pid != os.getpid():
            self._reset()
        if self._remote is None:
            import fsspec  # takes 0.1 s, and only URLs need it

            try:
                self._remote = fsspec.core.url_to_fs(self.root)
            except (ValueError, ImportError) as error:
                raise BadInput(
                    f"data.root={self.root} cannot be opened: {error}", "install the fsspec driver of that protocol"
                ) from error
        return self._remote


class _Stretch(io.RawIOBase):
    """A stretch of a file under the positions of the whole; what lies outside is not there.

    Args:
        content: The stretch.
        start: Its first byte in the file.
        size: The file's length in bytes.
    """

    def __init__(self, content: bytes, start: int, size: int) -> None:
        super().__init__()
        self._content, self._start, self._size, self._position = memoryview(content), start, size, 0

    def readable(self) -> bool:
        """True: it can be read."""
        return True

    def seekable(self) -> bool:
        """True: it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Returns the position in the file."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position in the file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Returns what lies at the position.

        Raises:
            OSError: It is outside the stretch.
        """
        stop = self._size if size < 0 else min(self._size, self._position + size)
        first = self._position - self._start
        if first < 0 or stop - self._start > len(self._content):
            raise OSError(f"bytes {self._position} to {stop} were not fetched")
        self._position = stop
        return bytes(self._content[first : stop - self._start])
