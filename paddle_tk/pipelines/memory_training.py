"""What the memory of a training or an inference follows from. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paddle_tk.errors import BadInput
from paddle_tk.models.classifiers import resolve_stem
from paddle_tk.models.detectors import check_network_size, task_of

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS, LEVELS, DEVICES = ("fp32", "bf16", "fp16"), ("O1", "O2"), ("cpu", "gpu")


@dataclass(frozen=True)
class Training:
    """What the memory of a training or an inference follows from.

    Attributes:
        model: A registered network.
        size: (height, width) in pixels.
        num_classes: Of the network.
        stem: Classifiers: "auto", "imagenet" (the published one) or "small".
        activation: Detectors: of every layer; None: the network's own.
        dropout: Classifiers: before the head; None: the network's own.
        boxes: Detectors: most boxes in an image of a batch.
        optimizer: "sgd", "adam" or "adamw".
        momentum: Of "sgd"; 0: none.
        weight_decay: Of the optimizer.
        ema: Whether averaged weights are kept.
        clip: Whether gradients are clipped.
        accumulate: Whether an update takes several steps.
        mixup: Whether images are mixed.
        label_smoothing: Whether targets are smoothed.
        recompute: As ``trainer.recompute``.
        device: "cpu" or "gpu".
        precision: "fp32", "bf16" or "fp16".
        amp_level: "O1" or "O2".
        fast_conv: Whether small maps are computed by one product on a CPU.
        fast_depthwise: Whether depthwise convolutions are compiled on a CPU.
        inference: A forward pass without gradients instead of a training step.
    """

    model: str
    size: tuple[int, int]
    num_classes: int
    stem: str = "imagenet"
    activation: str | None = None
    dropout: float | None = None
    boxes: int = 20
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    ema: bool = False
    clip: bool = False
    accumulate: bool = False
    mixup: bool = False
    label_smoothing: bool = False
    recompute: bool | Sequence[str] = False
    device: str = "cpu"
    precision: str = "fp32"
    amp_level: str = "O1"
    fast_conv: bool = True
    fast_depthwise: bool = True
    inference: bool = False

    @property
    def detects(self) -> bool:
        """Whether the network is a detector."""
        return task_of(self.model) == "detection"

    @property
    def small_stem(self) -> bool:
        """Whether a classifier gets the stem for small images."""
        return not self.detects and resolve_stem(self.model, self.stem, self.size) == "small"

    @property
    def optimizer_name(self) -> str:
        """The optimizer, "momentum" told from "sgd"."""
        return "momentum" if self.optimizer == "sgd" and self.momentum else self.optimizer

    def check(self) -> None:
        """Refuses what cannot be trained.

        Raises:
            BadInput: An unknown network, optimizer, precision or device, a size that the network cannot take, a
                precision that the device cannot, or no box.
        """
        check_network_size(self.model, self.stem, self.size)
        for what, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision, PRECISIONS),
            ("AMP level", self.amp_level, LEVELS),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise BadInput(f"unknown {what} '{value}'", f"use one of {', '.join(known)}")
        if self.precision == "fp16" and self.device == "cpu":
            raise BadInput("precision fp16 needs a GPU", "use --device gpu, or precision bf16 or fp32")
        if self.boxes < 1:
            raise BadInput(f"{self.boxes} boxes in an image", "use a whole number of at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types, for ``training_from_dict``."""
        return asdict(self)


def training_from_dict(raw: Mapping[str, Any]) -> Training:
    """Returns what ``to_dict`` wrote down."""
    return Training(**{**raw, "size": tuple(raw["size"])})
