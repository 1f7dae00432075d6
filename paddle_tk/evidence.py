"""What a comparison measured, as one file that tells when it was changed: ``measurements.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddle_tk.errors import ArtifactError
from paddle_tk.files import canonical_json, sha256_bytes, write_json
from paddle_tk.types import Measurement

NAME = "measurements.json"
_SCHEMA = 1
_LABELS = {"paddle": "PaddlePaddle", "torch": "PyTorch"}
_PRECISIONS = {"fp32": "", "int8": " INT8"}


@dataclass(frozen=True)
class Option:
    """One of the things compared.

    Attributes:
        name: Short and unique: "paddle", "torch", "paddle-int8".
        label: As people say it: "PaddlePaddle 3.3.1".
        framework: "paddle" or "torch".
        version: The framework's.
        precision: "fp32" or "int8": of inference; training is in fp32 either way.
    """

    name: str
    label: str
    framework: str
    version: str
    precision: str = "fp32"


def option_label(framework: str, version: str, precision: str) -> str:
    """Returns what people call an option ("PaddlePaddle 3.3.1 INT8")."""
    return f"{_LABELS[framework]} {version}{_PRECISIONS[precision]}"


@dataclass(frozen=True)
class Figure:
    """A measurement and whose it is."""

    option: str
    measurement: Measurement


@dataclass(frozen=True)
class NotMeasured:
    """A figure that is not there, and why."""

    option: str
    name: str
    reason: str


@dataclass(frozen=True)
class Curve:
    """A figure over time.

    Attributes:
        option: Whose.
        name: "train_loss", "val_top1", ...
        x: Where.
        y: What; as long as ``x``.
        x_label: With its unit: "update", "epoch", "time (s)".
        y_label: With its unit.
    """

    option: str
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Comparison:
    """One figure of two options.

    Attributes:
        name: Of the figure.
        a: One option.
        b: The other.
        ratio: a / b, the median over paired rounds.
        low: Lower end of the interval of that median.
        high: Upper end.
        confidence: Of the interval, as a share.
        n: Paired rounds.
        verdict: "no difference", or the option that is better.
        note: In words: what makes it so.
    """

    name: str
    a: str
    b: str
    ratio: float
    low: float
    high: float
    confidence: float
    n: int
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything a comparison found.

    Attributes:
        options: What was compared.
        figures: Everything that was measured.
        not_measured: What was not, and why.
        curves: Figures over updates, epochs or time.
        comparisons: Pairs of options.
        parity: What was held against what before anything was timed, and with which result.
        settings: What was compared: model, data, trainer, repeats; the same for every option.
        environment: Machine and versions.
        command: What repeats it.
        created: Date and time, ISO 8601.
    """

    options: tuple[Option, ...]
    figures: tuple[Figure, ...]
    not_measured: tuple[NotMeasured, ...] = ()
    curves: tuple[Curve, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    parity: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    created: str = ""

    def find(self, option: str, name: str) -> Measurement | None:
        """Returns an option's measurement; None where it was not measured."""
        return next((f.measurement for f in self.figures if (f.option, f.measurement.name) == (option, name)), None)

    def reason(self, option: str, name: str) -> str:
        """Returns why a figure is not there."""
        found = (n.reason for n in self.not_measured if (n.option, n.name) == (option, name))
        return next(found, "no comparison measured it")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return dict(json.loads(json.dumps(asdict(self))))


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Writes ``measurements.json`` with the hash of its contents."""
    body = evidence.to_dict()
    write_json(path, {"schema": _SCHEMA, "sha256": sha256_bytes(canonical_json(body)), **body})


def read_evidence(path: Path) -> Evidence:
    """Reads it back.

    Raises:
        ArtifactError: The file is missing, of another kind, or not what was written: its hash does not fit.
    """
    fix = "measure again: python tools/compare.py -c configs/compare/resnet18.yaml --output DIR"
    if not path.is_file():
        raise ArtifactError(f"no measurements at {path}", fix)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        told, schema = raw.pop("sha256"), raw.pop("schema")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a file of measurements", fix) from error
    if schema != _SCHEMA:
        raise ArtifactError(f"{path} is of form {schema}, this version reads form {_SCHEMA}", fix)
    found = sha256_bytes(canonical_json(raw))
    if found != told:
        raise ArtifactError(
            f"{path} was changed after it was measured: its contents hash to {found[:12]}, it says {str(told)[:12]}",
            fix,
        )
    try:
        return _from_dict(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a file of measurements: {error}", fix) from error


def _from_dict(raw: Mapping[str, Any]) -> Evidence:
    plain = {k: raw[k] for k in ("parity", "settings", "environment", "command", "created")}
    return Evidence(
        options=tuple(Option(**o) for o in raw["options"]),
        figures=tuple(Figure(f["option"], measurement_from_dict(f["measurement"])) for f in raw["figures"]),
        not_measured=tuple(NotMeasured(**n) for n in raw["not_measured"]),
        curves=tuple(Curve(**{**c, "x": _floats(c["x"]), "y": _floats(c["y"])}) for c in raw["curves"]),
        comparisons=tuple(Comparison(**c) for c in raw["comparisons"]),
        **plain,
    )


def measurement_from_dict(raw: Mapping[str, Any]) -> Measurement:
    """Rebuilds a measurement from its fields."""
    return Measurement(**{**raw, "samples": _floats(raw["samples"])})


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
