"""The TensorBoard sink: ``<run>/tensorboard``, written with tensorboardX, which is optional."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.errors import BadInput
from paddle_tk.training.loggers.base import check_image, finished_step, replay_points

_FLUSH_SECONDS = 2


class TensorBoardSink:
    """Writes TensorBoard event files; see ``Sink`` for the methods.

    tensorboardX writes from a thread every two seconds, so a kill may lose the last two. A resumed run gets a
    new event file with the replayed figures and the pictures of finished epochs, and the older event files
    are deleted once it is written; it also tells TensorBoard to forget what it has read of this run before.

    Args:
        folder: ``<run>/tensorboard``.
        name: Not used: TensorBoard names a run by its folder.
        config: Not used: hyper-parameters come through ``hparams``.
        replay: History records up to the checkpoint.

    Raises:
        BadInput: tensorboardX is not installed.
    """

    def __init__(
        self, folder: Path, *, name: str, config: Mapping[str, Any], replay: Sequence[Mapping[str, Any]]
    ) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise BadInput(
                "the TensorBoard logger needs tensorboardX, which is not installed",
                "pip install tensorboardX, or leave tensorboard out of trainer.loggers",
            ) from error
        self._step = max((int(record["step"]) for record in replay), default=0)
        self._closed = False
        _start_again(SummaryWriter, folder, replay)
        self._writer = _open(SummaryWriter, folder, purge_step=None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs figures by tag."""
        self._step = max(self._step, step)
        for tag, value in values.items():
            self._writer.add_scalar(tag, float(value), step)

    def image(self, tag: str, rgb_uint8: np.ndarray, step: int) -> None:
        """Logs an RGB picture."""
        self._writer.add_image(tag, check_image(rgb_uint8), step, dataformats="HWC")

    def hparams(self, values: Mapping[str, float | str], metrics: Mapping[str, float]) -> None:
        """Logs hyper-parameters and metrics as TensorBoard's HParams page reads them."""
        from tensorboardX.summary import hparams

        chosen = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in values.items()}
        results = {f"hparam/{key}": float(value) for key, value in metrics.items()}
        for summary in hparams(chosen, results):
            self._writer.file_writer.add_summary(summary)
        self.scalars(results, self._step)

    def close(self) -> None:
        """Writes what is left."""
        if not self._closed:
            self._closed = True
            self._writer.close()


def _open(writer: Any, folder: Path, purge_step: int | None) -> Any:
    # The suffix: two starts within one second would otherwise share a file.
    suffix = f".{time.time_ns()}"
    return writer(str(folder), flush_secs=_FLUSH_SECONDS, purge_step=purge_step, filename_suffix=suffix)


def _start_again(writer: Any, folder: Path, replay: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the event files of an earlier start by one that holds what is still true."""
    old = sorted(folder.glob("events.out.tfevents.*")) if folder.is_dir() else []
    if not old and not replay:
        return
    fresh = _open(writer, folder, purge_step=0)
    for point in replay_points(replay):
        fresh.add_scalar(point.tag, point.value, point.step)
    for event in _pictures(old, finished_step(replay)):
        fresh.file_writer.add_event(event, event.step, event.wall_time)
    fresh.close()  # waits until all of it is written, which flush does not
    for path in old:
        path.unlink(missing_ok=True)


def _pictures(files: Sequence[Path], last_step: int) -> Iterator[Any]:
    """Yields the picture events of finished epochs."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    for file in files:
        for raw in split_events(file.read_bytes()):
            try:
                event = Event.FromString(raw)
            except DecodeError:
                break
            if event.step <= last_step and any(value.HasField("image") for value in event.summary.value):
                yield event


def split_events(payload: bytes) -> Iterator[bytes]:
    """Yields the whole records at the start of an event file; stops at one that is cut off.

    Each is 8 bytes of length, 4 of its checksum, the data, 4 of its checksum (TensorFlow's TFRecord format).
    """
    offset = 0
    while offset + 12 <= len(payload):
        (length,) = struct.unpack_from("<Q", payload, offset)
        start, offset = offset + 12, offset + 12 + length + 4
        if offset > len(payload):
            return
        yield payload[start : start + length]
