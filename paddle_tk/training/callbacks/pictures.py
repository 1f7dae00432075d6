"""After each epoch: pictures of what the validation found, into the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle


class Pictures(paddle.callbacks.Callback):
    """Hands over what the task draws of the last evaluation.

    Args:
        sinks: Loggers.
    """

    def __init__(self, sinks: Sequence[Any]) -> None:
        super().__init__()
        self.sinks = sinks

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws and hands the pictures over."""
        if not self.sinks:
            return
        for tag, picture in self.model.task.pictures().items():
            for sink in self.sinks:
                sink.image(tag, picture, self.model.progress.updates)
