"""What CREATE.md and PLANNING.md may say; the templates and the questions come from the descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from paddle_tk.config.section import Section

OptionName = Literal["paddle", "torch", "paddle-int8", "torch-int8"]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Points = Annotated[float, Field(ge=0, le=5)]
UNKNOWN = "unknown"
SIZE = r"^[1-9]\d{0,3}x[1-9]\d{0,3}$"


class ProjectNeeds(Section):
    """What it is called."""

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$",
        description="short name for folders and images: a letter, then letters, digits, - or _",
        examples=["parts-check"],
    )


class TeamNeeds(Section):
    """Who does it."""

    name: Label = Field(description="whose project it is", examples=["Line 3"])
    size: int = Field(ge=1, le=10000, description="people", examples=[3])
    familiarity: dict[str, float | None] = Field(
        min_length=1,
        description="how well the team knows each framework, 0 (never used) to 5 (daily), or unknown",
        examples=[{"paddle": 3.0, "torch": 4.0}],
    )

    @field_validator("familiarity", mode="before")
    @classmethod
    def _points_or_unknown(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        wrong = {k: v for k, v in value.items() if v != UNKNOWN and not _is_points(v)}
        if wrong:
            raise ValueError(f"must be from 0 to 5 or {UNKNOWN} for {', '.join(str(k) for k in wrong)}")
        return {str(k): None if v == UNKNOWN else float(v) for k, v in value.items()}


def _is_points(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 5


class TaskNeeds(Section):
    """What the model is for."""

    kind: Literal["classification", "detection"] = Field(
        description="classification or detection", examples=["classification"]
    )
    goal: Text = Field(description="what it is for, in a sentence", examples=["tell ten kinds of parts apart"])


class DataNeeds(Section):
    """What it learns from."""

    name: Label = Field(description="a registered dataset or a name of your own", examples=["digits"])
    images: int = Field(ge=1, description="labelled images", examples=[1797])
    classes: int = Field(ge=1, le=100000, description="classes", examples=[10])
    image_size: str = Field(pattern=SIZE, description="network input in pixels, HxW", examples=["32x32"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image_size.split("x")
        return int(height), int(width)


class AccuracyNeeds(Section):
    """How good it must be."""

    metric: Literal["top1", "top5", "map50", "map50_95"] = Field(
        description="top1 or top5 (classification), map50 or map50_95 (detection)", examples=["top1"]
    )
    minimum: float = Field(gt=0, le=1, description="least value on the test images, above 0 to 1", examples=[0.9])


class LatencyNeeds(Section):
    """How fast it must be on one device."""

    device: Label = Field(description="one of devices", examples=["x86-cpu"])
    percentile: Literal[50, 95, 99] = Field(description="50, 95 or 99", examples=[95])
    maximum_ms: float = Field(gt=0, le=1e6, description="for one image, in ms", examples=[20.0])


class MemoryNeeds(Section):
    """How much it may take on one device."""

    device: Label = Field(description="one of devices", examples=["x86-cpu"])
    maximum_mb: float = Field(gt=0, description="peak while it predicts, in MB of 2^20 bytes", examples=[1024.0])


class ExportNeeds(Section):
    """What the exported file must hold."""

    parity: float = Field(1e-4, gt=0, le=1, description="largest difference to the framework", examples=[0.0001])


class Int8Needs(Section):
    """Whether INT8 is wanted."""

    required: bool = Field(False, description="true or false", examples=[True])
    maximum_accuracy_drop: float = Field(
        0.01, ge=0, lt=1, description="largest loss of accuracy, as a share", examples=[0.01]
    )


class BudgetNeeds(Section):
    """What it may cost."""

    hours: float = Field(gt=0, description="hours of computing for one training", examples=[8.0])
    debug_hours: float = Field(gt=0, description="hours of work for mending what goes wrong", examples=[16.0])
    amount: float = Field(ge=0, description="money", examples=[500.0])
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="three letters", examples=["EUR"])
    deadline: date = Field(description="YYYY-MM-DD", examples=[date(2027, 3, 31)])


class Create(Section):
    """CREATE.md: what is needed."""

    project: ProjectNeeds
    team: TeamNeeds
    task: TaskNeeds
    data: DataNeeds
    accuracy: AccuracyNeeds
    latency: list[LatencyNeeds] = Field(min_length=1, description="one entry for each device that has a limit")
    devices: list[Label] = Field(
        min_length=1, description="where it runs: names of docs/edge.md", examples=[["x86-cpu", "jetson-orin-nano"]]
    )
    budget: BudgetNeeds
    memory: list[MemoryNeeds] = Field([], description="one entry for each device that has a limit; may be left out")
    export: ExportNeeds = ExportNeeds(parity=1e-4)
    int8: Int8Needs = Int8Needs(required=False, maximum_accuracy_drop=0.01)


class ModelPlan(Section):
    """A network that is considered."""

    name: Label = Field(description="a registered network", examples=["resnet18"])
    parameters: int | None = Field(
        None, ge=1, description="how many; null: its memory is not estimated", examples=[11173962]
    )


class TrainingPlan(Section):
    """How it is trained."""

    batch_size: int = Field(ge=1, description="images in an update", examples=[32])
    epochs: int = Field(ge=1, description="passes over the training images", examples=[20])
    learning_rate: float = Field(gt=0, le=10, description="at the start", examples=[0.001])
    optimizer: Literal["sgd", "momentum", "adam", "adamw"] = Field(
        description="sgd, momentum, adam or adamw", examples=["adamw"]
    )


class GpuPlan(Section):
    """GPUs of one kind."""

    name: Label = Field(description="as its maker calls it", examples=["RTX 4090"])
    count: int = Field(ge=1, description="how many", examples=[1])
    memory_gb: float = Field(gt=0, description="of each", examples=[24.0])


class ResourcesPlan(Section):
    """What there is."""

    gpus: list[GpuPlan] = Field(description="GPUs to train on; [] for none")
    ram_gb: float = Field(gt=0, description="memory of the training machine, in GB of 2^30 bytes", examples=[16.0])
    people: int = Field(ge=1, description="who work on it", examples=[2])
    cuda: str | None = Field(
        None,
        pattern=r"^\d+\.\d+$",
        description="wanted in the GPU image, in quotes; null: the default",
        examples=["12.6"],
    )
    driver: str | None = Field(
        None, pattern=r"^\d+(\.\d+)*$", description="NVIDIA driver of the host, in quotes", examples=["560.35.03"]
    )


class MemoryFigure(Section):
    """A peak of memory that somebody knows."""

    use: Literal["training", "inference"] = Field(description="training or inference", examples=["training"])
    device: Label = Field(description="cpu, gpu or one of devices", examples=["gpu"])
    peak_mb: float = Field(gt=0, description="in MB of 2^20 bytes", examples=[1800.0])
    source: Label = Field(description="where the figure comes from", examples=["our training of last year"])


class RiskPlan(Section):
    """What may go wrong."""

    risk: Text = Field(description="what may go wrong", examples=["lighting on site differs from the training images"])
    likelihood: Literal["low", "medium", "high"] = Field(description="low, medium or high", examples=["medium"])
    action: Text = Field(description="what is done about it", examples=["collect 500 images on site first"])


class Planning(Section):
    """PLANNING.md: what has been decided and what there is."""

    start: date = Field(description="YYYY-MM-DD", examples=[date(2027, 1, 11)])
    options: list[OptionName] = Field(
        min_length=2,
        description="what is considered, two at least: paddle, torch, paddle-int8, torch-int8",
        examples=[["paddle", "torch", "paddle-int8"]],
    )
    models: list[ModelPlan] = Field(min_length=1, description="candidates; the first one is built")
    training: TrainingPlan
    resources: ResourcesPlan
    decisions: list[Text] = Field(
        min_length=1, description="what has been settled, in sentences", examples=[["Images do not leave the site."]]
    )
    risks: list[RiskPlan] = Field(min_length=1, description="one entry for each")
    weights: dict[str, float] | None = Field(
        None,
        description="of the criteria, sum 1; null: the config's",
        examples=[{"team_familiarity": 0.3, "deployment_ease": 0.25, "performance": 0.25, "community": 0.2}],
    )
    threshold: Points | None = Field(None, description="least sum, 0 to 5; null: the config's", examples=[3.5])
    scores: dict[str, dict[str, Points]] = Field(
        {},
        description="scores you state instead of having them worked out, by option and criterion",
        examples=[{"torch": {"deployment_ease": 3.5}}],
    )
    versions: dict[str, str] = Field(
        {}, description="versions you want, in quotes, by package (python too)", examples=[{"python": "3.11"}]
    )
    memory: list[MemoryFigure] = Field([], description="peaks you know; may be left out")
