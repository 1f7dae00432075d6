"""The predicted memory of a training: one probe in a process of its own, then any batch for nothing."""

from __future__ import annotations

from dataclasses import replace

from paddle_tk.config.schema import Config
from paddle_tk.environment.threads import available_cores
from paddle_tk.hardware.gpus import Fit, load_gpus, named_memory
from paddle_tk.hardware.memory_model import MOST_IMAGES, MemoryModel, model_from_dict
from paddle_tk.hardware.plan import largest_batch
from paddle_tk.measure.fresh_process import run_fresh
from paddle_tk.models.classifiers import resolve_stem
from paddle_tk.models.detectors import task_of
from paddle_tk.pipelines.memory_training import Training

_PROBE = "paddle_tk.pipelines.memory_probe"
_TIMEOUT_SECONDS = 300.0


def estimate_memory(training: Training, *, threads: int | None = None) -> MemoryModel:
    """Returns the memory of a training or an inference as a function of the batch.

    Args:
        training: What is trained, and how.
        threads: CPU threads of the probe; None: all cores. Without influence on the result.

    Returns:
        A model; ``peak_mb(batch)``, ``estimate(batch)`` and ``largest_batch(memory_mb)`` cost nothing.

    Raises:
        BadInput: It cannot be trained so.
        CheckFailed: The probe failed.
    """
    training.check()
    return run_probe(_PROBE, training, f"the memory of {training.model}", threads)


def run_probe(module: str, training: Training, what: str, threads: int | None) -> MemoryModel:
    """Returns what a probe finds in a process of its own.

    Args:
        module: Answers a training with a model, each as a dictionary.
        training: Already checked.
        what: Is found, for messages.
        threads: CPU threads of the probe; None: all cores.

    Raises:
        BadInput: What the probe refuses.
        CheckFailed: It failed.
    """
    raw = run_fresh(
        module,
        training.to_dict(),
        threads=threads or available_cores(),
        what=what,
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    return model_from_dict(raw)


def estimate_of_config(
    config: Config,
    *,
    num_classes: int,
    boxes_per_image: int = 0,
    input_size: tuple[int, int] | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> MemoryModel:
    """Returns the memory of a config's training.

    Args:
        config: The resolved config; its batch size is not used.
        num_classes: Of the dataset.
        boxes_per_image: Most boxes of an image in a batch; for classification without meaning.
        input_size: Largest (height, width) of a batch; None: ``data.image_size``.
        device: "cpu", "gpu" or "gpu:N".
        threads: CPU threads of the probe; None: all cores.

    Raises:
        BadInput: The config cannot be trained.
        CheckFailed: The probe failed.
    """
    training = training_of_config(config, num_classes, boxes_per_image, device)
    return estimate_memory(replace(training, size=input_size or training.size), threads=threads)


def training_of_config(config: Config, num_classes: int, boxes_per_image: int, device: str) -> Training:
    """Returns what a config's memory follows from.

    The stem is the one of ``data.image_size``, whatever size a batch has.
    """
    model, trainer, detects = config.model, config.trainer, task_of(config.model.name) == "detection"
    many_steps = trainer.accumulate_grad_batches > 1 or trainer.target_batch_size is not None
    on_gpu = device.startswith("gpu")
    return Training(
        model=model.name,
        size=config.data.size,
        num_classes=num_classes,
        stem="imagenet" if detects else resolve_stem(model.name, model.stem, config.data.size),
        activation=model.activation,
        dropout=model.dropout,
        boxes=max(1, boxes_per_image),
        optimizer=trainer.optimizer,
        momentum=trainer.momentum,
        weight_decay=trainer.weight_decay,
        ema=trainer.ema_decay > 0,
        clip=trainer.gradient_clip_val is not None,
        accumulate=many_steps,
        mixup=trainer.mixup_alpha > 0,
        label_smoothing=trainer.label_smoothing > 0,
        recompute=trainer.recompute,
        device="gpu" if on_gpu else "cpu",
        precision=trainer.precision if on_gpu else "fp32",
        amp_level=trainer.amp_level,
        fast_conv=trainer.fast_conv,
        fast_depthwise=trainer.fast_depthwise is not False,
    )


def gpu_fits(
    model: MemoryModel, batch: int, *, queued_batches: int = 0, extra_gb: float | None = None
) -> dict[str, Fit]:
    """Returns what each GPU of the table holds of peak, data cache and margin, besides what a process takes of it.

    Args:
        model: Of the training.
        batch: Images of a step.
        queued_batches: Batches that the loader keeps ready.
        extra_gb: A further memory, in units of 2^30 bytes.
    """
    overhead = load_gpus().overhead.total_mb

    def total_mb(images: int) -> float:
        return model.estimate(images, queued_batches=queued_batches).total_mb + overhead

    found = {}
    for name, gpu in named_memory(extra_gb).items():
        most = largest_batch(gpu.memory_mb, total_mb, 0.0, MOST_IMAGES)
        found[name] = Fit(gpu.title, gpu.memory_mb, total_mb(batch) <= gpu.memory_mb, most, gpu.shared)
    return found
