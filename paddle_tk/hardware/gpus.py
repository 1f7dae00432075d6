"""The table of GPUs: what they hold, and what a process takes on one besides its tensors. Imports no framework."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

_MB_PER_GB = 1024

_Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a figure is from."""

    title: str
    url: str


class Cited(_Strict):
    """A figure and where it is from."""

    value: _Positive
    source: str


class Overhead(_Strict):
    """What a process holds on a GPU besides tensors, in MB."""

    context_mb: Cited
    workspace_mb: Cited

    @property
    def total_mb(self) -> float:
        """Both together."""
        return self.context_mb.value + self.workspace_mb.value


class Entry(_Strict):
    """One GPU of the file."""

    title: str
    memory_gb: _Positive
    source: str
    shared: bool = False

    @property
    def memory_mb(self) -> float:
        """Memory in units of 2^20 bytes."""
        return self.memory_gb * _MB_PER_GB


class GpuTable(_Strict):
    """The whole file."""

    sources: dict[str, Source]
    overhead: Overhead
    gpus: dict[str, Entry]

    @model_validator(mode="after")
    def _sources_known(self) -> GpuTable:
        cited = [entry.source for entry in self.gpus.values()]
        cited += [self.overhead.context_mb.source, self.overhead.workspace_mb.source]
        unknown = sorted(set(cited) - set(self.sources))
        if unknown:
            raise ValueError(f"no such sources: {', '.join(unknown)}")
        return self


@dataclass(frozen=True)
class Fit:
    """What a GPU holds of a training.

    Attributes:
        title: Of the GPU.
        memory_mb: Its memory.
        fits: Whether the asked batch fits, margin and overhead included.
        largest_batch: Most images that fit so; 0: not even one.
        shared: Whether system and process take their memory from the same.
    """

    title: str
    memory_mb: float
    fits: bool
    largest_batch: int
    shared: bool = False


@lru_cache(maxsize=1)
def load_gpus() -> GpuTable:
    """Returns the table, read and checked once.

    Raises:
        ValidationError: The table in the package is wrong.
    """
    text = importlib.resources.files(__package__).joinpath("gpus.yaml").read_text(encoding="utf-8")
    return GpuTable.model_validate(yaml.safe_load(text))


def named_memory(extra_gb: float | None = None) -> Mapping[str, Entry]:
    """Returns the GPUs by name, and a memory given by the user as the last."""
    found = dict(load_gpus().gpus)
    if extra_gb is not None:
        found[f"{extra_gb:g}gb"] = Entry(title=f"{extra_gb:g} GB, as given", memory_gb=extra_gb, source="user")
    return found
