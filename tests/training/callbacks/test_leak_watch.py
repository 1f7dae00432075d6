from __future__ import annotations

import gc
import json
import mmap
import re
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddle_tk.commands.train import main as train
from paddle_tk.config.load import load_config
from paddle_tk.console import Output
from paddle_tk.errors import CheckFailed
from paddle_tk.training.build import build_trainer
from paddle_tk.training.callbacks.history import read_history
from paddle_tk.training.callbacks.leak_watch import LEAKS, LeakWatch
from paddle_tk.training.live_tensors import SNAPSHOTS, LiveTensors
from paddle_tk.training.run_folder import open_run
from paddle_tk.training.trainer import Trainer
from tests.training.small import eval_loader, model, train_loader

SETTINGS = [
    *("model=lenet", "data=digits", "data.image_size=28", "data.batch_size=8", "data.num_workers=0"),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=130", "trainer.limit_val_batches=1", "trainer.loggers=[]"),
    *("trainer.max_retries=0", "trainer.log_every_n_steps=5"),
]
BATCHES, EPOCHS = 25, 11


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a new process: what other tests give back in the middle of a run is memory too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


class Keeper(paddle.callbacks.Callback):
    """Keeps 1 MB more with every batch after some: a tensor, or pages outside Paddle's allocator."""

    def __init__(self, kind: str, after: int) -> None:
        super().__init__()
        self.kind, self.after, self.batches = kind, after, 0
        self.kept: list[Any] = []

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        self.batches += 1
        if self.batches <= self.after:
            return
        if self.kind == "tensor":
            self.kept.append(paddle.zeros([2**18]))
        else:
            pages = mmap.mmap(-1, 2**20)
            pages.write(b"\1" * 2**20)
            self.kept.append(pages)


class Cycle:
    """Garbage that only the collector frees."""

    def __init__(self) -> None:
        self.me, self.payload = self, paddle.zeros([2**18])


class Littering(paddle.callbacks.Callback):
    """Leaves 1 MB of cyclic garbage with every batch."""

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        Cycle()


def _fit(folder: Path, extra: list[paddle.callbacks.Callback], warnings: list[str]) -> LeakWatch:
    watch = LeakWatch(folder, action="warn", batches=BATCHES, device="cpu", warn=warnings.append)
    fitted = model(epochs=EPOCHS, updates_per_epoch=BATCHES)
    loader = train_loader(count=8 * BATCHES)
    fitted.fit(loader, eval_loader(), epochs=EPOCHS, callbacks=[*extra, watch])
    return watch


def _planted(folder: Path, kind: str) -> list[str]:
    warnings: list[str] = []
    _fit(folder, [Keeper(kind, after=60)], warnings)
    return warnings


@pytest.mark.parametrize(("kind", "told"), [("tensor", "in tensors"), ("pages", "outside Paddle's allocator")])
def test_a_leak_is_reported_with_batch_rate_and_kind(tmp_path: Path, kind: str, told: str) -> None:
    warnings = _alone(_planted, tmp_path, kind)
    assert warnings
    assert told in warnings[0]
    assert "(estimated)" in warnings[0]
    first = json.loads((tmp_path / LEAKS).read_text())["growth"][0]
    assert abs(first["began_batch"] - 61) <= 24
    assert first["began_epoch"] in (2, 3, 4)
    assert first["found_batch"] <= 60 + 200
    assert first["mb_per_batch"] == pytest.approx(1.0, abs=0.15)
    assert first["kind"] == ("allocator" if kind == "tensor" else "host")
    assert (first["origin"], first["forecast"]["origin"]) == ("measured", "estimated")
    assert first["forecast"]["batches"] > 0


def test_nothing_is_reported_when_nothing_leaks(tmp_path: Path) -> None:
    warnings: list[str] = []
    watch = _fit(tmp_path, [], warnings)
    assert warnings == []
    assert not (tmp_path / LEAKS).exists()
    assert set(watch.figures()) == {"host_rss_mb", "allocator_mb"}
    assert all(value > 0 for value in watch.figures().values())


def test_garbage_is_collected_before_anything_is_reported(tmp_path: Path, without_collector: None) -> None:
    warnings: list[str] = []
    _fit(tmp_path, [Littering()], warnings)
    assert warnings == []


@pytest.fixture
def without_collector() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_tensors_that_live_on_are_told_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    watch = LeakWatch(
        tmp_path, action="warn", batches=BATCHES, device="cpu", warn=warnings.append, tensors=LiveTensors()
    )
    epochs = SNAPSHOTS + 1
    fitted = model(epochs=epochs, updates_per_epoch=BATCHES)
    loader = train_loader(count=8 * BATCHES)
    fitted.fit(loader, eval_loader(), epochs=epochs, callbacks=[Keeper("tensor", after=0), watch])
    tracemalloc.stop()
    told = [line for line in warnings if "Tensor [262144] float32: 25 -> 50 -> 75 -> 100 alive" in line]
    assert len(told) == 1
    assert "held by list of 100 <- attribute 'kept' of" in told[0]
    found = json.loads((tmp_path / LEAKS).read_text())["tensors"]
    assert [262144] in [item["kind"]["shape"] for item in found]


def _trainer(folder: Path, *more: str) -> Trainer:
    loaded = load_config(None, [*SETTINGS, *more])
    if not folder.exists():
        open_run(loaded, folder, None)
    return build_trainer(loaded.config, folder, loaded.sha256, "cpu", Output(quiet=True))


def _leaking(trainer: Trainer, after: int) -> Trainer:
    make = trainer.make_callbacks
    trainer.make_callbacks = lambda records: [Keeper("tensor", after), *make(records)]
    return trainer


def _stopped(folder: Path) -> str:
    with pytest.raises(CheckFailed) as raised:
        _leaking(_trainer(folder, "trainer.leak_watch=stop"), after=0).run()
    return str(raised.value)


def test_a_leaking_run_ends_after_saving_and_can_go_on_when_it_is_to_stop(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = _alone(_stopped, folder)
    assert re.search(r"stopped, everything is saved: memory grows by 1\.\d\d MB a batch.*--resume", said)
    records = read_history(folder / "history.jsonl")
    steps = [r for r in records if r["kind"] == "step"]
    assert {"host_rss_mb", "allocator_mb"} <= steps[0].keys()
    assert not (folder / "result.json").exists()
    saved = _trainer(folder, "trainer.leak_watch=stop").store.newest()
    assert saved is not None
    assert 100 <= saved.state["progress"]["updates"] <= 200
    assert train(["--quiet", "--resume", str(folder), "trainer.leak_watch=off"]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["epochs"] == 2
    off = [r for r in read_history(folder / "history.jsonl") if r["kind"] == "step"][-1]
    assert "host_rss_mb" not in off
