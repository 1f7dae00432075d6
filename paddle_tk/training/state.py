"""The whole state of a training as tensors and JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.models.weights import network_arrays
from paddle_tk.training import rng
from paddle_tk.training.checkpoint import Checkpoint
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.tensors import (
    load_network_state,
    load_optimizer_state,
    optimizer_state,
)


def capture_state(model: FitModel, callbacks: Sequence[Any]) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Returns (tensors by part, JSON-able rest) of a prepared model between two updates.

    Where the state is divided over several processes, each of them must call this.
    """
    if model.sharding is not None and model.sharding.model is not None:
        model.sharding.gather_weights()
        optimizer = model.sharding.optimizer_arrays(model.network)
    else:
        optimizer = optimizer_state(model._optimizer, model.network)
    tensors = {"model": network_arrays(model.network), "optimizer": optimizer}
    if model.ema is not None:
        tensors["ema"] = model.ema.arrays()
    state = {
        "progress": model.progress.to_dict(),
        "schedule": {"updates": model.progress.updates, "learning_rate": float(model._optimizer.get_lr())},
        "scaler": model.precision.state(),
        "metrics": [metric.state() for metric in model._metrics],
        "callbacks": {type(c).__name__: c.state() for c in callbacks if hasattr(c, "state")},
        "rng": rng.capture(),
    }
    return tensors, state


def restore_state(model: FitModel, callbacks: Sequence[Any], checkpoint: Checkpoint) -> None:
    """Puts a prepared model and its callbacks where the checkpoint was taken."""
    tensors, state = checkpoint.tensors, checkpoint.state
    load_network_state(model.network, tensors["model"])
    if model.sharding is not None:
        model.sharding.hold(tensors["optimizer"])
    else:
        load_optimizer_state(model._optimizer, model.network, tensors["optimizer"])
    if model.ema is not None:
        model.ema.load(tensors["ema"])
    model.progress.load(state["progress"])
    model._optimizer._learning_rate.step(state["schedule"]["updates"])
    model.precision.load(state["scaler"])
    for metric, saved in zip(model._metrics, state["metrics"], strict=True):
        metric.load(saved)
    for callback in callbacks:
        if hasattr(callback, "load") and type(callback).__name__ in state["callbacks"]:
            callback.load(state["callbacks"][type(callback).__name__])
    rng.restore(state["rng"])


def broadcast_checkpoint(parallel: Parallel, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """Returns the first process's checkpoint in every process; the others pass None."""
    told = None if checkpoint is None else {"folder": str(checkpoint.folder), "state": checkpoint.state}
    head = parallel.broadcast_json(told)
    if head is None:
        return None
    own = checkpoint.tensors.items() if checkpoint is not None else ()
    flat = parallel.broadcast_arrays({f"{part}/{name}": a for part, arrays in own for name, a in arrays.items()})
    tensors: dict[str, dict[str, np.ndarray]] = {}
    for key, array in flat.items():
        part, name = key.split("/", 1)
        tensors.setdefault(part, {})[name] = array
    return Checkpoint(Path(head["folder"]), tensors, head["state"])


def weights_for_use(tensors: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the weights to evaluate and ship: the averaged ones where there are any."""
    return {**tensors["model"], **tensors.get("ema", {})}
