"""A Paddle network traced into a static graph on disk, without what Paddle writes to the terminal meanwhile."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paddle

from paddle_tk.errors import BadInput

Shape = tuple[int | None, int, int, int]


def save_static(network: Any, prefix: Path, shape: Shape, *, debug: bool = False) -> None:
    """Writes ``prefix``.json (the graph) and ``prefix``.pdiparams (the weights).

    Args:
        network: In evaluation mode; takes one image batch.
        prefix: Files without suffix, in an existing folder.
        shape: (B, 3, H, W) of the input ``image``; B None: a free batch dimension.
        debug: Let Paddle write to the terminal.

    Raises:
        BadInput: The network cannot be traced with images of this size.
    """
    spec = [paddle.static.InputSpec(list(shape), "float32", "image")]
    try:
        with silenced(debug), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            paddle.jit.save(network, str(prefix), input_spec=spec)
    except Exception as error:  # whatever tracing a network may raise
        raise BadInput(
            f"the network cannot be traced with images of {shape[2]}x{shape[3]} px: {last_line(str(error))}",
            "export it at the size it was trained with, without --input-size",
        ) from error


@contextmanager
def silenced(debug: bool = False) -> Iterator[None]:
    """Keeps what C++ code writes to file descriptor 2 from the terminal, unless ``debug``."""
    if debug:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
    finally:
        os.close(kept)


def last_line(text: str) -> str:
    """Returns the last line that says anything, which in Paddle's messages is the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
