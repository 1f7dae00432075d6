"""prepare / fit -> TrainResult: resumes, trains, saves, evaluates the best weights on held-out images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddle_tk.console import Output
from paddle_tk.errors import ArtifactError, BadInput, CheckFailed
from paddle_tk.files import atomic_folder, remove_leftovers, require_free_space, sha256_file, write_error, write_json
from paddle_tk.manifest import write_manifest
from paddle_tk.models.weights import FILE_NAME, write_safetensors
from paddle_tk.training.agreement import agreed
from paddle_tk.training.callbacks.checkpointing import Checkpointing
from paddle_tk.training.callbacks.history import truncate_history
from paddle_tk.training.checkpoint import Checkpoint, CheckpointStore
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.run_folder import CHECKPOINTS, HISTORY, MODEL, RESULT
from paddle_tk.training.state import broadcast_checkpoint, capture_state, restore_state, weights_for_use
from paddle_tk.training.stop import stop_on_signal
from paddle_tk.training.tensors import load_network_state
from paddle_tk.types import ModelArtifact, TrainResult

_EXTRA_TENSORS = {"SGD": 0, "Momentum": 1, "Adam": 2, "AdamW": 2}  # accumulators of a parameter's size


@dataclass(frozen=True)
class TrainerSettings:
    """Flat settings of a ``Trainer``.

    Attributes:
        folder: The run folder.
        epochs: Total epochs.
        accumulate: Batches an update.
        batch_sizes: Images of each process in a batch.
        save_every: Updates between checkpoints within an epoch; None: epochs only.
        keep_last: Newest checkpoints kept.
        keep_top_k: Best checkpoints kept.
        seed: The training's seed.
        model_name: For the result.
        dataset_name: For the result.
        dataset_fingerprint: Of the images and splits; a checkpoint of other images is not resumed.
        config_sha256: For the result.
        balance: What is done about unequal classes, for the result; empty: nothing was asked for.
    """

    folder: Path
    epochs: int
    accumulate: int
    batch_sizes: tuple[int, ...]
    save_every: int | None
    keep_last: int
    keep_top_k: int
    seed: int
    model_name: str
    dataset_name: str
    dataset_fingerprint: str
    config_sha256: str
    balance: Mapping[str, Any] = field(default_factory=dict)


Ship = Callable[[Mapping[str, np.ndarray], Path], Mapping[str, np.ndarray]]


@dataclass
class Trainer:
    """One training run in one folder.

    Attributes:
        settings: Flat settings.
        model: The prepared model.
        train_data: Training batches.
        val_data: Validation batches, evaluated after each epoch.
        test_data: Held-out batches, evaluated once with the best weights.
        make_callbacks: Called with the records of earlier attempts, returns the callbacks besides the checkpointing.
        artifact: The manifest to ship, without hashes and metrics.
        output: Where to print.
        ship: Called with the best weights, which the network holds too, and the artifact's folder: returns the weights
            to ship, and may put further files beside them.
        parallel: The processes that train together; the first of them writes, all others go along. None: this one
            alone.
    """

    settings: TrainerSettings
    model: FitModel
    train_data: Any
    val_data: Any
    test_data: Any
    make_callbacks: Callable[[list[dict[str, Any]]], Sequence[paddle.callbacks.Callback]]
    artifact: ModelArtifact
    output: Output
    ship: Ship = lambda weights, folder: weights
    parallel: Parallel | None = None
    _callbacks: list[Any] = field(default_factory=list)
    _began: float = field(default_factory=time.perf_counter)
    _earlier_seconds: float = 0.0

    def __post_init__(self) -> None:
        settings = self.settings
        self.store = CheckpointStore(
            settings.folder / CHECKPOINTS,
            keep_last=settings.keep_last,
            keep_top_k=settings.keep_top_k,
            warn=self.output.warn,
        )

    def run(self) -> TrainResult | None:
        """Trains to the end, from the newest good checkpoint where there is one.

        Returns:
            The result, also written to result.json; None when a signal stopped the run after it was saved.

        Raises:
            BadInput: No disk space for the checkpoints.
            CheckFailed: The loss is no longer finite, or memory leaks and the leak watch is to stop.
            LostProcess: Another process of the job is gone.
        """
        try:
            if self._writes:
                self._prepare_folder()
            self._resume()
            with stop_on_signal(self._ask_to_stop):
                self._fit()
            self._raise_reason()
            result = None if self.model.stop_signal is not None else self._finish()
            if self.parallel is not None:
                self.parallel.close()
            return result
        except OSError as error:
            # History and loggers append as they go; the last checkpoint is whole either way.
            raise write_error(self.settings.folder, error) from error
        finally:
            for loader in (self.train_data, self.val_data, self.test_data):
                loader.close()
            if self.parallel is not None:
                self.parallel.leave()

    @property
    def _writes(self) -> bool:
        return self.parallel is None or self.parallel.writes

    def _fit(self) -> None:
        self.model.fit(
            self.train_data,
            self.val_data,
            epochs=self.settings.epochs,
            callbacks=[*self._callbacks, Checkpointing(self._save, self.settings.save_every)],
            accumulate_grad_batches=self.settings.accumulate,
        )
        self.model.agree_to_stop()

    def _ask_to_stop(self, number: int) -> None:
        self.model.ask_to_stop(number)
        self.output.errors.print("stopping: saving after the running update; once more ends it at once")

    def _raise_reason(self) -> None:
        """Raises, in all processes, what a callback of the first one has ended the training for."""
        error = self.model.stop_error
        if self.parallel is not None and self.model.stop_signal is not None:
            told = self.parallel.broadcast_json(None if error is None else [error.problem, error.fix])
            error = None if told is None else CheckFailed(*told)
        if error is not None:
            raise error

    def _prepare_folder(self) -> None:
        settings = self.settings
        remove_leftovers(settings.folder)
        copies = 1 + _EXTRA_TENSORS.get(type(self.model._optimizer).__name__, 1) + (self.model.ema is not None)
        weights = sum(int(np.prod(t.shape)) * 4 for t in self.model.network.state_dict().values())
        kept = settings.keep_last + settings.keep_top_k + 1  # one is written before one is dropped
        require_free_space(settings.folder, weights * (copies * kept + 1), "checkpoints")

    def _resume(self) -> None:
        checkpoint = self._read(self.store.newest)
        progress = self.model.progress
        epochs = int(checkpoint.state["progress"]["epoch"]) if checkpoint else 0
        updates = int(checkpoint.state["progress"]["updates"]) if checkpoint else 0
        self._require_same_images(checkpoint)
        history = self.settings.folder / HISTORY
        records = agreed(self.parallel, lambda: truncate_history(history, updates, epochs))
        self._callbacks = list(self.make_callbacks(records))
        if checkpoint is None:
            return
        self._require_same_tensors(checkpoint)
        restore_state(self.model, self._callbacks, checkpoint)
        self._earlier_seconds = progress.total_seconds
        self.model.history = [{k: v for k, v in r.items() if k != "kind"} for r in records if r["kind"] == "epoch"]
        self.output.say(f"resumed from {checkpoint.folder.name}: epoch {progress.epoch + 1}, batch {progress.step + 1}")

    def _read(self, find: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """Returns a checkpoint that the first process finds: the others may have no disk in common with it."""
        checkpoint = find() if self._writes else None
        return checkpoint if self.parallel is None else broadcast_checkpoint(self.parallel, checkpoint)

    def _require_same_images(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is None or checkpoint.state["dataset"] == self.settings.dataset_fingerprint:
            return
        raise BadInput(
            f"{self.settings.folder} was trained on other images than {self.settings.dataset_name} holds now",
            "give the folder it was trained on with data.root, or start a new run",
        )

    def _require_same_tensors(self, checkpoint: Checkpoint) -> None:
        foreign = sorted(set(checkpoint.tensors["model"]) ^ set(self.model.network.state_dict()))
        if foreign:
            raise BadInput(
                f"{checkpoint.folder} and the network differ in {len(foreign)} tensors, for instance {foreign[0]}",
                "go on with the command that began the run: tools/quantize.py for a fine-tuning with fake quantizers",
            )

    def _seconds(self) -> float:
        return self._earlier_seconds + time.perf_counter() - self._began

    def _save(self, rank: list[float] | None) -> None:
        if not self._writes and self.model.sharding is None:
            return
        progress = self.model.progress
        progress.total_seconds = self._seconds()
        tensors, state = capture_state(self.model, self._callbacks)
        state["dataset"] = self.settings.dataset_fingerprint
        state["batch"] = {"sizes": list(self.settings.batch_sizes), "accumulate": self.settings.accumulate}
        if self._writes:
            self.store.save(tensors, state, epoch=progress.epoch, step=progress.step, rank=rank)

    def _finish(self) -> TrainResult:
        best = self._read(self.store.best)
        if best is None:
            raise ArtifactError(
                f"no checkpoint of a finished epoch in {self.store.folder} is readable",
                "train again in a new folder",
            )
        weights = weights_for_use(best.tensors)
        if self.model.sharding is not None and self.model.sharding.model is not None:
            self.model.sharding.load_weights(self.model.network, weights)
        else:
            load_network_state(self.model.network, weights)
        self.model.ema = None  # the averages are in the network now
        test = self.model.run_evaluation(self.test_data)
        epoch = int(best.state["progress"]["epoch"])
        validation = _figures(next(h for h in self.model.history if h["epoch"] == epoch))
        final = _figures(test)
        result = self._result({"epoch": epoch, **validation}, final, best.folder.name)
        if self._writes:
            self._write_artifact(weights, {"val": validation, "test": final})
            write_json(self.settings.folder / RESULT, result.to_dict())
        return result

    def _write_artifact(self, weights: Mapping[str, np.ndarray], metrics: Mapping[str, Any]) -> None:
        with atomic_folder(self.settings.folder / MODEL) as staging:
            write_safetensors(self.ship(weights, staging), staging / FILE_NAME)
            hashes = {file.name: sha256_file(file) for file in sorted(staging.iterdir())}
            write_manifest(staging, replace(self.artifact, sha256=hashes, metrics=metrics))

    def _result(self, best: dict[str, Any], final: dict[str, Any], checkpoint: str) -> TrainResult:
        settings, progress = self.settings, self.model.progress
        return TrainResult(
            task=self.artifact.task.kind,
            model=settings.model_name,
            dataset=settings.dataset_name,
            epochs=progress.epoch,
            best=best,
            final=final,
            seconds=round(self._seconds(), 3),
            images_per_second=round(progress.train_images / max(progress.train_seconds, 1e-9), 2),
            seed=settings.seed,
            config_sha256=settings.config_sha256,
            best_checkpoint=f"{CHECKPOINTS}/{checkpoint}",
            history=tuple(self.model.history),
            balance=settings.balance,
        )


def _figures(logs: Mapping[str, Any]) -> dict[str, Any]:
    return {k.removeprefix("val_"): v for k, v in logs.items() if k.startswith("val_")}
