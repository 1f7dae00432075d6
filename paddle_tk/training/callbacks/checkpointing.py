"""Saves the whole state every N updates, after every epoch, and when the run is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle


class Checkpointing(paddle.callbacks.Callback):
    """Decides when to save; ``save`` knows how.

    Args:
        save: Called with the rank of the epoch that just ended (see ``FitModel.rank``), or None in mid-epoch.
        every: Updates between two checkpoints within an epoch; None: epochs only.
    """

    def __init__(self, save: Callable[[list[float] | None], None], every: int | None) -> None:
        super().__init__()
        self._save, self._every = save, every
        self._saved_updates = -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts counting from where the training stands."""
        self._saved_updates = self.model.progress.updates

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """Saves at an update that is due, or at the first one after a stop was asked for."""
        updates = self.model.progress.updates
        # Between two updates gradients are under way, which no checkpoint holds.
        if updates == self._saved_updates or self._in_window():
            return
        due = self._every is not None and updates % self._every == 0
        stopping = self.model.stop_signal is not None
        if due or stopping:
            self._save(None)
            self._saved_updates = updates
        self.model.stop_now = stopping

    def _in_window(self) -> bool:
        model = self.model
        done = model.progress.step
        return bool(done % model._accumulate != 0 and done < model._train_data.batches_per_epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves with the epoch's rank."""
        self._save(self.model.rank(logs or {}))
        self._saved_updates = self.model.progress.updates

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Saves what a stop during an evaluation left unsaved."""
        if self.model.stop_signal is not None and not self.model.stop_now and self.model.progress.step:
            self._save(None)
