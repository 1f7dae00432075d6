"""Frozen dataclasses that cross package borders. No third-party import."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Origin = Literal["measured", "estimated", "cited", "stated by the user"]


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded RGB image becomes a network input; saved beside every model and applied identically everywhere.

    Attributes:
        size: Height and width of the network input, in pixels.
        resize: "stretch" (aspect ratio ignored), "center_crop" (shorter side to ``size / crop_ratio``, then the
            middle) or "letterbox" (aspect ratio kept, padded).
        mean: Per channel, in units of 0..1, RGB.
        std: Per channel, in units of 0..1, RGB.
        crop_ratio: Only for "center_crop": side of the crop / side of the resized image.
        pad_value: Only for "letterbox": grey level 0..255 of the padding.
    """

    size: tuple[int, int]
    resize: Literal["stretch", "center_crop", "letterbox"] = "stretch"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_ratio: float = 0.875
    pad_value: int = 114

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size must be (height, width) in pixels, both >= 1, got {self.size}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std need 3 values, std > 0, got mean={self.mean} std={self.std}")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Preprocessing:
        """Rebuilds from ``to_dict``'s result."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        return cls(**fields)


@dataclass(frozen=True)
class InputSpec:
    """A network's input or output tensor. ``None`` in ``shape`` is a free dimension."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Task:
    """What a model is for.

    Attributes:
        kind: "classification" or "detection".
        classes: Class names in the order of the class ids.
        metric: The main metric's key in JSON ("top1", "map50_95").
        higher_is_better: The metric's direction.
    """

    kind: Literal["classification", "detection"]
    classes: tuple[str, ...]
    metric: str = "top1"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("a task needs at least one class")


@dataclass(frozen=True)
class Measurement:
    """One figure with its unit, its raw samples and where it comes from."""

    name: str
    value: float
    unit: str
    n: int
    origin: Origin
    samples: tuple[float, ...] = ()
    device: str = "cpu"
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n < 0 or math.isinf(self.value):
            raise ValueError(f"measurement {self.name!r} needs a finite value and n >= 0, got {self.value}, n={self.n}")


@dataclass(frozen=True)
class ModelArtifact:
    """A model on disk: what manifest.json says. Paths are relative to the manifest's folder.

    Attributes:
        path: The model file.
        format: "paddle-safetensors", "onnx", ...
        precision: "fp32", "int8", ...
        task: What it predicts.
        inputs: Input tensors.
        outputs: Output tensors.
        preprocessing: What turns an image into the input.
        postprocessing: Of a detector: "score_threshold", "nms_iou" (None: no suppression) and "max_detections", which
            turn its outputs into detections; empty for a classifier.
        sha256: Of every file of the artifact, by relative path.
        architecture: How to rebuild the network ({"name": "resnet18", "stem": "small", ...}); empty where the file
            holds the graph itself.
        parent_sha256: Of the model file this one was made from.
        made_by: The step that made it and its version.
        metrics: Figures known when it was written, with their sample counts.
        variant: Of an INT8 file, what its integer form is made for: "x86", "arm" or "tensorrt"; "" else.
    """

    path: str
    format: str
    precision: str
    task: Task
    inputs: tuple[InputSpec, ...]
    outputs: tuple[InputSpec, ...]
    preprocessing: Preprocessing
    sha256: Mapping[str, str]
    architecture: Mapping[str, Any] = field(default_factory=dict)
    postprocessing: Mapping[str, Any] = field(default_factory=dict)
    parent_sha256: str | None = None
    made_by: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""


@dataclass(frozen=True)
class TensorRange:
    """What an activation tensor's values were over the calibration images.

    Attributes:
        low: Smallest value seen.
        high: Largest value seen.
        threshold: The observer's choice of |value| beyond which values are clipped; above 0, at most max |value| but
            for rounding.
        algorithm: The observer that chose it.
        batches: Batches it has seen.
    """

    low: float
    high: float
    threshold: float
    algorithm: str
    batches: int

    def __post_init__(self) -> None:
        if not (self.low <= self.high and 0 <= self.threshold < math.inf):
            raise ValueError(f"expected low <= high and a finite threshold >= 0, got {self}")


