"""What a user asked about memory, from options or a config, and the answer: parts, GPUs, largest batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddle_tk.config.load import load_config
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.workers import choose_workers
from paddle_tk.environment.threads import available_cores
from paddle_tk.errors import BadInput, DataError
from paddle_tk.hardware.gpus import Fit, load_gpus
from paddle_tk.hardware.memory_model import MemoryEstimate
from paddle_tk.models.detectors import task_of
from paddle_tk.pipelines.memory_estimate import estimate_memory, gpu_fits, training_of_config
from paddle_tk.pipelines.memory_training import Training

_BATCH, _MANY_IMAGES, _MOMENTUM = 32, 10**6, 0.9
_DEFAULT_SIZE = {"classification": (224, 224), "detection": (640, 640)}
_DEFAULT_CLASSES = {"classification": 1000, "detection": 80}  # ImageNet's, COCO's


@dataclass(frozen=True)
class Asked:
    """A user's options; None: not given, so that the config or the default counts.

    Attributes:
        config: Path of a config.
        overrides: Of the config.
        model: A network.
        batch_size: Images of a step.
        size: (height, width) in pixels.
        num_classes: Of the network.
        stem: Of a classifier.
        activation: Of a detector.
        boxes: Most boxes of an image.
        optimizer: "sgd" (without momentum), "momentum", "adam" or "adamw".
        precision: "fp32", "bf16" or "fp16".
        amp_level: "O1" or "O2".
        accumulate: Steps of an update.
        recompute: As ``trainer.recompute``.
        device: "cpu" or "gpu".
        ema: Whether averaged weights are kept.
        clip: Whether gradients are clipped.
        inference: A forward pass instead of a training.
        gigabytes: A memory of the user's own, in units of 2^30 bytes.
    """

    config: Path | None = None
    overrides: tuple[str, ...] = ()
    model: str | None = None
    batch_size: int | None = None
    size: tuple[int, int] | None = None
    num_classes: int | None = None
    stem: str | None = None
    activation: str | None = None
    boxes: int | None = None
    optimizer: str | None = None
    precision: str | None = None
    amp_level: str | None = None
    accumulate: int | None = None
    recompute: bool | Sequence[str] | None = None
    device: str | None = None
    ema: bool | None = None
    clip: bool | None = None
    inference: bool = False
    gigabytes: float | None = None


@dataclass(frozen=True)
class Report:
    """The answer.

    Attributes:
        framework: "paddle" or "torch".
        training: What was estimated.
        estimate: At the asked batch.
        gpus: What each GPU holds.
    """

    framework: str
    training: Training
    estimate: MemoryEstimate
    gpus: Mapping[str, Fit]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types, by the names of the command's contract and some more."""
        overhead, sources = load_gpus().overhead, load_gpus().sources
        return {
            **self.estimate.to_dict(),
            "fits": {name: gpu.fits for name, gpu in self.gpus.items()},
            "largest_batch": {name: gpu.largest_batch for name, gpu in self.gpus.items()},
            "gpu_overhead": {
                name: {"mb": cited.value, "origin": "cited", "source": sources[cited.source].url}
                for name, cited in (("context", overhead.context_mb), ("workspace", overhead.workspace_mb))
            },
            "framework": self.framework,
            "training": self.training.to_dict(),
        }

    def line(self) -> str:
        """Returns the result in one line."""
        found, training = self.estimate, self.training
        what = "inference" if training.inference else f"training, {training.optimizer_name}"
        height, width = training.size
        fitting = [gpu.title for gpu in self.gpus.values() if gpu.fits]
        where = "fits none of the GPUs" if not fitting else f"fits {len(fitting)} of {len(self.gpus)} memories"
        return (
            f"{training.model} {height}x{width}, batch {found.batch}, {what}, {self.framework}: peak "
            f"{found.peak_mb:.1f} MB, with cache and margin {found.total_mb:.1f} MB ({found.origin}); {where}"
        )


