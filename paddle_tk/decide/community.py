"""The score of a framework's community, from a dated and cited file that the user can edit."""

from __future__ import annotations

import datetime
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from paddle_tk.decide.formulas import factor_score
from paddle_tk.decide.parts import Part, combine, unknown
from paddle_tk.errors import BadInput, some
from paddle_tk.evidence import Option
from paddle_tk.types import Measurement, Score

CRITERION = "community"
NAME = "community.yaml"
_SUM_TOLERANCE = 1e-6
_FIX = "correct it; docs/decision_matrix.md shows the form, paddle_tk/decide/community.yaml is the shipped file"
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
_Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Strict):
    value: _Positive | None
    date: datetime.date | None = None
    source: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _cited(self) -> _Entry:
        if self.value is not None and (self.date is None or self.source is None):
            raise ValueError("a value needs its date and its source")
        return self


class _Figure(_Strict):
    what: _Text
    unit: _Text
    weight: Annotated[float, Field(gt=0, le=1, strict=True)]
    better: Literal["higher", "lower"] = "higher"
    frameworks: Annotated[dict[str, _Entry], Field(min_length=1)]


class _File(_Strict):
    factor_per_point: Annotated[float, Field(gt=1, allow_inf_nan=False, strict=True)]
    figures: Annotated[dict[str, _Figure], Field(min_length=1)]

    @model_validator(mode="after")
    def _weights(self) -> _File:
        total = math.fsum(f.weight for f in self.figures.values())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise ValueError(f"the weights of the figures must sum to 1, they sum to {total:g}")
        return self


@dataclass(frozen=True)
class CommunityFigure:
    """One figure of every framework.

    Attributes:
        name: Its key in the file.
        what: What is counted.
        unit: Of the values.
        weight: Its share of the score, 0..1.
        higher: Whether more is better.
        values: By framework, with origin "cited" and its date and source as conditions; None where none is known.
    """

    name: str
    what: str
    unit: str
    weight: float
    higher: bool
    values: Mapping[str, Measurement | None]


@dataclass(frozen=True)
class Community:
    """A file of community figures.

    Attributes:
        file: Its name.
        factor_per_point: The factor below the best that costs a point.
        figures: In the order of the file.
    """

    file: str
    factor_per_point: float
    figures: tuple[CommunityFigure, ...]


def load_community(path: Path | None = None) -> Community:
    """Reads a file of community figures.

    Args:
        path: The file; None: the shipped one.

    Raises:
        BadInput: It is missing, not YAML, or has a wrong key or value.
    """
    name = NAME if path is None else str(path)
    try:
        shipped = importlib.resources.files(__package__).joinpath(NAME)
        text = shipped.read_text(encoding="utf-8") if path is None else path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text)
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}", "set decide.community_file to a file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{name} is not YAML: {' '.join(str(error).split())}", _FIX) from error
    try:
        parsed = _File.model_validate(raw)
    except ValidationError as error:
        raise BadInput(f"{name}: {some([_complaint(e) for e in error.errors()])}", _FIX) from error
    return Community(name, parsed.factor_per_point, tuple(_figure(k, f) for k, f in parsed.figures.items()))


def _complaint(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "the file"
    shown = repr(error["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if error["type"] in ("missing", "value_error") else f"{key}: {message}, got {shown}"


def _figure(name: str, figure: _Figure) -> CommunityFigure:
    values = {k: _cited(name, k, figure, e) for k, e in figure.frameworks.items()}
    return CommunityFigure(name, figure.what, figure.unit, figure.weight, figure.better == "higher", values)


def _cited(name: str, framework: str, figure: _Figure, entry: _Entry) -> Measurement | None:
    if entry.value is None:
        return None
    conditions = {
        "framework": framework,
        "what": figure.what,
        "date": str(entry.date),
        "source": entry.source,
        "note": entry.note,
    }
    return Measurement(name, entry.value, figure.unit, 1, "cited", device="", conditions=conditions)


def community_scores(community: Community, options: Sequence[Option]) -> tuple[Score, ...]:
    """Scores the community of every option's framework.

    Each figure is held against the best one in the file, whether or not that framework is an option; a framework
    whose figure is not known leaves the others' open downwards, as it might be the best.
    """
    return tuple(
        combine(o.name, CRITERION, [_part(community, figure, o.framework) for figure in community.figures])
        for o in options
    )


def _part(community: Community, figure: CommunityFigure, framework: str) -> Part:
    own = figure.values.get(framework)
    if own is None:
        why = f"no sourced value for {framework} in {community.file}"
        return unknown(figure.name, figure.weight, why)
    known = [m.value for m in figure.values.values() if m is not None]
    best = max(known) if figure.higher else min(known)
    high = factor_score(own.value, best, higher=figure.higher, per_point=community.factor_per_point)
    gaps = tuple(
        f"{figure.name} of {f} (no sourced value in {community.file})" for f, m in figure.values.items() if not m
    )
    text = f"{figure.name} {_plain(own.value)} {own.unit}, {own.conditions['date']}"
    text += ": best" if own.value == best else f": {_arithmetic(community, figure, own.value, best)}"
    if gaps:
        text += f" of those known, without {'; '.join(gaps)}"
    return Part(figure.name, figure.weight, 0.0 if gaps else high, high, text, (own,), gaps)


def _arithmetic(community: Community, figure: CommunityFigure, own: float, best: float) -> str:
    top, bottom = (best, own) if figure.higher else (own, best)
    return f"5 - log{community.factor_per_point:g}({_plain(top)} / {_plain(bottom)})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
