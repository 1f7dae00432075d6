"""Config -> what is particular to a task: network, transforms, step, manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from paddle_tk import __version__
from paddle_tk.config.load import all_fields, flatten
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.data.balance import Balance
from paddle_tk.data.box_transforms import BoxEvalTransform, BoxTrainTransform
from paddle_tk.data.bundle import DatasetBundle, label_range
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import build_classifier, resolve_stem
from paddle_tk.models.detectors import build_detector, task_of
from paddle_tk.models.weights import FILE_NAME, apply_weights, read_weights
from paddle_tk.training.distributed import Parallel
from paddle_tk.training.mixup import Mixup
from paddle_tk.training.steps.base import TaskStep
from paddle_tk.training.steps.classification import ClassificationStep
from paddle_tk.training.steps.detection import DetectionStep
from paddle_tk.types import InputSpec, ModelArtifact, Preprocessing, Task

TaskKind = Literal["classification", "detection"]
# Keys that mean something to one task only; another task refuses them rather than ignoring them.
_ONLY: dict[TaskKind, tuple[str, ...]] = {
    "classification": (
        *("model.stem", "model.dropout"),
        *("data.crop_padding", "data.random_resized_crop", "data.color_jitter", "data.rotation_degrees"),
        *("trainer.label_smoothing", "trainer.mixup_alpha", "data.class_weighting", "data.focal_gamma"),
    ),
    "detection": (
        *("model.activation", "model.score_threshold", "model.nms_iou", "model.max_detections"),
        *("data.vertical_flip", "data.scale_jitter", "data.crop", "data.hsv", "data.mosaic", "data.mixup"),
        *("data.mosaic_off_epochs", "data.multi_scale", "data.repeat_threshold"),
    ),
}


def task_kind(config: Config) -> TaskKind:
    """Returns what is trained.

    Raises:
        BadInput: An unknown network, or ``task`` says otherwise.
    """
    kind = task_of(config.model.name)
    if config.task not in ("auto", kind):
        raise BadInput(
            f"task={config.task}, but {config.model.name} is for {kind}",
            f"drop task, or choose a network for {config.task}",
        )
    return kind


def check_settings(config: Config, kind: TaskKind) -> None:
    """Refuses settings that have no meaning for the task.

    Raises:
        BadInput: The message names them all.
    """
    values, fields = flatten(config.model_dump(mode="json")), all_fields(Config)
    other: TaskKind = "detection" if kind == "classification" else "classification"
    foreign = [key for key in _ONLY[other] if values[key] != fields[key].default]
    if foreign:
        told = ", ".join(f"{key}={values[key]}" for key in foreign)
        more = "; the trainer's settings for detection are trainer=detection" if kind == "detection" else ""
        raise BadInput(f"{told}: without meaning for {kind} with {config.model.name}", f"leave it out{more}")
    if kind == "detection" and config.data.resize == "center_crop":
        raise BadInput("data.resize=center_crop would cut objects off", "use letterbox or stretch")


def check_dataset(config: Config, kind: TaskKind, bundle: DatasetBundle) -> None:
    """Refuses a dataset of another task, and detection splits in which nothing is annotated.

    Raises:
        BadInput: The dataset does not fit the network.
    """
    if bundle.kind != kind:
        fitting = "digits_detection, coco, voc or yolo" if kind == "detection" else "digits, cifar10 or image_folder"
        raise BadInput(
            f"{config.model.name} is for {kind}, dataset {bundle.name} for {bundle.kind}", f"choose data={fitting}"
        )
    empty = [name for name, split in bundle.splits.items() if kind == "detection" and label_range(split)[1] < 0]
    if empty:
        raise BadInput(
            f"no image of the {empty[0]} split of {bundle.name} has a box", "check the annotations, or split otherwise"
        )


def preprocessing(config: Config) -> Preprocessing:
    """Returns the evaluation preprocessing, saved beside the model."""
    mean, std = config.data.mean, config.data.std
    return Preprocessing(
        size=config.data.size,
        resize=config.data.resize,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def build_network(config: Config, kind: TaskKind, num_classes: int, output: Output) -> Any:
    """Builds the network and starts it from ``model.weights`` where that is given."""
    model, size = config.model, config.data.size
    if kind == "detection":
        network = build_detector(model.name, num_classes=num_classes, image_size=size, activation=model.activation)
    else:
        network = build_classifier(
            model.name, num_classes=num_classes, stem=model.stem, image_size=size, dropout=model.dropout
        )
    if model.weights is not None:
        report = apply_weights(network, read_weights(Path(model.weights)), source=model.weights)
        for line in report.lines():
            output.say(line)
    return network


def build_transforms(
    config: Config, kind: TaskKind, epochs: int
) -> tuple[TrainTransform, EvalTransform] | tuple[BoxTrainTransform, BoxEvalTransform]:
    """Returns the transforms for training and for evaluation."""
    data, prep = config.data, preprocessing(config)
    if kind == "detection":
        augmented = BoxTrainTransform(
            prep,
            flip=data.flip,
            vertical_flip=data.vertical_flip,
            scale_jitter=_pair(data.scale_jitter),
            crop=data.crop,
            hsv=(data.hsv[0], data.hsv[1], data.hsv[2]),
            mosaic=data.mosaic,
            mosaic_off_epochs=data.mosaic_off_epochs,
            epochs=epochs,
            mixup=data.mixup,
            multi_scale=_pair(data.multi_scale),
        )
        return augmented, BoxEvalTransform(prep)
    plain = TrainTransform(
        prep,
        flip=data.flip,
        crop_padding=data.crop_padding,
        random_resized_crop=_pair(data.random_resized_crop),
        color_jitter=data.color_jitter,
        rotation_degrees=data.rotation_degrees,
    )
    return plain, EvalTransform(prep)


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def build_step(
    config: Config,
    kind: TaskKind,
    network: Any,
    classes: tuple[str, ...],
    parallel: Parallel | None = None,
    balance: Balance | None = None,
) -> TaskStep:
    """Returns the task's step.

    Args:
        config: The resolved config.
        kind: What is trained.
        network: A detector makes its own loss.
        classes: Class names.
        parallel: The processes that take the step together; None: this one alone.
        balance: What is done about unequal classes; None: nothing.
    """
    if kind == "detection":
        loss = network.make_loss()
        if parallel is not None:
            loss.divisor = parallel.divisor
        return DetectionStep(
            classes,
            loss=loss,
            parts=loss.parts,
            preprocessing=preprocessing(config).to_dict(),
            postprocessing=postprocessing(config, network),
            parallel=parallel,
        )
    trainer = config.trainer
    mix = Mixup(trainer.mixup_alpha, len(classes), config.seed, parallel) if trainer.mixup_alpha > 0 else None
    return ClassificationStep(
        classes,
        label_smoothing=trainer.label_smoothing,
        mix=mix,
        parallel=parallel,
        class_weights=() if balance is None else balance.class_weights,
        focal_gamma=0.0 if balance is None else balance.focal_gamma,
        balanced=balance is not None and balance.active,
    )


def postprocessing(config: Config, network: Any) -> dict[str, Any]:
    """Returns what turns a detector's outputs into detections, saved beside the model."""
    model = config.model
    return {
        "score_threshold": model.score_threshold,
        "nms_iou": model.nms_iou if model.nms_iou is not None else network.nms_iou,
        "max_detections": model.max_detections,
    }


