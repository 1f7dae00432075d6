"""Config -> the folder that both frameworks start from: batches, first weights and a plan, written once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.compare.inputs import (
    PLAN,
    TEST,
    TRAIN,
    VAL,
    WEIGHTS,
    Array,
    Plan,
    SharedInputs,
    inputs_sha256,
    open_inputs,
    truth_name,
    write_truth,
)
from paddle_tk.compare.torch_models import TWINS
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.errors import BadInput
from paddle_tk.files import MIB, atomic_folder, require_free_space, sha256_file, write_json

__all__ = ["TWINS", "SharedInputs", "build_shared_inputs", "check_comparable"]

_SPARE_BYTES = 64 * MIB  # for everything but the images


def check_comparable(config: Config) -> None:
    """Refuses what cannot be the same in both frameworks.

    Raises:
        BadInput: The first such setting.
    """
    name, trainer = config.model.name, config.trainer
    if name not in TWINS:
        raise BadInput(f"model.name={name} has no twin in torch", f"choose one of {', '.join(TWINS.names())}")
    for key, found, needed in (
        ("trainer.precision", trainer.precision, "fp32"),
        ("trainer.ema_decay", trainer.ema_decay, 0),
        ("trainer.mixup_alpha", trainer.mixup_alpha, 0),
        ("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, 1),
        ("trainer.target_batch_size", trainer.target_batch_size, None),
        ("data.batch_size", config.data.batch_size, config.data.plain_batch_size),
        ("trainer.early_stopping_patience", trainer.early_stopping_patience, None),
        ("data.multi_scale", config.data.multi_scale, None),
        ("data.balance", config.data.balance, "none"),
    ):
        if found != needed:
            told = "null" if needed is None else needed
            raise BadInput(f"{key}={found} cannot be compared fairly: the twin does without", f"set {key}={told}")


def build_shared_inputs(config: Config, folder: Path, *, epochs: int, output: Output) -> SharedInputs:
    """Writes what both frameworks start from; Paddle's threads must have been set before.

    Order and augmentation are those of the toolkit's own loader. A folder that stood there is replaced, once all is
    written.

    Args:
        config: The resolved config; its ``trainer.max_epochs`` is not used.
        folder: Written whole or not at all.
        epochs: Epochs of training batches, >= 1; also the length of the schedule.
        output: Where to print.

    Returns:
        The folder, opened.

    Raises:
        BadInput: The config cannot be compared fairly, or the disk is too small.
        DataError: The dataset cannot be used.
    """
    from paddle_tk.data.boxes import AnnotatedSplit
    from paddle_tk.models.weights import network_arrays, write_safetensors
    from paddle_tk.training.build import build_dataset, build_loaders, class_count
    from paddle_tk.training.build_task import build_network, check_dataset, check_settings, task_kind
    from paddle_tk.training.rng import seed_everything

    check_comparable(config)
    config = config.model_copy(update={"trainer": config.trainer.model_copy(update={"max_epochs": epochs})})
    kind = task_kind(config)
    bundle = build_dataset(config, output)
    check_dataset(config, kind, bundle)
    check_settings(config, kind)
    count = class_count(config, bundle)
    seed_everything(config.seed)
    network = build_network(config, kind, count, output)
    loaders = build_loaders(config, kind, bundle)
    plan = _plan(config, kind, network, bundle, loaders.train, epochs)
    _check_space(plan, folder, loaders)
    with atomic_folder(folder) as staging:
        write_safetensors(network_arrays(network), staging / WEIGHTS)
        steps = epochs * plan.batches_per_epoch
        with output.progress("shared batches", steps + len(loaders.val) + len(loaders.test)) as advance:
            _write_train(plan, loaders.train, staging, advance)
            for name, loader in ((VAL, loaders.val), (TEST, loaders.test)):
                written = _write_eval(name, loader, staging, advance)
                if isinstance(loader.split, AnnotatedSplit):
                    write_truth(loader.split, staging / truth_name(name), written)
        _write_plan(plan, staging)
    opened = open_inputs(folder)
    total = sum(entry["bytes"] for entry in opened.files.values())
    output.say(f"shared inputs: {steps} training batches, {total / MIB:.0f} MiB, sha256 {opened.sha256[:12]}")
    return opened


def _plan(config: Config, kind: Any, network: Any, bundle: Any, train: Any, epochs: int) -> Plan:
    from paddle_tk.models.classifiers import resolve_stem
    from paddle_tk.training.build_task import postprocessing, preprocessing

    model, trainer, boxes = config.model, config.trainer, kind == "detection"
    count = len(bundle.classes)
    batches = train.batches_per_epoch
    images = sum(train.batch_samples(step) for step in range(batches))
    plan = Plan(
        kind=kind,
        model={
            "name": model.name,
            "num_classes": count,
            "stem": None if boxes else resolve_stem(model.name, model.stem, config.data.size),
            "image_size": list(config.data.size),
            "dropout": None if boxes else model.dropout,
            "activation": model.activation if boxes else None,
        },
        optimizer=_optimizer(trainer),
        schedule=_schedule(trainer, batches, epochs),
        label_smoothing=trainer.label_smoothing,
        epochs=epochs,
        batches_per_epoch=batches,
        batch_size=config.data.plain_batch_size,
        epoch_images=images,
        precision=trainer.precision,
        classes=tuple(bundle.classes),
        metric="map50_95" if boxes else "top1",
        preprocessing=preprocessing(config).to_dict(),
        postprocessing=postprocessing(config, network) if boxes else {},
        seed=config.seed,
        kernels={"fast_conv": trainer.fast_conv, "fast_depthwise": trainer.fast_depthwise},
        dataset={"name": bundle.name, "fingerprint": bundle.fingerprint},
    )
    if not plan.whole_batches:
        raise BadInput(
            f"data.batch_size={plan.batch_size} leaves no whole batch in {images} training images",
            f"choose a batch size of at most {images}",
        )
    return plan


def _optimizer(trainer: Any) -> dict[str, Any]:
    return {
        "name": trainer.optimizer,
        "learning_rate": trainer.learning_rate,
        "momentum": trainer.momentum,
        "nesterov": trainer.nesterov,
        "beta1": trainer.beta1,
        "beta2": trainer.beta2,
        "weight_decay": trainer.weight_decay,
        "clip_norm": trainer.gradient_clip_val,
    }


def _schedule(trainer: Any, batches_per_epoch: int, epochs: int) -> dict[str, Any]:
    return {
        "schedule": trainer.schedule,
        "updates_per_epoch": batches_per_epoch,
        "max_epochs": epochs,
        "warmup_epochs": trainer.warmup_epochs,
        "step_epochs": list(trainer.step_epochs),
        "step_gamma": trainer.step_gamma,
        "min_ratio": trainer.min_lr_ratio,
    }


def _check_space(plan: Plan, folder: Path, loaders: Any) -> None:
    height, width = plan.model["image_size"]
    images = plan.epochs * plan.batches_per_epoch * plan.batch_size
    images += sum(len(loader.split) for loader in (loaders.val, loaders.test))
    needed = images * 3 * height * width * np.dtype(np.float32).itemsize + _SPARE_BYTES
    require_free_space(folder, needed, f"the batches of {plan.epochs} epochs")


class _ArrayFile:
    """A ``.npy`` file that is written row by row, so that a full disk is an error and not a signal."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any) -> None:
        self._shape, self._dtype, self._rows = shape, np.dtype(dtype), 0
        self._stream = path.open("wb")
        write_header: Any = np.lib.format.write_array_header_1_0  # has no types
        head = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        write_header(self._stream, head)

    def add(self, rows: Array) -> None:
        """Appends rows (n, *shape[1:])."""
        if rows.shape[1:] != self._shape[1:] or rows.dtype != self._dtype:
            raise ValueError(f"rows {rows.dtype} {rows.shape} for an array {self._dtype} {self._shape}")
        self._stream.write(np.ascontiguousarray(rows).tobytes())
        self._rows += len(rows)

    def close(self) -> None:
        """Ends the file.

        Raises:
            ValueError: Rows are missing.
        """
        self._stream.close()
        if self._rows != self._shape[0]:
            raise ValueError(f"{self._rows} rows were written of {self._shape[0]}")


