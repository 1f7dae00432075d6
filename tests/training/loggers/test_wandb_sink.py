"""wandb needs an account and a server; a stand-in with its documented behaviour takes its place here."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import BadInput
from paddle_tk.training.loggers.wandb_sink import WandbSink

RECORDS = [{"kind": "step", "epoch": 1, "step": n, "loss": float(n)} for n in range(1, 7)]


class Run:
    """A run as the server keeps it: steps only grow, figures of one step are put together."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.config = self
        self.chosen: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.finished = 0

    def log(self, values: dict[str, Any], step: int) -> None:
        if step >= max(self.rows, default=0):
            self.rows.setdefault(step, {}).update(values)

    def update(self, values: dict[str, Any], allow_val_change: bool = False) -> None:
        self.chosen.update(values)

    def finish(self) -> None:
        self.finished += 1


class Server(types.ModuleType):
    """The module ``wandb``, with the runs of one project."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: dict[str, Run] = {}
        self.asked: dict[str, Any] = {}
        self.Image = np.asarray

    def init(self, **asked: Any) -> Run:
        self.asked = asked
        if asked["mode"] == "online":
            raise RuntimeError("api_key not configured")
        assert asked["resume"] == "allow"
        return self.runs.setdefault(asked["id"], Run())


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return server


def start(folder: Path, replay: list[dict[str, Any]]) -> WandbSink:
    return WandbSink(folder, name="digits", config={"seed": 1}, replay=replay)


def test_sink_shows_each_step_once_when_run_is_resumed(tmp_path: Path, wandb: Server) -> None:
    sink = start(tmp_path, [])
    for record in RECORDS[:5]:
        sink.scalars({"train/loss": record["loss"]}, record["step"])
    sink = start(tmp_path, RECORDS[:3])  # killed after step 5, the checkpoint was of step 3
    for record in RECORDS[3:]:
        sink.scalars({"train/loss": record["loss"]}, record["step"])
    sink.image("val/samples", np.zeros((2, 2, 3), np.uint8), 6)
    sink.close()
    sink.close()

    (run,) = wandb.runs.values()
    assert {step: row["train/loss"] for step, row in run.rows.items()} == {n: float(n) for n in range(1, 7)}
    assert "val/samples" in run.rows[6]
    assert run.finished == 1


def test_sink_sends_the_replay_when_the_server_does_not_know_the_run(tmp_path: Path, wandb: Server) -> None:
    start(tmp_path, RECORDS[:3])
    (run,) = wandb.runs.values()
    assert sorted(run.rows) == [1, 2, 3]


def test_sink_passes_name_config_and_mode_when_started(tmp_path: Path, wandb: Server) -> None:
    sink = start(tmp_path, [])
    sink.hparams({"rate": 0.1}, {"top1": 0.5})
    (run,) = wandb.runs.values()
    assert (wandb.asked["name"], wandb.asked["config"], wandb.asked["mode"]) == (
        "digits",
        {"seed": 1},
        "offline",
    )
    assert wandb.asked["dir"] == str(tmp_path)
    assert run.chosen == {"rate": 0.1}
    assert run.summary == {"top1": 0.5}


@pytest.mark.usefixtures("wandb")
def test_sink_says_what_to_do_when_wandb_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(BadInput, match=r"api_key not configured.*WANDB_MODE=offline"):
        start(tmp_path, [])


def test_sink_says_what_to_install_when_wandb_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BadInput, match="pip install wandb"):
        start(tmp_path, [])
    assert not list(tmp_path.iterdir())
