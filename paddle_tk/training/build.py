"""Config -> Trainer. The only place of this package that reads a Config."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from paddle_tk import __version__
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.loader import EvalLoader, TrainLoader, choose_workers
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import build_classifier, resolve_stem
from paddle_tk.models.losses import ClassificationLoss
from paddle_tk.models.small_map_conv import use_small_map_conv
from paddle_tk.models.weights import FILE_NAME, apply_weights, read_weights
from paddle_tk.training.callbacks.early_stopping import EarlyStopping
from paddle_tk.training.callbacks.history import History
from paddle_tk.training.callbacks.pictures import Pictures
from paddle_tk.training.callbacks.progress_bar import ProgressBar
from paddle_tk.training.ema import Ema
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.hapi_metric import TopKMetric
from paddle_tk.training.loggers import FOLDERS, LOGGERS
from paddle_tk.training.mixup import Mixup
from paddle_tk.training.optim import build_optimizer, learning_rate_factor
from paddle_tk.training.precision import Precision
from paddle_tk.training.rng import seed_everything
from paddle_tk.training.run_folder import HISTORY
from paddle_tk.training.trainer import Trainer, TrainerSettings
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

_DEV_BATCHES = 2


@dataclass(frozen=True)
class Loaders:
    """The three loaders of a run."""

    train: TrainLoader
    val: EvalLoader
    test: EvalLoader


def build_trainer(config: Config, folder: Path, config_sha256: str, device: str, output: Output) -> Trainer:
    """Builds everything a run needs; the network's first weights follow from the seed alone.

    Args:
        config: The resolved config.
        folder: The run folder.
        config_sha256: Its hash, for the result.
        device: "cpu" or "gpu:N", already checked.
        output: Where to print.

    Raises:
        BadInput: Anything in data, model or weights that cannot be used, before anything is trained.
    """
    paddle.set_device(device)
    bundle = build_dataset(config, output)
    num_classes = class_count(config, bundle)
    seed_everything(config.seed)
    network = build_network(config, num_classes, output)
    loaders = build_loaders(config, bundle)
    if device == "cpu" and config.trainer.fast_conv:
        use_small_map_conv(network)
    model = _build_model(config, network, num_classes, loaders.train, device, output)
    settings = TrainerSettings(
        folder=folder,
        epochs=epoch_count(config),
        accumulate=config.trainer.accumulate_grad_batches,
        save_every=config.trainer.save_every_n_steps,
        keep_last=config.trainer.keep_last,
        keep_top_k=config.trainer.keep_top_k,
        seed=config.seed,
        model_name=config.model.name,
        dataset_name=bundle.name,
        dataset_fingerprint=bundle.fingerprint,
        config_sha256=config_sha256,
    )
    return Trainer(
        settings=settings,
        model=model,
        train_data=loaders.train,
        val_data=loaders.val,
        test_data=loaders.test,
        make_callbacks=_callback_maker(config, folder, bundle, loaders, output),
        artifact=_artifact(config, bundle, num_classes),
        output=output,
    )


def epoch_count(config: Config) -> int:
    """Returns the epochs to train: one in a fast development run."""
    return 1 if config.trainer.fast_dev_run else config.trainer.max_epochs


def preprocessing(config: Config) -> Preprocessing:
    """Returns the evaluation preprocessing, saved beside the model."""
    mean, std = config.data.mean, config.data.std
    return Preprocessing(
        size=config.data.size,
        resize=config.data.resize,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def build_dataset(config: Config, output: Output) -> DatasetBundle:
    """Loads and splits the dataset, and says what was left out."""
    data = config.data
    bundle = load_dataset(data.name, **data.dataset_arguments)
    if bundle.skipped:
        output.warn(f"{len(bundle.skipped)} unreadable image(s) left out: {', '.join(bundle.skipped[:5])}")
    sizes = ", ".join(f"{name} {len(split)}" for name, split in bundle.splits.items())
    output.say(f"dataset {bundle.name}: {len(bundle.classes)} classes, {sizes}")
    return bundle


def class_count(config: Config, bundle: DatasetBundle) -> int:
    """Returns the network's class count.

    Raises:
        BadInput: The config names another count than the dataset has.
    """
    wanted, found = config.model.num_classes, len(bundle.classes)
    if wanted != "auto" and wanted != found:
        raise BadInput(
            f"class count mismatch: model.num_classes={wanted}, dataset {bundle.name} has {found} classes",
            "set model.num_classes=auto or choose the dataset that fits",
        )
    return found


def build_network(config: Config, num_classes: int, output: Output) -> paddle.nn.Layer:
    """Builds the network and starts it from ``model.weights`` where that is given."""
    model = config.model
    network = build_classifier(
        model.name,
        num_classes=num_classes,
        stem=model.stem,
        image_size=config.data.size,
        dropout=model.dropout,
    )
    if model.weights is not None:
        report = apply_weights(network, read_weights(Path(model.weights)), source=model.weights)
        for line in report.lines():
            output.say(line)
    return network


def build_loaders(config: Config, bundle: DatasetBundle) -> Loaders:
    """Builds the three loaders, with workers and prefetch chosen for the machine where they are "auto"."""
    data, trainer = config.data, config.trainer
    prep = preprocessing(config)
    on_disk = any(split.on_disk for split in bundle.splits.values())
    workers, prefetch = choose_workers(len(bundle.splits["train"]), on_disk, len(os.sched_getaffinity(0)))
    shared: dict[str, Any] = {
        "batch_size": data.batch_size,
        "num_workers": workers if data.num_workers == "auto" else data.num_workers,
        "prefetch_factor": prefetch if data.prefetch_factor == "auto" else data.prefetch_factor,
    }
    transform = TrainTransform(
        prep,
        flip=data.flip,
        crop_padding=data.crop_padding,
        random_resized_crop=tuple(data.random_resized_crop) if data.random_resized_crop else None,
        color_jitter=data.color_jitter,
        rotation_degrees=data.rotation_degrees,
    )
    few = _DEV_BATCHES if trainer.fast_dev_run else None
    still = EvalTransform(prep)
    limit = few or trainer.limit_train_batches
    return Loaders(
        train=TrainLoader(bundle.splits["train"], transform, seed=config.seed, limit_batches=limit, **shared),
        val=EvalLoader(bundle.splits["val"], still, limit_batches=few or trainer.limit_val_batches, **shared),
        test=EvalLoader(bundle.splits["test"], still, limit_batches=few, **shared),
    )


def _build_model(
    config: Config, network: paddle.nn.Layer, num_classes: int, train: TrainLoader, device: str, output: Output
) -> FitModel:
    trainer = config.trainer
    precision = Precision(trainer.precision, trainer.amp_level, device)
    if precision.note:
        output.warn(precision.note)
    factor = learning_rate_factor(
        trainer.schedule,
        updates_per_epoch=-(-train.batches_per_epoch // trainer.accumulate_grad_batches),
        max_epochs=epoch_count(config),
        warmup_epochs=trainer.warmup_epochs,
        step_epochs=trainer.step_epochs,
        step_gamma=trainer.step_gamma,
        min_ratio=trainer.min_lr_ratio,
    )
    optimizer = build_optimizer(
        trainer.optimizer,
        network,
        learning_rate=trainer.learning_rate,
        factor=factor,
        momentum=trainer.momentum,
        nesterov=trainer.nesterov,
        beta1=trainer.beta1,
        beta2=trainer.beta2,
        weight_decay=trainer.weight_decay,
        clip_norm=trainer.gradient_clip_val,
    )
    network, optimizer = precision.decorate(network, optimizer)
    ema = Ema(network, trainer.ema_decay) if trainer.ema_decay > 0 else None
    mix = Mixup(trainer.mixup_alpha, num_classes, config.seed) if trainer.mixup_alpha > 0 else None
    model = FitModel(network, precision=precision, ema=ema, mix=mix)
    model.prepare(optimizer, ClassificationLoss(trainer.label_smoothing), TopKMetric(num_classes))
    return model


def _callback_maker(
    config: Config, folder: Path, bundle: DatasetBundle, loaders: Loaders, output: Output
) -> Callable[[list[dict[str, Any]]], Sequence[paddle.callbacks.Callback]]:
    def make(records: list[dict[str, Any]]) -> list[paddle.callbacks.Callback]:
        trainer = config.trainer
        plain = config.model_dump(mode="json")
        sinks = [
            LOGGERS.load(name)(folder / FOLDERS[name], name=folder.name, config=plain, replay=records)
            for name in trainer.loggers
        ]
        callbacks = [
            History(folder / HISTORY, sinks, trainer.log_every_n_steps, hyper_parameters=plain),
            Pictures(sinks, bundle.splits["val"], bundle.classes),
            ProgressBar(output, epoch_count(config), loaders.train.batches_per_epoch),
        ]
        if trainer.early_stopping_patience is not None:
            callbacks.append(EarlyStopping(trainer.early_stopping_patience, trainer.early_stopping_min_delta))
        return callbacks

    return make


def _artifact(config: Config, bundle: DatasetBundle, num_classes: int) -> ModelArtifact:
    height, width = config.data.size
    stem = resolve_stem(config.model.name, config.model.stem, config.data.size)
    return ModelArtifact(
        path=FILE_NAME,
        format="paddle-safetensors",
        precision="fp32",
        task=Task("classification", bundle.classes),
        inputs=(InputSpec("image", (None, 3, height, width)),),
        outputs=(InputSpec("logits", (None, num_classes)),),
        preprocessing=preprocessing(config),
        sha256={},
        architecture={
            "name": config.model.name,
            "num_classes": num_classes,
            "stem": stem,
            "image_size": [height, width],
            "dropout": config.model.dropout,
        },
        made_by=f"paddle_tk {__version__} train",
    )
