"""A live bar on a terminal, one line an epoch in a pipe, nothing when quiet."""

from __future__ import annotations

import time
from typing import Any

import paddle
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paddle_tk.console import Output


class ProgressBar(paddle.callbacks.Callback):
    """Shows loss, metric, images/s and the time left.

    Args:
        output: Where to print.
        epochs: Total number of epochs.
        batches: Batches in an epoch.
    """

    def __init__(self, output: Output, epochs: int, batches: int) -> None:
        super().__init__()
        self.output, self.epochs, self.batches = output, epochs, batches
        self._bar: Progress | None = None
        self._task: Any = None
        self._began, self._began_at = time.perf_counter(), 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the bar where there is a terminal."""
        self._began, self._began_at = time.perf_counter(), self._done()
        if not self.output.interactive:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self.output.console)
        self._task = self._bar.add_task("", total=self.epochs * self.batches, completed=self._done(), figures="")
        self._bar.start()

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar."""
        if self._bar is None:
            return
        progress = self.model.progress
        rate = progress.samples / max(progress.epoch_seconds, 1e-9)
        shown = {k: v for k, v in progress.train_metrics.items() if k not in self.model.task.parts}
        metrics = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
        self._bar.update(
            self._task,
            completed=self._done(),
            description=f"epoch {progress.epoch + 1}/{self.epochs}",
            figures=f"loss {progress.mean_loss:.4f} {metrics} {rate:.0f} images/s",
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Prints the epoch's line."""
        values = logs or {}
        done = self._done() - self._began_at
        left = (time.perf_counter() - self._began) / max(1, done) * (self.epochs * self.batches - self._done())
        hidden = {"val_n", *(f"{split}_{part}" for split in ("train", "val") for part in self.model.task.parts)}
        names = [k for k in values if k.startswith(("train_", "val_")) and k not in hidden]
        figures = "  ".join(f"{k} {values[k]:.4f}" for k in names)
        line = (
            f"epoch {epoch + 1}/{self.epochs}  {figures}  {values['images_per_second']:.0f} images/s  {left:.0f} s left"
        )
        self.output.say(line)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def _done(self) -> int:
        progress = self.model.progress
        return int(progress.epoch * self.batches + progress.step)
