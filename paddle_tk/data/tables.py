"""Texts and file paths kept as columns: a million are three arrays, and a string is made when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np

_ENCODING = ("utf-8", "surrogateescape")  # as file names are on Linux, whatever the locale


class Texts(Sequence[str]):
    """Strings, one after the other in one array of bytes.

    Args:
        blob: uint8: the strings in UTF-8; bytes of file names that are not are kept as they are.
        ends: int64, (n,): where each ends in the blob; it begins where the one before ends.
    """

    def __init__(self, blob: np.ndarray, ends: np.ndarray) -> None:
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Encodes strings.

        Raises:
            UnicodeEncodeError: One holds half a surrogate pair, which no file name can.
        """
        encoded = [text.encode(*_ENCODING) for text in texts]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """Takes the strings of all parts, one part after the other."""
        blobs = [np.asarray(part.blob) for part in parts]
        starts = np.cumsum([0, *map(len, blobs)], dtype=np.int64)
        ends = [part.ends + start for part, start in zip(parts, starts.tolist(), strict=False)]
        return cls(np.concatenate([*blobs, np.empty(0, np.uint8)]), np.concatenate([*ends, np.empty(0, np.int64)]))

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], name: str) -> Texts:
        """Takes what ``columns`` returned."""
        return cls(columns[f"{name}.blob"], columns[f"{name}.ends"])

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """Returns the arrays under names of their own."""
        return {f"{name}.blob": self.blob, f"{name}.ends": self.ends}

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start = int(self.ends[place - 1]) if place else 0
        return self.blob[start : int(self.ends[place])].tobytes().decode(*_ENCODING)

    def __iter__(self) -> Iterator[str]:
        whole, start = self.blob.tobytes(), 0
        for end in self.ends.tolist():
            yield whole[start:end].decode(*_ENCODING)
            start = end


class Paths(Sequence[str]):
    """File paths: folders, and per file its folder's number and its name.

    Args:
        folders: The folders.
        folder_of: int32, (n,): each file's folder.
        names: Each file's name in its folder.
        rows: int64: which of the files, in which order; None: all.
    """

    def __init__(
        self, folders: Sequence[str], folder_of: np.ndarray, names: Texts, rows: np.ndarray | None = None
    ) -> None:
        if len(folder_of) != len(names):
            raise ValueError(f"{len(folder_of)} folders' numbers for {len(names)} names")
        self.folders, self.folder_of, self.names, self.rows = tuple(folders), folder_of, names, rows

    def __len__(self) -> int:
        return len(self.names) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Paths: ...
    def __getitem__(self, index: int | slice) -> str | Paths:
        if isinstance(index, slice):
            return self.take(np.arange(len(self), dtype=np.int64)[index])
        place = range(len(self))[index]
        row = place if self.rows is None else int(self.rows[place])
        return os.path.join(self.folders[int(self.folder_of[row])], self.names[row])

    def __iter__(self) -> Iterator[str]:
        if self.rows is not None:
            yield from (self[i] for i in range(len(self)))
            return
        prefixes = [os.path.join(folder, "") for folder in self.folders]
        for number, name in zip(self.folder_of.tolist(), self.names, strict=True):
            yield prefixes[number] + name

    def take(self, indices: np.ndarray) -> Paths:
        """Returns the paths at ``indices``, in that order; the strings are not copied."""
        rows = np.asarray(indices, np.int64)
        return Paths(self.folders, self.folder_of, self.names, rows if self.rows is None else self.rows[rows])


def as_paths(paths: Sequence[os.PathLike[str] | str]) -> Sequence[str]:
    """Returns columns as they are, anything else as a list of strings."""
    return paths if isinstance(paths, Paths) else [str(path) for path in paths]


def taken(paths: Sequence[str], indices: np.ndarray) -> Sequence[str]:
    """Returns the paths at ``indices``, in that order."""
    return paths.take(indices) if isinstance(paths, Paths) else [paths[i] for i in indices]
