"""Ends a training whose validation metric stopped improving; its count survives a resume."""

from __future__ import annotations

from typing import Any

import paddle


class EarlyStopping(paddle.callbacks.Callback):
    """Sets ``progress.finished`` after ``patience`` epochs without an improvement above ``min_delta``.

    hapi's own callback forgets its count when the process ends.

    Args:
        patience: Epochs.
        min_delta: Least change that counts, in the metric's unit.
    """

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        super().__init__()
        self.patience, self.min_delta = patience, min_delta
        self._best: float | None = None
        self._waited = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the epoch's main metric with the best so far."""
        value = float((logs or {})[self.model.task.main_metric])
        sign = 1 if self.model.task.higher_is_better else -1
        if self._best is None or sign * (value - self._best) > self.min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.model.progress.finished = True

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        return {"best": self._best, "waited": self._waited}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over a saved state."""
        self._best, self._waited = state["best"], state["waited"]