def build_artifact(config: Config, kind: TaskKind, network: Any, classes: tuple[str, ...]) -> ModelArtifact:
    """Returns the manifest of what will be trained, without hashes and metrics."""
    (height, width), count = config.data.size, len(classes)
    architecture: dict[str, Any] = {
        "name": config.model.name, "num_classes": count, "image_size": [height, width],
    }  # fmt: skip
    after: dict[str, Any] = {}
    outputs: tuple[InputSpec, ...]
    if kind == "detection":
        task = Task("detection", classes, metric="map50_95")
        cells = sum(-(-height // stride) * -(-width // stride) for stride in network.strides)
        outputs = (InputSpec("boxes", (None, cells, 4)), InputSpec("scores", (None, cells, count)))
        architecture["activation"] = config.model.activation
        after = postprocessing(config, network)
    else:
        task = Task("classification", classes)
        outputs = (InputSpec("logits", (None, count)),)
        architecture["stem"] = resolve_stem(config.model.name, config.model.stem, config.data.size)
        architecture["dropout"] = config.model.dropout
    return ModelArtifact(
        path=FILE_NAME,
        format="paddle-safetensors",
        precision="fp32",
        task=task,
        inputs=(InputSpec("image", (None, 3, height, width)),),
        outputs=outputs,
        preprocessing=preprocessing(config),
        postprocessing=after,
        sha256={},
        architecture=architecture,
        made_by=f"paddle_tk {__version__} train",
    )