def _write_train(plan: Plan, loader: Any, folder: Path, advance: Any) -> None:
    height, width = plan.model["image_size"]
    steps = plan.epochs * plan.batches_per_epoch
    file = _ArrayFile(folder / f"{TRAIN}_images.npy", (steps, plan.batch_size, 3, height, width), np.float32)
    labels = []
    for epoch in range(plan.epochs):
        loader.start(epoch)
        for images, targets in loader:
            file.add(_filled(images.numpy(), plan.batch_size)[None])
            labels.append(_filled(targets.numpy(), plan.batch_size))
            advance(1)
    file.close()
    np.save(folder / f"{TRAIN}_labels.npy", np.stack(_equal_length(labels)))


def _write_eval(name: str, loader: Any, folder: Path, advance: Any) -> int:
    """Writes a split; returns how many images it has."""
    file, labels = None, []
    total = int(sum(loader.batch_samples(step) for step in range(len(loader))))
    for images, targets in loader:
        rows = images.numpy()
        if file is None:
            file = _ArrayFile(folder / f"{name}_images.npy", (total, *rows.shape[1:]), np.float32)
        file.add(rows)
        labels.append(targets.numpy())
        advance(1)
    if file is not None:
        file.close()
    np.save(folder / f"{name}_labels.npy", np.concatenate(_equal_length(labels)))
    return total


def _filled(rows: Array, count: int) -> Array:
    """Fills a batch up with zeros; what reads it cuts them off."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])


def _equal_length(batches: Iterable[Array]) -> list[Array]:
    """Fills targets (B, M, 5) up to one M with rows of class -1; labels (B,) stay as they are."""
    listed = list(batches)
    if listed[0].ndim == 1:
        return listed
    longest = max(rows.shape[1] for rows in listed)
    out = []
    for rows in listed:
        wide = np.zeros((len(rows), longest, rows.shape[2]), rows.dtype)
        wide[:, :, 0] = -1
        wide[:, : rows.shape[1]] = rows
        out.append(wide)
    return out


def _write_plan(plan: Plan, folder: Path) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in sorted(folder.iterdir())
    }
    told = plan.to_dict()
    write_json(folder / PLAN, {"sha256": inputs_sha256(told, files), "plan": told, "files": files})