@dataclass(frozen=True)
class QuantizationReport:
    """What became of a model's nodes.

    Attributes:
        target: "x86", "arm" or "tensorrt".
        method: "ptq" or "qat".
        algorithm: The observer that chose the activations' thresholds.
        quantized: Names of the nodes that compute in integers.
        skipped: Names of nodes that could have and compute in float, and why.
        calibration: The images the ranges come from: "images" (how many), "origin", "size".
        scales: Summary of the scales, by kind of tensor: "n", "smallest", "median", "largest".
    """

    target: str
    method: str
    algorithm: str
    quantized: tuple[str, ...]
    skipped: Mapping[str, str]
    calibration: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class TrainResult:
    """What a finished training says of itself; ``result.json`` is its ``to_dict``.

    Attributes:
        best: Validation figures of the best epoch ("epoch" included).
        final: Held-out test figures of the best weights, with "n".
        seconds: Wall time of all attempts together, evaluation included.
        images_per_second: Training images per second of training time, evaluation excluded.
        history: One entry per epoch.
        balance: What was done about unequal classes; empty: nothing was asked for.
    """

    task: str
    model: str
    dataset: str
    epochs: int
    best: Mapping[str, Any]
    final: Mapping[str, Any]
    seconds: float
    images_per_second: float
    seed: int
    config_sha256: str
    best_checkpoint: str = ""
    history: tuple[Mapping[str, Any], ...] = ()
    balance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types, without the history, which has a file of its own, and an empty balance."""
        return {k: v for k, v in asdict(self).items() if k != "history" and (v or k != "balance")}


@dataclass(frozen=True)
class Score:
    """One option's score for one criterion.

    Attributes:
        option: Name of the option.
        criterion: Name of the criterion.
        value: 0..5; None where something it needs was not measured.
        low: Least value that the evidence allows; ``value`` where that is known.
        high: Largest value that the evidence allows.
        formula: How the value follows from the evidence, with the numbers in it.
        evidence: The figures it stands on.
        missing: What is missing, by name.
    """

    option: str
    criterion: str
    value: float | None
    low: float
    high: float
    formula: str
    evidence: tuple[Measurement, ...] = ()
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 5 or (self.value is not None and not self.low <= self.value <= self.high):
            raise ValueError(f"a score needs 0 <= low <= value <= high <= 5, got {self.low}, {self.value}, {self.high}")


@dataclass(frozen=True)
class OptionScore:
    """The weighted sum of an option's scores.

    Attributes:
        name: Of the option.
        label: As people say it ("PaddlePaddle 3.3.1 INT8").
        score: 0..5; None where a score is missing.
        low: Least sum that the evidence allows.
        high: Largest.
        passes: Whether it reaches the threshold; None where that depends on what is missing.
    """

    name: str
    label: str
    score: float | None
    low: float
    high: float
    passes: bool | None


@dataclass(frozen=True)
class Flip:
    """A change of one weight or one score that changes the choice, the others being kept.

    Attributes:
        kind: "weight" (the other weights shrink or grow in proportion) or "score".
        criterion: Whose.
        option: Whose score; "" for a weight.
        current: Value now.
        needed: Value at which the choice is a tie, beyond which it flips; None: no value in range does it.
        to: The option that would be chosen then; "" where there is none.
    """

    kind: Literal["weight", "score"]
    criterion: str
    option: str
    current: float
    needed: float | None
    to: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """How firm a choice is.

    Attributes:
        flips: What would change it.
        win_shares: By option, the share of sampled weights in which it has the highest sum; 0..1, they sum to 1.
        samples: How many weights were sampled, uniformly from the simplex (Dirichlet(1, ..., 1)).
        seed: Of the sampling.
        pareto: Options that no other one equals or beats in every criterion.
        dominated: By each other option, one that does.
    """

    flips: tuple[Flip, ...]
    win_shares: Mapping[str, float]
    samples: int
    seed: int
    pareto: tuple[str, ...]
    dominated: Mapping[str, str]


@dataclass(frozen=True)
class Decision:
    """The weighted matrix and what follows from it; ``decision.json`` is its ``to_dict``.

    Attributes:
        options: In the order of their sums.
        criteria: Names, in the order of the config.
        weights: By criterion; they sum to 1.
        threshold: Sum from which an option may be adopted.
        scores: Of every option for every criterion.
        choice: Name of the chosen option; None where the evidence does not allow a choice or none passes.
        reason: Why, in a sentence or two.
        sensitivity: How firm it is; None where there is no choice to test.
        missing: Everything that is missing, in words.
    """

    options: tuple[OptionScore, ...]
    criteria: tuple[str, ...]
    weights: Mapping[str, float]
    threshold: float
    scores: tuple[Score, ...]
    choice: str | None
    reason: str
    sensitivity: Sensitivity | None
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)
