"""Reads pickles that hold nothing but plain containers, text, numbers and NumPy arrays.

A pickle is a program. This reader gives it no function to call but four of its own, which build arrays of
plain number or text types from bytes that are in the file. NumPy's own reconstruction is not handed out
either: its dtype state can claim that raw bytes are object pointers.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from paddle_tk.errors import ArtifactError

_PLAIN_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}|\?)")
_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError,
    ImportError, OverflowError, MemoryError, RecursionError,
)  # fmt: skip


class _Forbidden(pickle.UnpicklingError):
    """The pickle asks for something that is not admitted."""


class _ArrayType:
    """Stands for ``numpy.ndarray`` where a pickle passes the class as an argument; it cannot be called."""

    __slots__ = ()


class _PlainDtype:
    """Collects a pickled dtype and admits only plain number, boolean and text types."""

    __slots__ = ("_order", "_spec")

    def __init__(self, spec: str | bytes) -> None:
        self._spec = spec.decode("ascii") if isinstance(spec, bytes) else spec
        self._order = ""
        if not isinstance(self._spec, str) or not _PLAIN_DTYPE.fullmatch(self._spec):
            raise _Forbidden(f"array type {spec!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise _Forbidden(f"array type {self._spec!r} with state {state!r}")
        self._order = order

    def dtype(self) -> np.dtype[Any]:
        dtype = np.dtype(self._spec)
        return dtype.newbyteorder(">") if self._order == ">" else dtype


class _Array(np.ndarray):
    """An array whose pickled state is checked; it is handed out as a plain ``numpy.ndarray``."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        dtype = kind.dtype()
        sides_fit = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        if not sides_fit or not isinstance(raw, bytes) or math.prod(shape) * dtype.itemsize != len(raw):
            raise _Forbidden(f"an array whose bytes do not fit its shape {shape!r} of {dtype}")
        super().__setstate__((1, shape, dtype, bool(fortran), raw))  # type: ignore[arg-type]


class _Reconstruct:
    """``numpy.core.multiarray._reconstruct``: an empty array that its state fills."""

    __slots__ = ()

    def __call__(self, kind: object, shape: object, typecode: object) -> np.ndarray:
        if not isinstance(kind, _ArrayType):
            raise _Forbidden(f"an array of class {kind!r}")
        return np.empty((0,), np.int8).view(_Array)


class _Scalar:
    """``numpy.core.multiarray.scalar``."""

    __slots__ = ()

    def __call__(self, kind: _PlainDtype, raw: bytes) -> Any:
        return np.frombuffer(raw, kind.dtype(), count=1)[0]


class _Dtype:
    """``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, spec: str | bytes, align: object = False, copy: object = False) -> _PlainDtype:
        return _PlainDtype(spec)


class _Encode:
    """``_codecs.encode``, which Python 3 writes for bytes in old protocols, always with latin1."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", b"latin1"):
            raise _Forbidden(f"encoding {encoding!r}")
        return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[[], object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy._core.multiarray", "scalar"): _Scalar,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Forbidden(f"{module}.{name}")
        # A fresh instance without attributes each time: nothing a pickle does to it outlives the reading.
        return _ADMITTED[module, name]()


def restricted_load(source: Path | str | BinaryIO, *, encoding: str = "bytes") -> object:
    """Reads one pickle without running anything that is in it.

    Args:
        source: A path or a binary stream.
        encoding: How text written by Python 2 is read: "bytes" leaves it as bytes.

    Returns:
        Dicts, lists, tuples, text, numbers, None and arrays, as pickled.

    Raises:
        ArtifactError: The file is missing or damaged, or it asks for any class or function besides NumPy
            arrays, dtypes and scalars of plain types.
    """
    name = str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "the stream"))
    try:
        stream = io.BytesIO(Path(source).read_bytes()) if isinstance(source, (str, Path)) else source
        return _plain(_Unpickler(stream, encoding=encoding).load(), {})
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error.strerror or error}", "check the path") from error
    except _Forbidden as error:
        raise ArtifactError(
            f"{name} asks for {error}, and only plain arrays are read from a pickle",
            "use a file from a source you trust, saved as plain arrays or as .safetensors",
        ) from error
    except _DAMAGE as error:
        raise ArtifactError(
            f"{name} is not a readable pickle ({type(error).__name__}: {error})",
            "download or save the file again",
        ) from error


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Replaces the checked arrays in ``value``, however nested, by ordinary ones."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        done[id(value)] = value.view(np.ndarray)
        return done[id(value)]
    if isinstance(value, dict):
        done[id(value)] = value
        for key in value:
            value[key] = _plain(value[key], done)
    elif isinstance(value, list):
        done[id(value)] = value
        value[:] = [_plain(item, done) for item in value]
    elif isinstance(value, tuple):
        return tuple(_plain(item, done) for item in value)
    elif isinstance(value, (_PlainDtype, _ArrayType)) or callable(value):
        raise _Forbidden(f"an object of another kind ({type(value).__name__})")
    return value
