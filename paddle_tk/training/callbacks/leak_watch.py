"""Says when memory grows with every batch: since when, how fast, of what kind, and how long it will last."""

from __future__ import annotations

import gc
import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import paddle

from paddle_tk.errors import CheckFailed
from paddle_tk.files import write_json
from paddle_tk.training.leak_detector import Growth, LeakDetector
from paddle_tk.training.live_tensors import LiveTensors
from paddle_tk.training.process_memory import ALLOCATOR, GPU, HOST, readers, room_mb

LEAKS = "leaks.json"
SNAPSHOT_EVERY = 25  # batches
_SAME = 0.5  # of the host's growth, from which on it is the allocator's
_AGAIN = 2.0  # growth over that of the last report
_KINDS = {
    ALLOCATOR: "in tensors",
    GPU: "in tensors on the GPU",
    HOST: "outside Paddle's allocator (NumPy arrays, Python objects, libraries)",
}


class LeakWatch(paddle.callbacks.Callback):
    """Follows the process's memory, once a batch; where it grows, warns or ends the training after it was saved.

    Args:
        folder: The run folder, for leaks.json, which is written only when something was found.
        action: "warn" or "stop".
        batches: Batches in an epoch.
        device: "cpu" or "gpu:N".
        warn: Prints a warning.
        tensors: Tells which tensors live on; None: not asked for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        action: Literal["warn", "stop"],
        batches: int,
        device: str,
        warn: Callable[[str], None],
        tensors: LiveTensors | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.action, self.batches, self.device = folder, action, batches, device
        self._warn, self._tensors = warn, tensors
        self._read = readers(device)
        self._detectors = {name: LeakDetector() for name in self._read}
        self._now: dict[str, float] = {}
        self._told_mb = 0.0
        self._named: set[Any] = set()
        self._watched, self._began = 0, time.perf_counter()

    def figures(self) -> Mapping[str, float]:
        """Returns what was read last, for the records of the history."""
        return {_FIGURES[name]: round(value, 2) for name, value in self._now.items()}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock of the forecast."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the memory and judges it."""
        batch = self.model.progress.epoch * self.batches + self.model.progress.step
        self._watched += 1
        self._now = {name: read() for name, read in self._read.items()}
        found = {name: self._detectors[name].add(batch, value) for name, value in self._now.items()}
        grown = {name: growth for name, growth in found.items() if growth is not None}
        if grown:
            self._suspect(grown)
        if self._tensors is not None and self._watched % SNAPSHOT_EVERY == 0:
            self._name_tensors(self._tensors)

    def _suspect(self, grown: dict[str, Growth]) -> None:
        """Reports growth that is left when Python's garbage is collected."""
        gc.collect()
        # What a library got back from its garbage it may keep for later: the process then shrinks by less.
        freed = max(self._now[name] - read() for name, read in self._read.items())
        for name, growth in list(grown.items()):
            if freed > growth.grown_mb / 2:
                self._detectors[name].forget()
                del grown[name]
        if not grown:
            return
        name = next(name for name in (GPU, ALLOCATOR, HOST) if name in grown)
        if grown[name].grown_mb < _AGAIN * self._told_mb:
            return
        self._told_mb = grown[name].grown_mb
        self._report(name, grown[name])

    def _report(self, name: str, growth: Growth) -> None:
        rates = {other: detector.rate_since(growth.began) for other, detector in self._detectors.items()}
        if name == HOST and (rates[ALLOCATOR] or 0.0) >= _SAME * growth.mb_per_step:
            name = ALLOCATOR
        forecast = self._forecast(name, growth)
        told = _sentence(growth, _KINDS[name], self.batches, forecast)
        self._add(
            "growth",
            {
                "kind": name,
                "began_batch": growth.began,
                "began_epoch": _epoch(growth.began, self.batches)[0],
                "resolution_batches": growth.resolution,
                "found_batch": growth.found,
                "found_update": self.model.progress.updates,
                "mb_per_batch": growth.mb_per_step,
                "mb_per_batch_by_series": rates,
                "grown_mb": growth.grown_mb,
                "n": growth.blocks,
                "origin": "measured",
                "forecast": forecast,
                "text": told,
            },
        )
        if self.action == "stop":
            self._stop(told)
        else:
            self._warn(f"{told}; written to {self.folder / LEAKS}, see docs/leaks.md")

    def _stop(self, told: str) -> None:
        self.model.stop_error = CheckFailed(
            f"stopped, everything is saved: {told}",
            f"find it with trainer.leak_tensors=true (docs/leaks.md), then go on: python tools/train.py --resume "
            f"{self.folder}; trainer.leak_watch=warn goes on in spite of it",
        )
        # Saves at the next update and ends the run, as Ctrl-C does.
        self.model.ask_to_stop(signal.SIGTERM)

    def _forecast(self, name: str, growth: Growth) -> dict[str, Any] | None:
        room = room_mb(name, self.device)
        if room is None:
            return None
        batches = max(0.0, room) / growth.mb_per_step
        seconds = (time.perf_counter() - self._began) / max(1, self._watched)
        return {"room_mb": room, "batches": int(batches), "seconds": batches * seconds, "origin": "estimated"}

    def _name_tensors(self, tensors: LiveTensors) -> None:
        found = [item for item in tensors.snapshot() if item.kind not in self._named]
        for item in found:
            self._named.add(item.kind)
            self._warn(f"lives on: {item.line()}")
            self._add("tensors", {"batch": self.model.progress.updates, **item.to_dict(), "origin": "measured"})

    def _add(self, kind: str, entry: dict[str, Any]) -> None:
        path = self.folder / LEAKS
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"growth": [], "tensors": []}
        known[kind].append(entry)
        write_json(path, known)


_FIGURES = {HOST: "host_rss_mb", ALLOCATOR: "allocator_mb", GPU: "gpu_allocated_mb"}


def _epoch(batch: int, batches: int) -> tuple[int, int]:
    """Returns the epoch and the batch in it, both from 1 on, of a batch counted over all epochs."""
    return (batch - 1) // batches + 1, (batch - 1) % batches + 1


def _sentence(growth: Growth, kind: str, batches: int, forecast: Mapping[str, Any] | None) -> str:
    epoch, batch = _epoch(growth.began, batches)
    text = (
        f"memory grows by {growth.mb_per_step:.2f} MB a batch since about batch {growth.began} "
        f"(epoch {epoch}, batch {batch}), {growth.grown_mb:.0f} MB so far, {kind}"
    )
    if forecast is None:
        return text
    return f"{text}; the {forecast['room_mb']:.0f} MB that are free last {_time(forecast)} (estimated)"


def _time(forecast: Mapping[str, Any]) -> str:
    minutes = forecast["seconds"] / 60
    length = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    return f"about {forecast['batches']} batches or {length} more"
