"""Config -> the callbacks of a run, besides the one that saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paddle

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.training.batch_choice import BATCH_FILE
from paddle_tk.training.callbacks.batch_confirmation import BatchConfirmation
from paddle_tk.training.callbacks.early_stopping import EarlyStopping
from paddle_tk.training.callbacks.history import History
from paddle_tk.training.callbacks.leak_watch import LeakWatch
from paddle_tk.training.callbacks.pictures import Pictures
from paddle_tk.training.callbacks.progress_bar import ProgressBar
from paddle_tk.training.live_tensors import LiveTensors
from paddle_tk.training.loggers import FOLDERS, LOGGERS
from paddle_tk.training.run_folder import HISTORY

Records = list[dict[str, Any]]


def build_callbacks(
    config: Config, folder: Path, *, epochs: int, batches: int, device: str, output: Output, writes: bool
) -> Callable[[Records], Sequence[paddle.callbacks.Callback]]:
    """Returns what makes the callbacks, from the records of earlier attempts.

    Args:
        config: The resolved config.
        folder: The run folder.
        epochs: Of the whole run.
        batches: In an epoch.
        device: "cpu" or "gpu:N".
        output: Where to print.
        writes: Whether this process writes files and talks; others have only what decides how the training goes.
    """

    def make(records: Records) -> list[paddle.callbacks.Callback]:
        trainer = config.trainer
        callbacks = _writing(config, folder, epochs, batches, device, output, records) if writes else []
        if trainer.early_stopping_patience is not None:
            callbacks.append(EarlyStopping(trainer.early_stopping_patience, trainer.early_stopping_min_delta))
        return callbacks

    return make


def _writing(
    config: Config, folder: Path, epochs: int, batches: int, device: str, output: Output, records: Records
) -> list[paddle.callbacks.Callback]:
    plain = config.model_dump(mode="json")
    sinks = [
        LOGGERS.load(name)(folder / FOLDERS[name], name=folder.name, config=plain, replay=records)
        for name in config.trainer.loggers
    ]
    watch = _leak_watch(config, folder, batches, device, output)
    figures = watch[0].figures if watch else dict
    every = config.trainer.log_every_n_steps
    return [
        *watch,
        History(folder / HISTORY, sinks, every, hyper_parameters=plain, figures=figures),
        Pictures(sinks),
        ProgressBar(output, epochs, batches),
        *([BatchConfirmation(folder)] if (folder / BATCH_FILE).is_file() else []),
    ]


def _leak_watch(config: Config, folder: Path, batches: int, device: str, output: Output) -> list[LeakWatch]:
    trainer = config.trainer
    if trainer.leak_watch == "off":
        return []
    watch = LeakWatch(
        folder,
        action=trainer.leak_watch,
        batches=batches,
        device=device,
        warn=output.warn,
        tensors=LiveTensors() if trainer.leak_tensors else None,
    )
    return [watch]
