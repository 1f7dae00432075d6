"""The VisualDL sink: ``<run>/vdl``, shown by ``tools/monitor.py``."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.training.loggers.base import check_image
from paddle_tk.training.loggers.visualdl_records import start_file


class VisualDLSink:
    """Writes VisualDL records; see ``Sink`` for the methods.

    Every call is on disk when it returns, so a kill loses nothing and an open page sees it at its next
    refresh. A resumed run gets a new record file with the replayed figures and the pictures of finished
    epochs; hyper-parameters are logged again at the end. VisualDL keeps figures as float32. When the disk is
    full VisualDL itself prints a warning and the training goes on.

    VisualDL names a run by its folder: a name of our own would hide one of two runs that share it.

    Args:
        folder: ``<run>/vdl``.
        name: Not used by VisualDL.
        config: Not used: hyper-parameters come through ``hparams``.
        replay: History records up to the checkpoint.
    """

    def __init__(
        self, folder: Path, *, name: str, config: Mapping[str, Any], replay: Sequence[Mapping[str, Any]]
    ) -> None:
        from visualdl import LogWriter

        file = start_file(folder, replay)
        self._step = max((int(record["step"]) for record in replay), default=0)
        self._closed = False
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that the file exists; that is what we want
            self._writer = LogWriter(str(folder), file_name=file.name)
        self._writer.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs figures by tag."""
        self._step = max(self._step, step)
        for tag, value in values.items():
            self._writer.add_scalar(tag, float(value), step)
        self._writer.flush()

    def image(self, tag: str, rgb_uint8: np.ndarray, step: int) -> None:
        """Logs an RGB picture."""
        self._writer.add_image(tag, check_image(rgb_uint8), step)
        self._writer.flush()

    def hparams(self, values: Mapping[str, float | str], metrics: Mapping[str, float]) -> None:
        """Logs hyper-parameters, and metrics as scalars ``hparam/<name>``: VisualDL looks them up by tag."""
        self.scalars({f"hparam/{key}": value for key, value in metrics.items()}, self._step)
        self._writer.add_hparams(
            {key: _simple(value) for key, value in values.items()}, [f"hparam/{key}" for key in metrics]
        )
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        if not self._closed:
            self._closed = True
            self._writer.close()


def _simple(value: Any) -> int | float | str:
    """Returns what VisualDL can hold: it drops other types with a message on stdout."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return value
    return value.item() if isinstance(value, (np.integer, np.floating)) else str(value)
