"""Writes history.jsonl and hands the same records to the loggers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import paddle

from paddle_tk.config.load import flatten
from paddle_tk.training.loggers import record_scalars


class History(paddle.callbacks.Callback):
    """One "step" record every N updates and one "epoch" record an epoch.

    Args:
        path: history.jsonl.
        sinks: Loggers that get the same figures.
        every: Updates between two "step" records.
        hyper_parameters: The config's values, handed to the loggers with the last figures.
        figures: Called for what else belongs into a "step" record.
    """

    def __init__(
        self,
        path: Path,
        sinks: Sequence[Any],
        every: int,
        hyper_parameters: Mapping[str, Any] | None = None,
        figures: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        super().__init__()
        self.figures = figures
        self.path, self.sinks, self.every = path, sinks, every
        self.hyper_parameters = {k: _plain(v) for k, v in flatten(hyper_parameters or {}).items()}
        self._seen = -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts counting from where the training stands."""
        self._seen = self.model.progress.updates

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """Writes a "step" record when an update that is due has just been made."""
        progress = self.model.progress
        if progress.updates == self._seen:
            return
        self._seen = progress.updates
        if progress.updates % self.every == 0:
            rate = progress.samples / max(progress.epoch_seconds, 1e-9)
            self._write(
                {
                    "kind": "step",
                    "epoch": progress.epoch + 1,
                    "step": progress.updates,
                    "loss": float((logs or {})["loss"][0]),
                    "learning_rate": float(self.model._optimizer.get_lr()),
                    "images_per_second": rate,
                    **self.model.task.parts,
                    **self.figures(),
                }
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the "epoch" record."""
        self._write({"kind": "epoch", **(logs or {})})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Hands over hyper-parameters with what they led to, and closes the loggers."""
        figures = {k: float(v) for k, v in (logs or {}).items() if k.startswith("val_") and k != "val_n"}
        for sink in self.sinks:
            if figures and self.hyper_parameters:
                sink.hparams(self.hyper_parameters, figures)
            sink.close()

    def _write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        for sink in self.sinks:
            sink.scalars(record_scalars(record), record["step"])


def _plain(value: Any) -> float | str:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Returns the records; a line torn by a kill ends the list."""
    records: list[dict[str, Any]] = []
    if not path.is_file():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def truncate_history(path: Path, updates: int, epochs: int) -> list[dict[str, Any]]:
    """Keeps the records of the first ``updates`` updates and ``epochs`` finished epochs, and returns them."""
    kept = [
        r
        for r in read_history(path)
        if (r["kind"] == "step" and r["step"] <= updates) or (r["kind"] == "epoch" and r["epoch"] <= epochs)
    ]
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
    os.replace(temporary, path)
    return kept
