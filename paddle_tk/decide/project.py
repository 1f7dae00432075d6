"""What a project is to be made of: the machine-readable head of INITIAL.md, which the scaffold reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paddle_tk.decide.front_matter import read_document
from paddle_tk.errors import BadInput

STAGES = ("venv", "docker")
INITIAL = "INITIAL.md"
_KEY = "project"
_ASK = "make it with: python tools/decide.py --create CREATE.md --planning PLANNING.md --output DIR"


@dataclass(frozen=True)
class DatasetSpec:
    """The data a project trains on.

    Attributes:
        name: Of the dataset ("digits", "cifar10", or the user's own).
        num_classes: How many classes; >= 2.
        image_size: Height and width of the network input, in pixels.
    """

    name: str
    num_classes: int
    image_size: tuple[int, int]


@dataclass(frozen=True)
class ProjectSpec:
    """A project, ready to be written.

    Attributes:
        name: Of the project: letters, digits, "-" and "_"; fit for a folder and a container.
        task: "classification" or "detection".
        framework: "paddle" or "torch".
        model: The network ("resnet18").
        dataset: What it trains on.
        batch_size: Images per update.
        epochs: Passes over the training images.
        learning_rate: At the start.
        versions: By stage ("venv": CPU; "docker": GPU), version by package; besides distributions it has "python"
            and, in "docker", "cuda" and "driver" (the least one).
        initial_sha256: Of the INITIAL.md it was read from; "" where it was not read from a file.
        team: Whose project it is; any text the user wrote.
    """

    name: str
    task: Literal["classification", "detection"]
    framework: Literal["paddle", "torch"]
    model: str
    dataset: DatasetSpec
    batch_size: int
    epochs: int
    learning_rate: float
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    initial_sha256: str = ""
    team: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {**asdict(self), "dataset": {**asdict(self.dataset), "image_size": list(self.dataset.image_size)}}


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Dataset(_Head):
    name: str
    num_classes: int = Field(ge=1)
    image_size: list[int] = Field(min_length=2, max_length=2)


class _Project(_Head):
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
    task: Literal["classification", "detection"]
    framework: Literal["paddle", "torch"] | None
    model: str
    dataset: _Dataset
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    versions: dict[Literal["venv", "docker"], dict[str, str]] = {}
    team: str = ""


class _Quoted(yaml.SafeDumper):
    """Writes text that could be taken for HTML or Markdown in double quotes, where characters can be escaped."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if any(c in value for c in "<>&`") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Quoted.add_representer(str, _text)


def front_matter(values: Mapping[str, Any]) -> str:
    """Returns a YAML front matter, fences included, that no Markdown renderer takes for HTML."""
    text = yaml.dump(dict(values), Dumper=_Quoted, sort_keys=False, allow_unicode=True, width=10**6)
    # These stand in double quotes only, see _text.
    for character in "<>&`":
        text = text.replace(character, f"\\x{ord(character):02X}")
    return f"---\n{text}---\n"


def read_project(path: Path) -> ProjectSpec:
    """Reads the head of an INITIAL.md.

    Raises:
        BadInput: No such file, a head that is not one of ours, or one without a chosen framework.
    """
    document = read_document(path, _ASK)
    try:
        head = _Project.model_validate(document.values.get(_KEY))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (_KEY, *first["loc"]))
        raise BadInput(f"{path} has no project to build from: {where}: {first['msg'].lower()}", _ASK) from error
    if head.framework is None:
        raise BadInput(
            f"{path} chooses no framework",
            "settle what is missing (its section on the choice names it), then run again",
        )
    height, width = head.dataset.image_size
    return ProjectSpec(
        name=head.name,
        task=head.task,
        framework=head.framework,
        model=head.model,
        dataset=DatasetSpec(head.dataset.name, head.dataset.num_classes, (height, width)),
        batch_size=head.batch_size,
        epochs=head.epochs,
        learning_rate=head.learning_rate,
        versions={stage: dict(found) for stage, found in head.versions.items()},
        initial_sha256=document.sha256,
        team=head.team,
    )