def report(asked: Asked, framework: str, output: Output) -> Report:
    """Estimates.

    Args:
        asked: The user's options.
        framework: "paddle" or "torch".
        output: Told what was assumed.

    Raises:
        BadInput: What was asked cannot be.
        CheckFailed: The probe failed.
    """
    config = None if asked.config is None else load_config(asked.config, asked.overrides).config
    training = resolve(asked, config, output)
    training.check()
    batch = asked.batch_size or _batch_of(config)
    if framework == "torch":
        from paddle_tk.pipelines.memory_torch import estimate_torch_memory

        model = estimate_torch_memory(training)
    else:
        model = estimate_memory(training)
    queued = 0 if training.inference else _queued(config)
    return Report(framework, training, model.estimate(batch, queued_batches=queued), gpu_fits(
        model, batch, queued_batches=queued, extra_gb=asked.gigabytes))  # fmt: skip


def _batch_of(config: Config | None) -> int:
    if config is None or config.data.batch_size == "auto":
        return _BATCH
    return config.data.batch_size


def _queued(config: Config | None) -> int:
    """Returns the batches that the loader keeps ready: prefetch_factor of each worker."""
    workers, prefetch = choose_workers(_MANY_IMAGES, True, available_cores())
    if config is not None:
        workers = workers if config.data.num_workers == "auto" else config.data.num_workers
        prefetch = prefetch if config.data.prefetch_factor == "auto" else config.data.prefetch_factor
    return max(1, workers) * max(1, prefetch)


def resolve(asked: Asked, config: Config | None, output: Output) -> Training:
    """Returns what is to be estimated: the config or the defaults, changed by the options.

    Raises:
        BadInput: An unknown network, or an option that it does not have.
    """
    name = asked.model or (config.model.name if config is not None else "")
    kind = task_of(name)
    _refuse_foreign(asked, name, kind)
    if config is not None and name == config.model.name:
        if asked.size is not None:  # the stem may follow from it
            data = config.data.model_copy(update={"image_size": list(asked.size)})
            config = config.model_copy(update={"data": data})
        classes = asked.num_classes or _classes(config, kind, output)
        base = training_of_config(config, classes, asked.boxes or Training.boxes, asked.device or "cpu")
        base = replace(base, precision=config.trainer.precision)
    elif config is not None:
        raise BadInput(f"--model {name} contradicts {config.model.name} of the config", "leave one of them out")
    else:
        base = Training(name, _DEFAULT_SIZE[kind], asked.num_classes or _DEFAULT_CLASSES[kind])
    given: dict[str, Any] = {
        "size": asked.size, "stem": asked.stem, "activation": asked.activation, "boxes": asked.boxes,
        "precision": asked.precision, "amp_level": asked.amp_level, "recompute": asked.recompute, "ema": asked.ema,
        "clip": asked.clip, "accumulate": None if asked.accumulate is None else asked.accumulate > 1,
    }  # fmt: skip
    if asked.optimizer is not None:
        given["optimizer"] = "sgd" if asked.optimizer == "momentum" else asked.optimizer
        given["momentum"] = 0.0 if asked.optimizer == "sgd" else _MOMENTUM
    made = replace(base, **{key: value for key, value in given.items() if value is not None}, inference=asked.inference)
    return _on_device(made, asked, output)


def _on_device(training: Training, asked: Asked, output: Output) -> Training:
    """Settles device and precision: low precision is a GPU's."""
    low = training.precision != "fp32"
    device = asked.device or ("gpu" if low else "cpu")
    if device == "cpu" and training.precision == "bf16":
        output.warn("bf16 has no effect on a CPU in Paddle 3.3: estimated in fp32")
        return replace(training, device=device, precision="fp32")
    return replace(training, device=device)


def _refuse_foreign(asked: Asked, name: str, kind: str) -> None:
    for option, value, wanted in (
        ("--stem", asked.stem, "classification"),
        ("--activation", asked.activation, "detection"),
        ("--boxes", asked.boxes, "detection"),
    ):
        if value is not None and kind != wanted:
            raise BadInput(f"{option} {value} has no meaning for {name}", f"leave {option} out")


def _classes(config: Config, kind: str, output: Output) -> int:
    if config.model.num_classes != "auto":
        return config.model.num_classes
    from paddle_tk.data.datasets import load_dataset

    try:
        return len(load_dataset(config.data.name, **config.data.dataset_arguments).classes)
    except (BadInput, DataError) as error:
        default = _DEFAULT_CLASSES[kind]
        output.warn(f"{error.problem}: {default} classes are assumed, --num-classes says otherwise")
        return default
