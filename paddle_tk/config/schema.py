"""Typed sections of a config. Units are in the names or in the field's description.

Every field carries its range, so that all mistakes of a config are found in one pass. Fields marked
``identity: False`` do not change what a training computes; they are left out of the config's hash, so a run can be
resumed on a machine with other folders, workers, processes or logging.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from paddle_tk.config.compare_schema import CompareConfig, DecideConfig, ReportConfig
from paddle_tk.config.section import ADDED_LATER, NOT_IDENTITY, Auto, Section
from paddle_tk.config.trainer_schema import TrainerConfig


class ModelConfig(Section):
    """Which network."""

    name: str = Field("resnet18", description="a registered network (paddle-tk doctor --models lists them)")
    num_classes: int | Auto = Field("auto", description="auto: the dataset's class count")
    stem: Literal["auto", "imagenet", "small"] = Field(
        "auto",
        description="small: stride 1 and no max-pool, for images below 96 px; auto decides by image size",
    )
    weights: str | None = Field(None, description="weights to start from: .safetensors or .pdparams, or a run folder")
    dropout: float | None = Field(None, ge=0, lt=1, description="before the classifier; null: the network's own")
    activation: Literal["silu", "hardswish", "relu", "relu6"] | None = Field(
        None, description="detectors: of every layer; null: the network's own; relu and relu6 make INT8 fast"
    )
    score_threshold: float = Field(0.001, ge=0, lt=1, description="detectors: lowest score that is kept at all")
    nms_iou: float | None = Field(
        None, gt=0, le=1, description="detectors: overlap above which of two boxes the worse one goes; null: its own"
    )
    max_detections: int = Field(100, ge=1, le=10000, description="detectors: most boxes kept in one image")

    @field_validator("num_classes")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be auto or >= 1")
        return value


class DataConfig(Section):
    """Which images, how they are split, transformed and loaded."""

    name: str = Field("digits", description="a registered dataset")
    root: str | None = Field(
        None,
        description="folder or archive; null: $PADDLE_TK_HOME/datasets/<name>",
        json_schema_extra=NOT_IDENTITY,
    )
    image_size: int | list[int] = Field(32, description="network input side in pixels, or [height, width]")
    batch_size: int | Auto = Field(32, description="images per step and process; auto: what the memory holds")
    num_workers: int | Auto = Field(
        "auto", description="loader processes; auto: by cores and dataset", json_schema_extra=NOT_IDENTITY
    )
    prefetch_factor: int | Auto = Field(
        "auto", description="batches each worker prepares ahead", json_schema_extra=NOT_IDENTITY
    )
    val_fraction: float = Field(0.1, gt=0, lt=1, description="of the training images, where no val split is published")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="of all images, where no test split is published")
    split_seed: int = Field(0, ge=0, description="seed of the stratified splits, apart from the training seed")
    max_samples: int | None = Field(None, ge=2, description="stratified subset of the training images")
    resize: Literal["stretch", "center_crop", "letterbox"] = Field("stretch", description="evaluation preprocessing")
    mean: list[float] = Field([0.485, 0.456, 0.406], min_length=3, max_length=3, description="RGB, in 0..1")
    std: list[float] = Field([0.229, 0.224, 0.225], min_length=3, max_length=3, description="RGB, in 0..1")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    crop_padding: int = Field(0, ge=0, le=512, description="pixels padded before a random crop; 0: none")
    random_resized_crop: list[float] | None = Field(
        None, min_length=2, max_length=2, description="[min, max] share of the area kept; null: none"
    )
    color_jitter: float = Field(0.0, ge=0, le=1, description="brightness, contrast and saturation, +- this share")
    rotation_degrees: float = Field(0.0, ge=0, le=180, description="random rotation, +- degrees")
    vertical_flip: float = Field(0.0, ge=0, le=1, description="detection: probability of a vertical flip")
    scale_jitter: list[float] | None = Field(
        None, min_length=2, max_length=2, description="detection: [min, max] factor of a random scale; null: none"
    )
    crop: float = Field(0.0, ge=0, le=1, description="detection: probability of a random crop that keeps objects")
    hsv: list[float] = Field(
        [0.0, 0.0, 0.0], min_length=3, max_length=3, description="detection: largest change of hue, saturation, value"
    )
    mosaic: float = Field(0.0, ge=0, le=1, description="detection: probability of four images in one")
    mixup: float = Field(0.0, ge=0, le=1, description="detection: probability of two images, one upon the other")
    mosaic_off_epochs: int = Field(0, ge=0, description="detection: last epochs without mosaic and mixup")
    multi_scale: list[float] | None = Field(
        None, min_length=2, max_length=2, description="detection: [min, max] factor of each batch's size; null: none"
    )
    skip_unreadable: bool = Field(False, description="go on without images that cannot be decoded")
    shuffle_buffer: int | Auto = Field(
        "auto", description="shards: images shuffled together; auto: by their size", json_schema_extra=ADDED_LATER
    )
    balance: Literal["none", "auto", "oversample", "undersample", "class_weights", "focal", "balanced_sampler"] = Field(
        "none", description="what is done about unequal classes in training", json_schema_extra=ADDED_LATER
    )
    class_weighting: Literal["effective", "inverse"] = Field(
        "effective",
        description="class_weights: by effective number of samples, or 1 / n",
        json_schema_extra=ADDED_LATER,
    )
    focal_gamma: float = Field(
        2.0, ge=0.5, le=10, description="focal: exponent of the loss", json_schema_extra=ADDED_LATER
    )
    repeat_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="detection, oversample: share of images below which a class is repeated; null: the median class's",
        json_schema_extra=ADDED_LATER,
    )

    @property
    def plain_batch_size(self) -> int:
        """The batch size, or the schema's default for ``auto``: for what is no training of its own."""
        default = int(DataConfig.model_fields["batch_size"].default)
        return default if self.batch_size == "auto" else self.batch_size

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        return self.image_size[0], self.image_size[1]

    @property
    def dataset_arguments(self) -> dict[str, Any]:
        """What ``load_dataset`` takes besides the name."""
        names = ("root", "val_fraction", "test_fraction", "split_seed", "skip_unreadable", "max_samples")
        return {name: getattr(self, name) for name in names}

    @field_validator("image_size")
    @classmethod
    def _sizes(cls, value: int | list[int]) -> int | list[int]:
        sides = [value] if isinstance(value, int) else value
        if len(sides) not in (1, 2) or min(sides) < 8 or max(sides) > 4096:
            raise ValueError("must be one side or [height, width], each from 8 to 4096 pixels")
        return value

    @field_validator("batch_size")
    @classmethod
    def _batch(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 65536:
            raise ValueError("must be auto or from 1 to 65536 images")
        return value

    @field_validator("shuffle_buffer")
    @classmethod
    def _buffer(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= 10_000_000:
            raise ValueError("must be auto or from 1 to 10,000,000 images")
        return value

    @field_validator("num_workers", "prefetch_factor")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 0 <= value <= 256:
            raise ValueError("must be auto or from 0 to 256")
        return value

    @field_validator("std")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        if min(value) <= 0:
            raise ValueError("every value must be above 0")
        return value

    @field_validator("hsv")
    @classmethod
    def _gains(cls, value: list[float]) -> list[float]:
        if not (min(value) >= 0 and value[0] <= 0.5 and max(value) < 1):
            raise ValueError("must be three shares from 0, hue at most 0.5, saturation and value below 1")
        return value

    @field_validator("scale_jitter", "multi_scale")
    @classmethod
    def _factors(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not 0.1 <= value[0] <= value[1] <= 4:
            raise ValueError("must be [min, max] with 0.1 <= min <= max <= 4")
        return value

    @field_validator("random_resized_crop")
    @classmethod
    def _area(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("must be [min, max] with 0 < min <= max <= 1")
        return value


class QuantizeConfig(Section):
    """How a trained model becomes an INT8 model, and what that model must keep to before it ships."""

    method: Literal["ptq", "qat"] = Field(
        "ptq",
        description="ptq: calibration only; qat: fine-tuning with fake quantizers",
        json_schema_extra=NOT_IDENTITY,
    )
    algorithm: Literal["abs_max", "hist", "avg", "kl", "mse", "emd"] = Field(
        "abs_max", description="observer that decides where activations are clipped", json_schema_extra=NOT_IDENTITY
    )
    samples: int = Field(512, ge=1, le=100000, description="calibration images", json_schema_extra=NOT_IDENTITY)
    batch_size: int = Field(32, ge=1, le=4096, description="calibration images at once", json_schema_extra=NOT_IDENTITY)
    seed: int = Field(0, ge=0, le=2**31 - 1, description="choice of the images", json_schema_extra=NOT_IDENTITY)
    max_drop: float = Field(
        0.01, ge=0, le=1, description="largest loss of the main metric, as a share", json_schema_extra=NOT_IDENTITY
    )
    min_agreement: float = Field(
        0.95, ge=0, le=1, description="least share of images with FP32's answer", json_schema_extra=NOT_IDENTITY
    )
    max_size_ratio: float = Field(
        0.3, gt=0, le=10, description="largest INT8 / FP32 file size", json_schema_extra=NOT_IDENTITY
    )
    max_latency_ratio: float = Field(
        1.0, gt=0, le=100, description="largest INT8 / FP32 latency", json_schema_extra=NOT_IDENTITY
    )
    allow_slow: bool = Field(
        False, description="let a model pass that is slower than that", json_schema_extra=NOT_IDENTITY
    )
    weight_bits: Literal[7, 8] = Field(
        8, description="7 for x86 processors without VNNI, whose sums overflow", json_schema_extra=NOT_IDENTITY
    )
    latency_rounds: int = Field(
        7, ge=0, le=1000, description="fresh sessions of each model, in turn; 0: none", json_schema_extra=NOT_IDENTITY
    )
    latency_repeats: int = Field(
        20, ge=1, le=100000, description="timed runs in each session", json_schema_extra=NOT_IDENTITY
    )
    epochs: int = Field(2, ge=1, le=1000, description="qat: length of the fine-tuning", json_schema_extra=NOT_IDENTITY)
    learning_rate: float | None = Field(
        None, gt=0, le=100, description="qat: peak; null: 1 % of the training's", json_schema_extra=NOT_IDENTITY
    )
    moving_rate: float = Field(
        0.99, ge=0, lt=1, description="qat: decay of the activations' running scale", json_schema_extra=NOT_IDENTITY
    )
    freeze_norm: bool = Field(
        True, description="qat: batch norm keeps its statistics and trains with them", json_schema_extra=NOT_IDENTITY
    )


class Config(Section):
    """A whole config: what ``config.yaml`` in a run folder holds."""

    task: Literal["auto", "classification", "detection"] = Field("auto", description="auto: what the network is for")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    trainer: TrainerConfig = TrainerConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    compare: CompareConfig = CompareConfig()
    decide: DecideConfig = DecideConfig()
    report: ReportConfig = ReportConfig()
