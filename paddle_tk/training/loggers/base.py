"""What all sinks share: their methods, and the one mapping from a history record to a viewer's tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

_STEP_PREFIX, _EPOCH_PREFIX = "train/", "epoch/"
_NOT_SCALARS = ("kind", "step", "epoch")


class Sink(Protocol):
    """Where figures and pictures of a run go. ``step`` counts optimizer updates from 1 on.

    A sink outlives bad values: NaN and infinity are handed to the viewer as they are.

    Args:
        folder: The sink's own folder inside the run; made when missing.
        name: The run's name.
        config: The resolved config as plain JSON types.
        replay: For a resumed run, the history records up to its checkpoint. A viewer then sees each of their
            steps once, and none of the steps that were logged after the checkpoint until they are logged
            again.
    """

    def __init__(
        self, folder: Path, *, name: str, config: Mapping[str, Any], replay: Sequence[Mapping[str, Any]]
    ) -> None: ...

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs figures by tag; they then survive a kill of this process, unless the sink says otherwise."""

    def image(self, tag: str, rgb_uint8: np.ndarray, step: int) -> None:
        """Logs an RGB picture of shape (height, width, 3), uint8."""

    def hparams(self, values: Mapping[str, float | str], metrics: Mapping[str, float]) -> None:
        """Logs what was chosen and what came of it, for comparing runs; call it once, at the end."""

    def close(self) -> None:
        """Writes what is left; further calls of ``close`` do nothing."""


class Point(NamedTuple):
    """One figure of one step."""

    tag: str
    value: float
    step: int


def record_scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns a history record's figures by viewer tag.

    A "step" record gives ``train/loss``, ``train/learning_rate``, ``train/images_per_second``; an "epoch"
    record gives ``epoch/train_loss``, ``epoch/val_top1`` and so on. Missing (None) and non-numeric values are
    left out, NaN is kept.

    Raises:
        ValueError: The record is of another kind.
    """
    kind = record.get("kind")
    if kind not in ("step", "epoch"):
        raise ValueError(f"a history record's kind must be 'step' or 'epoch', got {kind!r}")
    prefix = _STEP_PREFIX if kind == "step" else _EPOCH_PREFIX
    return {
        prefix + key: float(value)
        for key, value in record.items()
        if key not in _NOT_SCALARS and isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    }


def replay_points(replay: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """Yields every figure of the records, each tag and step once; of two of one step the later counts."""
    latest = {(tag, int(record["step"])): value for record in replay for tag, value in record_scalars(record).items()}
    for (tag, step), value in latest.items():
        yield Point(tag, value, step)


def finished_step(replay: Iterable[Mapping[str, Any]]) -> int:
    """Returns the step of the last finished epoch, 0 before the first.

    Pictures are logged when an epoch ends; those up to this step are not made again by a resumed run.
    """
    return max((int(record["step"]) for record in replay if record.get("kind") == "epoch"), default=0)


def check_image(rgb_uint8: np.ndarray) -> np.ndarray:
    """Returns the picture as a contiguous array.

    Raises:
        ValueError: It is not (height, width, 3) uint8.
    """
    if rgb_uint8.ndim != 3 or rgb_uint8.shape[2] != 3 or rgb_uint8.dtype != np.uint8:
        raise ValueError(f"a picture must be (height, width, 3) uint8, got {rgb_uint8.shape} {rgb_uint8.dtype}")
    return np.ascontiguousarray(rgb_uint8)
