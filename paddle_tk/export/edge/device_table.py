"""The schema of devices.yaml: a table with a misspelt key or a figure without a source is refused."""

from __future__ import annotations

import importlib.resources
from functools import lru_cache
from typing import Annotated, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["V", "S", "D", "U"]
Engine = Literal["tensorrt", "onnxruntime"]
_T = TypeVar("_T")
_Positive = Annotated[float, Field(gt=0)]
_Version = Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict, Generic[_T]):
    """A value, how sure it is, and where it comes from."""

    value: _T
    kind: Kind
    source: str
    note: str = ""


class Figures(_Strict):
    """What runs on a device; the attributes of ``Device``."""

    processor: Figure[str]
    software: Figure[str]
    python: Figure[_Version]
    tensorrt: Figure[_Version | None]
    cuda: Figure[_Version | None]
    opset: Figure[int]
    ir_version: Figure[int]
    onnxruntime: Figure[_Version]
    onnxruntime_opset: Figure[int]
    onnxruntime_ir: Figure[int]
    int8: Figure[bool]
    ram_gb: Figure[tuple[_Positive, _Positive] | None]


class Peaks(_Strict):
    """Peak figures of one state; the attributes of ``Performance``."""

    bandwidth_gb_s: Figure[_Positive]
    fp32_tflops: Figure[_Positive]
    fp16_tflops: Figure[_Positive | None]
    int8_tops: Figure[_Positive | None]


class State(_Strict):
    """A state of a device with peak figures of its own."""

    name: str
    figures: Peaks


class Mode(_Strict):
    """A mode of nvpmodel."""

    name: str
    watts: _Positive | None


class Modes(_Strict):
    """All modes of nvpmodel, and the one to run in."""

    modes: list[Mode]
    recommended: str
    kind: Kind
    source: str


class CitedEntry(_Strict):
    """A published latency or rate."""

    model: str
    input: str
    precision: Literal["fp32", "fp16", "int8", ""]
    value: _Positive | tuple[_Positive, _Positive]
    unit: Literal["ms", "FPS"]
    note: str
    source: str


class RemarkEntry(_Strict):
    """What a user must know."""

    text: str
    about: Literal["all", "int8"]


class Entry(_Strict):
    """A device."""

    title: str
    engine: Engine
    int8_variant: Literal["x86", "arm", "tensorrt"]
    figures: Figures
    performance: list[State]
    power_modes: Modes | None
    cited: list[CitedEntry]
    remarks: list[RemarkEntry]


class SourceEntry(_Strict):
    """A document that figures were read in."""

    title: str
    url: str


_Share = Annotated[float, Field(gt=0, le=1)]


class Assumed(_Strict):
    """What an estimate assumes of an engine, each as (worst, best) or (least, most)."""

    compute_share: tuple[_Share, _Share]
    bandwidth_share: tuple[_Share, _Share]
    kernel_start_us: tuple[_Positive, _Positive]


class Table(_Strict):
    """The whole file."""

    sources: dict[str, SourceEntry]
    assumptions: dict[Engine, Assumed]
    devices: dict[str, Entry]


@lru_cache(maxsize=1)
def load_table() -> Table:
    """Returns the table, read and checked once.

    Raises:
        ValidationError: The table in the package is wrong.
    """
    text = importlib.resources.files(__package__).joinpath("devices.yaml").read_text(encoding="utf-8")
    return Table.model_validate(yaml.safe_load(text))
