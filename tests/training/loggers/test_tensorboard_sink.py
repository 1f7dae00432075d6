from __future__ import annotations

import math
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.training.loggers import record_scalars
from paddle_tk.training.loggers.tensorboard_sink import TensorBoardSink, split_events


def records() -> list[dict[str, Any]]:
    steps = [{"kind": "step", "epoch": 1 + (n - 1) // 4, "step": n, "loss": float(n)} for n in range(1, 9)]
    return [*steps[:4], {"kind": "epoch", "epoch": 1, "step": 4, "val_top1": 0.5}, *steps[4:]]


def start(folder: Path, replay: list[dict[str, Any]]) -> TensorBoardSink:
    return TensorBoardSink(folder, name="run", config={}, replay=replay)


def log(sink: TensorBoardSink, entries: list[dict[str, Any]]) -> None:
    for record in entries:
        sink.scalars(record_scalars(record), record["step"])
        if record["kind"] == "epoch":
            sink.image("val/confusion_matrix", np.full((4, 4, 3), 9, np.uint8), record["step"])


def values(folder: Path, tag: str) -> list[tuple[int, Any]]:
    """Step and value of every summary with this tag in all event files of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for raw in split_events(file.read_bytes()):
            event = Event.FromString(raw)
            found += [(event.step, value) for value in event.summary.value if value.tag == tag]
    return found


@pytest.fixture
def _installed() -> None:
    pytest.importorskip("tensorboardX")


@pytest.mark.usefixtures("_installed")
def test_sink_writes_what_was_logged_when_run_is_fresh(tmp_path: Path) -> None:
    sink = start(tmp_path, [])
    log(sink, records())
    sink.scalars({"train/loss": float("nan")}, 9)
    sink.hparams({"rate": 0.1, "list": [1], "flag": True}, {"top1": 0.75})  # type: ignore[dict-item]
    sink.close()
    sink.close()

    losses = [(n, value.simple_value) for n, value in values(tmp_path, "train/loss")]
    assert losses[:-1] == [(n, float(n)) for n in range(1, 9)]
    assert math.isnan(losses[-1][1])
    assert [n for n, _ in values(tmp_path, "val/confusion_matrix")] == [4]
    assert [(n, value.simple_value) for n, value in values(tmp_path, "hparam/top1")] == [(9, 0.75)]


@pytest.mark.usefixtures("_installed")
def test_sink_shows_each_step_once_when_run_is_resumed(tmp_path: Path) -> None:
    for kept in (0, 2, 6, 7):
        sink = start(tmp_path, records()[:kept])
        log(sink, records()[kept:])
        sink.close()
    assert Counter(n for n, _ in values(tmp_path, "train/loss")) == dict.fromkeys(range(1, 9), 1)
    assert [n for n, _ in values(tmp_path, "val/confusion_matrix")] == [4]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("_installed")
def test_sink_starts_again_when_the_last_event_was_cut_off(tmp_path: Path) -> None:
    sink = start(tmp_path, [])
    log(sink, records())
    sink.close()
    (file,) = tmp_path.iterdir()
    os.truncate(file, file.stat().st_size - 3)

    sink = start(tmp_path, records()[:5])
    log(sink, records()[5:])
    sink.close()

    assert [n for n, _ in values(tmp_path, "train/loss")] == list(range(1, 9))


def test_sink_says_what_to_install_when_tensorboardx_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(BadInput, match="pip install tensorboardX"):
        start(tmp_path, [])
