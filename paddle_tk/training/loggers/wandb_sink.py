"""The Weights & Biases sink; the wandb package is optional and is written to after its documentation only."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.errors import BadInput
from paddle_tk.files import write_bytes_atomic
from paddle_tk.training.loggers.base import check_image, replay_points

PROJECT = "paddle_tk"
_ID_FILE = "run_id"


class WandbSink:
    """Logs to Weights & Biases; see ``Sink`` for the methods.

    Account and server are wandb's own affair (``WANDB_API_KEY``, ``WANDB_PROJECT``, ``WANDB_MODE``: "online",
    "offline", "disabled"). A resumed run goes on under the id kept in ``folder``. Replayed figures are sent
    with their step; W&B keeps only growing steps and drops those it already has, so each is shown once. In
    offline mode every start writes a local run of its own, and what the server makes of them when they are
    synchronised is up to it.

    Args:
        folder: ``<run>/wandb``.
        name: The run's name on the page.
        config: Shown as the run's config.
        replay: History records up to the checkpoint.

    Raises:
        BadInput: wandb is not installed, or does not start (no account, no network).
    """

    def __init__(
        self, folder: Path, *, name: str, config: Mapping[str, Any], replay: Sequence[Mapping[str, Any]]
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise BadInput(
                "the W&B logger needs wandb, which is not installed",
                "pip install wandb, or leave wandb out of trainer.loggers",
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._wandb = wandb
        self._closed = False
        self._run = _start(wandb, folder, name, config)
        for step, values in _by_step(replay).items():
            self._run.log(values, step=step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs figures by tag."""
        self._run.log({tag: float(value) for tag, value in values.items()}, step=step)

    def image(self, tag: str, rgb_uint8: np.ndarray, step: int) -> None:
        """Logs an RGB picture."""
        self._run.log({tag: self._wandb.Image(check_image(rgb_uint8))}, step=step)

    def hparams(self, values: Mapping[str, float | str], metrics: Mapping[str, float]) -> None:
        """Puts hyper-parameters into the run's config and metrics into its summary."""
        self._run.config.update(dict(values), allow_val_change=True)
        for key, value in metrics.items():
            self._run.summary[key] = float(value)

    def close(self) -> None:
        """Ends the run; waits for what is still to be sent."""
        if not self._closed:
            self._closed = True
            self._run.finish()


def _start(wandb: Any, folder: Path, name: str, config: Mapping[str, Any]) -> Any:
    try:
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            config=dict(config),
            dir=str(folder),
            id=_run_id(folder),
            resume="allow",
            mode=os.environ.get("WANDB_MODE"),
        )
    except Exception as error:  # wandb raises errors of its own, and of its transport
        raise BadInput(f"W&B does not start: {error}", "run 'wandb login', or set WANDB_MODE=offline") from error


def _run_id(folder: Path) -> str:
    file = folder / _ID_FILE
    if not file.is_file():
        write_bytes_atomic(file, uuid.uuid4().hex[:12].encode())
    return file.read_text(encoding="utf-8").strip()


def _by_step(replay: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Returns the replayed figures by step, steps growing: W&B drops a step below the last."""
    steps: dict[int, dict[str, float]] = {}
    for point in replay_points(replay):
        steps.setdefault(point.step, {})[point.tag] = point.value
    return dict(sorted(steps.items()))
