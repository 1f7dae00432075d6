"""Config -> Trainer. The only place of this package that reads a Config."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.balance import Balance, plan_balance
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.epoch_order import EpochOrder
from paddle_tk.data.loader import EvalLoader, TrainLoader, choose_workers
from paddle_tk.data.shares import Share
from paddle_tk.errors import BadInput, some
from paddle_tk.models.recompute import use_recompute
from paddle_tk.models.small_map_conv import use_small_map_conv
from paddle_tk.training.build_callbacks import build_callbacks
from paddle_tk.training.build_ranks import (
    Batches,
    build_together,
    check_same,
    check_shares,
    join_network,
    share_batches,
)
from paddle_tk.training.build_task import (
    TaskKind,
    build_artifact,
    build_network,
    build_step,
    build_transforms,
    check_dataset,
    check_settings,
    task_kind,
)
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.ema import Ema
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.optim import build_optimizer
from paddle_tk.training.precision import Precision
from paddle_tk.training.rng import seed_everything
from paddle_tk.training.schedule import learning_rate_factor
from paddle_tk.training.steps.base import TaskStep
from paddle_tk.training.together import Together
from paddle_tk.training.trainer import Trainer, TrainerSettings

_DEV_BATCHES = 2


@dataclass(frozen=True)
class Loaders:
    """The three loaders of a run."""

    train: TrainLoader
    val: EvalLoader
    test: EvalLoader


Adapt = Callable[[paddle.nn.Layer, DatasetBundle], None]


def build_trainer(
    config: Config,
    folder: Path,
    config_sha256: str,
    device: str,
    output: Output,
    *,
    adapt: Adapt | None = None,
    parallel: Parallel | None = None,
) -> Trainer:
    """Builds everything a run needs; the network's first weights follow from the seed alone.

    Args:
        config: The resolved config.
        folder: The run folder.
        config_sha256: Its hash, for the result.
        device: "cpu" or "gpu:N", already checked.
        output: Where to print.
        adapt: Called with the network, its first weights set, and the dataset, before the optimizer is built: what it
            adds to the network is trained, saved and resumed with it.
        parallel: The processes that train together, each of which calls this; None: this one alone.

    Raises:
        BadInput: Anything in data, model or weights that cannot be used, before anything is trained.
    """
    paddle.set_device(device)
    if parallel is not None and not parallel.writes:
        output = Output(silent=True)
    together = build_together(config, device, parallel)
    kind = task_kind(config)
    bundle = _checked_dataset(config, kind, output)
    check_same(parallel, bundle, config_sha256)
    batches = share_batches(config, folder, parallel, output)
    balance = build_balance(config, bundle, output)
    check_shares(batches, _epoch_images(bundle, balance))
    seed_everything(config.seed)
    network = build_network(config, kind, class_count(config, bundle), output)
    local = 1 if parallel is None else parallel.place.local_world
    loaders = build_loaders(config, kind, bundle, batches.share, local, None if balance is None else balance.order)
    use_fast_kernels(config, network, device)
    if adapt is not None:
        adapt(network, bundle)
    join_network(config, network, parallel)
    recompute_layers(config, network, output)
    step = build_step(config, kind, network, bundle.classes, parallel, balance)
    model = _build_model(config, network, step, loaders.train, batches.accumulate, device, output, together)
    return Trainer(
        settings=_settings(config, folder, config_sha256, bundle, batches, balance),
        model=model,
        train_data=loaders.train,
        val_data=loaders.val,
        test_data=loaders.test,
        make_callbacks=build_callbacks(
            config, folder, epochs=epoch_count(config), batches=loaders.train.batches_per_epoch, device=device,
            output=output, writes=parallel is None or parallel.writes,
        ),
        artifact=build_artifact(config, kind, network, bundle.classes),
        output=output,
        parallel=parallel,
    )  # fmt: skip


def _checked_dataset(config: Config, kind: TaskKind, output: Output) -> DatasetBundle:
    bundle = build_dataset(config, output)
    check_dataset(config, kind, bundle)
    check_settings(config, kind)
    return bundle


def _settings(
    config: Config, folder: Path, config_sha256: str, bundle: DatasetBundle, batches: Batches, balance: Balance | None
) -> TrainerSettings:
    return TrainerSettings(
        folder=folder,
        epochs=epoch_count(config),
        accumulate=batches.accumulate,
        batch_sizes=batches.share.sizes,
        save_every=config.trainer.save_every_n_steps,
        keep_last=config.trainer.keep_last,
        keep_top_k=config.trainer.keep_top_k,
        seed=config.seed,
        model_name=config.model.name,
        dataset_name=bundle.name,
        dataset_fingerprint=bundle.fingerprint,
        config_sha256=config_sha256,
        balance={} if balance is None else balance.to_dict(),
    )


def epoch_count(config: Config) -> int:
    """Returns the epochs to train: one in a fast development run."""
    return 1 if config.trainer.fast_dev_run else config.trainer.max_epochs


def build_dataset(config: Config, output: Output) -> DatasetBundle:
    """Loads and splits the dataset, and says what was left out."""
    data = config.data
    bundle = load_dataset(data.name, **data.dataset_arguments)
    for remark in bundle.remarks:
        output.warn(remark)
    sizes = ", ".join(f"{name} {len(split)}" for name, split in bundle.splits.items())
    output.say(f"dataset {bundle.name}: {len(bundle.classes)} classes, {sizes}")
    return bundle


def build_balance(config: Config, bundle: DatasetBundle, output: Output) -> Balance | None:
    """Decides what is done about unequal classes, and says it; None, without counting, where nothing is asked for.

    Raises:
        BadInput: A method that is not for the task.
    """
    data = config.data
    if data.balance == "none":
        return None
    balance = plan_balance(
        bundle.splits["train"],
        bundle.classes,
        data.balance,
        weighting=data.class_weighting,
        gamma=data.focal_gamma,
        threshold=data.repeat_threshold,
    )
    output.say(balance.line())
    return balance


def _epoch_images(bundle: DatasetBundle, balance: Balance | None) -> int:
    return len(bundle.splits["train"] if balance is None or balance.order is None else balance.order)


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


def use_fast_kernels(config: Config, network: paddle.nn.Layer, device: str) -> None:
    """Lets the network compute by our own kernels while it trains on a CPU.

    Raises:
        BadInput: ``trainer.fast_depthwise=true`` where that cannot be.
    """
    wanted = config.trainer.fast_depthwise
    if device != "cpu":
        if wanted is True:
            raise BadInput(
                f"trainer.fast_depthwise=true is for training on a CPU, this run uses {device}",
                "use trainer.fast_depthwise=auto",
            )
        return
    if config.trainer.fast_conv:
        use_small_map_conv(network)
    if wanted is not False:
        from paddle_tk.models.depthwise import use_fast_depthwise  # loads a compiler

        use_fast_depthwise(network, required=wanted is True)


def recompute_layers(config: Config, network: paddle.nn.Layer, output: Output) -> None:
    """Lets the chosen layers of the network give up their activations, and says which.

    Raises:
        BadInput: A layer that the network does not have.
    """
    names = use_recompute(network, config.trainer.recompute)
    if names:
        output.say(f"recompute: {len(names)} layers compute twice and keep their inputs only: {some(names)}")


def build_loaders(
    config: Config,
    kind: TaskKind,
    bundle: DatasetBundle,
    share: Share | None = None,
    local_processes: int = 1,
    order: EpochOrder | None = None,
) -> Loaders:
    """Builds the three loaders, with workers and prefetch chosen for the machine where they are "auto".

    Args:
        config: The resolved config.
        kind: What is trained.
        bundle: The dataset.
        share: This process's part of the batches; None: all of ``data.batch_size``.
        local_processes: Processes that share this machine's cores.
        order: Which images a training epoch shows; None: each once.
    """
    data, trainer = config.data, config.trainer
    on_disk = any(split.on_disk for split in bundle.splits.values())
    cores = max(1, len(os.sched_getaffinity(0)) // local_processes)
    workers, prefetch = choose_workers(len(bundle.splits["train"]), on_disk, cores)
    shared: dict[str, Any] = {
        "batch_size": data.batch_size if share is None else share.whole,
        "share": share,
        "num_workers": workers if data.num_workers == "auto" else data.num_workers,
        "prefetch_factor": prefetch if data.prefetch_factor == "auto" else data.prefetch_factor,
    }
    augmented, still = build_transforms(config, kind, epoch_count(config))
    few = _DEV_BATCHES if trainer.fast_dev_run else None
    limit = few or trainer.limit_train_batches
    return Loaders(
        train=TrainLoader(
            bundle.splits["train"], augmented, seed=config.seed, limit_batches=limit, order=order,
            shuffle_buffer=None if data.shuffle_buffer == "auto" else data.shuffle_buffer, **shared,
        ),
        val=EvalLoader(bundle.splits["val"], still, limit_batches=few or trainer.limit_val_batches, **shared),
        test=EvalLoader(bundle.splits["test"], still, limit_batches=few, **shared),
    )  # fmt: skip


def _build_model(
    config: Config,
    network: paddle.nn.Layer,
    step: TaskStep,
    train: TrainLoader,
    accumulate: int,
    device: str,
    output: Output,
    together: Together | None,
) -> FitModel:
    trainer = config.trainer
    precision = Precision(trainer.precision, trainer.amp_level, device)
    if precision.note:
        output.warn(precision.note)
    factor = learning_rate_factor(
        trainer.schedule,
        updates_per_epoch=-(-train.batches_per_epoch // accumulate),
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
    model = FitModel(network, task=step, precision=precision, ema=ema, together=together)
    model.prepare(optimizer, step.loss, step.metrics)
    return model
