"""The config files of a project: YAML that its own ``settings.py`` checks."""

from __future__ import annotations

from typing import Any

import yaml

from paddle_tk.decide.project import ProjectSpec
from paddle_tk.decide.scaffold.text import slug
from paddle_tk.errors import BadInput

# What both frameworks' templates can build.
MODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2")
_LEAST_SIZE, _LARGEST_SIZE = 8, 4096
_TEN_CLASSES = {"digits": "digits", "cifar10": "cifar10", "cifar-10": "cifar10"}

# As stored; 82 small updates of a network from scratch recognise most digits.
_QUICK_PIXELS = 8


def kind_of(name: str) -> str:
    """Returns the loader of a dataset: "digits", "cifar10" or "folder"."""
    return _TEN_CLASSES.get(name.strip().lower(), "folder")


def check_spec(spec: ProjectSpec) -> None:
    """Refuses what no project can be written for.

    Raises:
        BadInput: Another task than classification, an unknown framework or network, a number out of range.
    """
    if spec.task != "classification":
        raise BadInput(
            f"a scaffold is for classification, the task is {spec.task}",
            "train a detector with the toolkit itself: python tools/train.py -c configs/picodet.yaml data.root=DIR",
        )
    if spec.framework not in ("paddle", "torch"):
        raise BadInput(f"the framework is {spec.framework!r}", "choose paddle or torch")
    if spec.model not in MODELS:
        raise BadInput(f"no scaffold has the network {spec.model!r}", f"choose one of {', '.join(MODELS)}")
    data, size = spec.dataset, spec.dataset.image_size
    ranges = (
        ("batch size", spec.batch_size, 1, 65536),
        ("number of epochs", spec.epochs, 1, 100000),
        ("learning rate", spec.learning_rate, 1e-9, 100),
        ("number of classes", data.num_classes, 2, 100000),
        ("image height", size[0], _LEAST_SIZE, _LARGEST_SIZE),
        ("image width", size[1], _LEAST_SIZE, _LARGEST_SIZE),
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise BadInput(f"the {name} is {value}", f"give one from {low:g} to {high:g}")
    if kind_of(data.name) != "folder" and data.num_classes != 10:
        raise BadInput(f"{data.name} has 10 classes, the specification says {data.num_classes}", "state 10")


def configs(spec: ProjectSpec) -> dict[str, str]:
    """Returns the texts of ``configs/default.yaml`` (the project's data) and ``configs/quick.yaml`` (digits)."""
    kind = kind_of(spec.dataset.name)
    quick = {**_section("quick", spec), "train": _train(epochs=1, batch_size=16, learning_rate=0.005, workers=0)}
    quick["dataset"] = {**_dataset("digits", None, 10, (_QUICK_PIXELS, _QUICK_PIXELS)), "crop_padding": 0}
    default = _section("default", spec)
    default["dataset"] = _dataset(kind, data_root(spec), spec.dataset.num_classes, spec.dataset.image_size)
    default["train"] = _train(
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        workers=0 if kind == "digits" else 2,
    )
    return {
        "configs/default.yaml": _yaml("The project's own data and settings; every key is needed.", default),
        "configs/quick.yaml": _yaml("One epoch on embedded digits: does everything work?", quick),
    }


def data_root(spec: ProjectSpec) -> str | None:
    """Returns where a project's data are expected, relative to it; None where nothing is needed."""
    kind = kind_of(spec.dataset.name)
    if kind == "digits":
        return None
    return "data/cifar-10-batches-py" if kind == "cifar10" else f"data/{slug(spec.dataset.name, 'images')}"


def _section(name: str, spec: ProjectSpec) -> dict[str, Any]:
    return {"name": name, "seed": 0, "dataset": {}, "model": {"name": spec.model, "stem": "auto"}, "train": {}}


def _dataset(kind: str, root: str | None, num_classes: int, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "kind": kind,
        "root": root,
        "num_classes": num_classes,
        "image_size": list(size),
        "val_fraction": 0.1,
        "test_fraction": 0.2,
        "crop_padding": min(size) // 8 if kind != "folder" else min(size) // 16,
        # A mirrored digit is another digit; whether that holds of somebody's own classes is not known here.
        "flip": kind == "cifar10",
    }


def _train(*, epochs: int, batch_size: int, learning_rate: float, workers: int) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "workers": workers,
    }


def _yaml(comment: str, content: dict[str, Any]) -> str:
    return f"# {comment}\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
