"""Unpacks tar and zip archives that nobody vouches for.

An archive is refused, before anything of the offending member is written, where a name is absolute or climbs out of the
folder, where a member is a link, a device or a pipe, occurs twice or stands in the way of another, and where more
comes out than was agreed on or than its size can explain. Sizes are counted while bytes flow: headers lie. What was
written until then lies in a folder of its own, which is removed.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from paddle_tk.errors import DataError
from paddle_tk.files import MIB, write_error

MAX_RATIO = 100  # JPEG hardly shrinks, JSON to a fifth; a bomb to a thousandth
MAX_FILES = 5_000_000
_SLACK = MIB  # small members may shrink more
_BLOCK = 256 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FIX = "do not use it; download it again from its publisher"
_DRIVE = re.compile(r"[A-Za-z]:")
_FAILURES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
_OPENERS: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))

Place = Callable[[PurePosixPath], PurePosixPath | None]


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Attributes:
        files: How many.
        size_bytes: Of all of them.
    """

    files: int
    size_bytes: int


class _Counted(io.RawIOBase):
    """Bytes as they come out of a decompressor, counted against what went in and against a bound."""

    def __init__(self, source: IO[bytes], raw: IO[bytes], name: str, max_bytes: int, max_ratio: float) -> None:
        self._source, self._raw, self._name = source, raw, name
        self._max_bytes, self._max_ratio = max_bytes, max_ratio
        self._count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(MIB if size < 0 else min(size, MIB))
        self._count += len(block)
        # Twice the bound: a tar's own headers are no content, and small files have as much of them.
        if self._count > 2 * self._max_bytes + _SLACK:
            raise _too_large(self._name, self._max_bytes)
        if self._count > self._max_ratio * self._raw.tell() + _SLACK:
            raise _too_dense(self._name, self._max_ratio)
        return block


def _too_large(name: str, most: int) -> DataError:
    return DataError(f"{name} unpacks to more than {most / MIB:.0f} MiB", _FIX)


def _too_dense(name: str, ratio: float) -> DataError:
    return DataError(f"{name} unpacks to more than {ratio:g} times its size", _FIX)


def safe_path(name: str, archive: str) -> PurePosixPath | None:
    """Returns a member's path within the folder, None for the folder itself.

    Raises:
        DataError: The path is absolute, climbs out or is none.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or _DRIVE.match(name):
        raise DataError(f"{archive} holds a member named '{name}', which could leave the folder", _FIX)
    return path if path.parts else None


def walk(archive: Path, *, max_bytes: int, max_ratio: float = MAX_RATIO) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yields the files of an archive with their content, to be read before the next one is asked for.

    Args:
        archive: A tar, plain or compressed by gzip, bzip2 or xz, or a zip.
        max_bytes: Most that all of its files may hold.
        max_ratio: Most that may come out for each byte that went in.

    Raises:
        DataError: The archive is damaged or refused; the message names the member.
    """
    name = str(archive)
    with _damage(name), archive.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic.startswith(b"PK"):
            members = _zip_members(raw, archive, name, max_ratio)
        else:
            opener = next((kind for start, kind in _OPENERS if magic.startswith(start)), None)
            source: Any = raw if opener is None else opener(raw)
            members = _to_the_end(_Counted(source, raw, name, max_bytes, max_ratio), name)
        yield from _bounded(members, name, max_bytes)


def _to_the_end(stream: _Counted, name: str) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Reads on behind a tar's last member: the decompressor's checksum of all of them is the last thing in the file."""
    yield from tar_members(stream, name)
    while stream.read():
        pass


def tar_members(stream: Any, name: str) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yields the files of an uncompressed tar that is read once from the front, without bounds on their size.

    Raises:
        DataError: A member is refused.
    """
    with tarfile.open(fileobj=stream, mode="r|") as members:
        for member in members:
            path = safe_path(member.name, name)
            if member.isdir() or path is None:
                continue
            if not member.isreg() or member.issparse() or member.size < 0:
                raise DataError(f"{name}: {member.name} is no ordinary file but {_tar_kind(member)}", _FIX)
            content = members.extractfile(member)
            if content is None:
                raise DataError(f"{name}: {member.name} has no content", _FIX)
            yield path, content


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to '{member.linkname}'"
    if member.issparse():
        return "a sparse one, whose size nothing bounds"
    return "a pipe or a device" if member.isdev() else "of a kind that is not known"


