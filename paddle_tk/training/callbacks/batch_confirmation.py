"""Notes that an automatic batch fits, once it has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle

from paddle_tk.training.batch_choice import CONFIRMING_UPDATES, change


class BatchConfirmation(paddle.callbacks.Callback):
    """Sets ``confirmed`` in ``batch.json`` after the first updates of a run with ``data.batch_size: auto``.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._confirmed = False

    def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """Confirms once, after the second update; a run that is resumed later has had them."""
        if not self._confirmed and self.model.progress.updates >= CONFIRMING_UPDATES:
            self._confirm()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Confirms a training that had fewer updates than that and was not stopped."""
        if not self._confirmed and self.model.stop_signal is None:
            self._confirm()

    def _confirm(self) -> None:
        change(self._folder, confirmed=True)
        self._confirmed = True