def _zip_members(
    raw: IO[bytes], archive: Path, name: str, max_ratio: float
) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    whole = archive.stat().st_size
    with zipfile.ZipFile(raw) as members:
        for info in members.infolist():
            path = safe_path(info.filename, name)
            mode = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or path is None:
                continue
            if mode not in (0, stat.S_IFREG):
                kind = "a link" if mode == stat.S_IFLNK else "a folder, pipe or device"
                raise DataError(f"{name}: {info.filename} is no ordinary file but {kind}", _FIX)
            if info.file_size > max_ratio * min(info.compress_size, whole) + _SLACK:
                raise _too_dense(f"{name}: {info.filename}", max_ratio)
            with members.open(info) as content:
                yield path, content


def _bounded(
    members: Iterator[tuple[PurePosixPath, IO[bytes]]], name: str, max_bytes: int
) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Counts what is read of all the files together."""
    total = _Total(name, max_bytes)
    for count, (path, content) in enumerate(members, 1):
        if count > MAX_FILES:
            raise DataError(f"{name} holds more than {MAX_FILES} files", _FIX)
        yield path, cast(IO[bytes], _Part(content, total))


class _Total:
    """How much has come out of an archive."""

    def __init__(self, name: str, most: int) -> None:
        self.name, self._most, self._count = name, most, 0

    def add(self, count: int) -> None:
        self._count += count
        if self._count > self._most:
            raise _too_large(self.name, self._most)


class _Part:
    """One file of an archive, counted while it is read; no whole file object, as there may be millions."""

    def __init__(self, content: IO[bytes], total: _Total) -> None:
        self._content, self._total = content, total

    def read(self, size: int = -1) -> bytes:
        """Reads so many bytes, fewer at the end; all that are left where ``size`` is negative."""
        blocks: list[bytes] = []
        while size != 0:
            with _damage(self._total.name):  # the reader is no part of walk's own block
                block = self._content.read(_BLOCK if size < 0 else min(size, _BLOCK))
            if not block:
                break
            self._total.add(len(block))
            blocks.append(block)
            size = size - len(block) if size > 0 else size
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise DataError(f"{name} is damaged or no tar or zip archive ({error})", _FIX) from error
    except (gzip.BadGzipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{name} cannot be unpacked ({error})", _FIX) from error
    except OSError as error:
        if error.errno is None:  # of bz2: "Invalid data stream"
            raise DataError(f"{name} is damaged or no tar or zip archive ({error})", _FIX) from error
        raise


def unpack(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int,
    place: Place | None = None,
    advance: Callable[[int], None] | None = None,
) -> Unpacked:
    """Writes an archive's files into a new folder; where anything is wrong with it, the folder is removed again.

    Args:
        archive: A tar or a zip.
        folder: Does not exist yet, or is empty.
        max_bytes: Most that all of its files may hold.
        place: Says where in the folder a member goes, None for nowhere; None: all go where the archive says.
        advance: Told the size of each file that was written.

    Raises:
        DataError: The archive is damaged or refused.
        BadInput: The disk is full or the folder cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files, size = 0, 0
        for path, content in walk(archive, max_bytes=max_bytes):
            target = path if place is None else place(path)
            if target is not None:
                written = write_member(folder, target, content, str(archive))
                files, size = files + 1, size + written
                if advance is not None:
                    advance(written)
        return Unpacked(files, size)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise write_error(folder, error) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_member(folder: Path, path: PurePosixPath, content: IO[bytes], archive: str) -> int:
    """Writes one member as an ordinary file, whatever rights and owner the archive names, and returns its size.

    Raises:
        DataError: Another member has its place.
    """
    target = folder / path
    try:
        try:
            descriptor = os.open(target, _NEW_FILE, 0o644)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(target, _NEW_FILE, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{archive}: two members claim the place of {path}", _FIX) from error
    with os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(content, stream, _BLOCK)
        return stream.tell()
