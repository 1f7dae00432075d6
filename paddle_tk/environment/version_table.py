"""The table of versions that go together: schema of versions.yaml, and the rules that follow from it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field

Stage = Literal["venv", "docker"]
Framework = Literal["paddle", "torch"]
OR = "|"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceRow(_Strict):
    """Where a row was read; no address where it is a file of ours or of an installed wheel."""

    title: str
    url: str


class RuleRow(_Strict):
    """See ``Rule``."""

    package: str
    versions: str = ""
    partner: str
    allowed: str
    why: str
    source: str
    only_with: str = ""


class TorchRow(_Strict):
    """A release of torch, "2.6", and what was built for it."""

    torch: str
    torchvision: str
    torchaudio: str
    pair: str
    cuda: list[str] = Field(min_length=1)
    published: str
    python: str
    cudnn: dict[str, str] = {}


class PaddleRow(_Strict):
    """Releases of paddlepaddle-gpu and the CUDA versions they were published for."""

    paddle: str
    cuda: list[str] = Field(min_length=1)
    published: str
    cudnn: dict[str, str] = {}


class MinorDriverRow(_Strict):
    """The least driver for any CUDA toolkit of one major version."""

    major: str
    driver: str
    source: str


class FullDriverRow(_Strict):
    """The driver that has everything of one CUDA toolkit."""

    cuda: str
    driver: str
    source: str


class CudaRows(_Strict):
    """Drivers by CUDA version."""

    minor: list[MinorDriverRow]
    full: list[FullDriverRow]


class PinRow(_Strict):
    """What a stage installs of one component."""

    component: str
    version: str
    note: str = ""
    source: str


class StageRows(_Strict):
    """What a stage installs: for either framework, and for one of them."""

    shared: list[PinRow]
    paddle: list[PinRow]
    torch: list[PinRow]


class Table(_Strict):
    """versions.yaml."""

    sources: dict[str, SourceRow]
    rules: list[RuleRow]
    torch: list[TorchRow]
    paddle: list[PaddleRow]
    cuda: CudaRows
    stages: dict[str, StageRows]

    def source(self, key: str) -> str:
        """Returns a source as text: its address, or its title where it has none."""
        found = self.sources[key]
        return found.url or found.title


@dataclass(frozen=True)
class Rule:
    """Beside ``package`` at a version in ``versions``, a ``partner`` must be in ``allowed``.

    Attributes:
        package: A distribution's name, "python", "cuda" (what Paddle was built for, or what is wanted), "torch-cuda"
            (what torch was built for) or "driver" (NVIDIA's).
        versions: PEP 440 specifiers; "" is every version.
        partner: As ``package``.
        allowed: PEP 440 specifiers, "|" between alternatives.
        why: What goes wrong otherwise.
        source: Where this is known from.
        only_with: Holds only where this distribution is there too; "": always.
    """

    package: str
    versions: str
    partner: str
    allowed: str
    why: str
    source: str
    only_with: str = ""


@lru_cache(maxsize=1)
def load_table() -> Table:
    """Returns the table that ships with the package."""
    text = importlib.resources.files(__package__).joinpath("versions.yaml").read_text(encoding="utf-8")
    return Table.model_validate(yaml.safe_load(text))


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """Returns what must hold of versions that are installed together."""
    table = load_table()
    stated = (
        Rule(r.package, r.versions, r.partner, r.allowed, r.why, table.source(r.source), r.only_with)
        for r in table.rules
    )
    return (*stated, *_torch_rules(table), *_driver_rules(table))


@lru_cache(maxsize=1)
def build_rules() -> tuple[Rule, ...]:
    """Returns which CUDA version a framework can be had for. What is installed has been built; this is for plans."""
    table = load_table()
    found = []
    for torch in table.torch:
        why = f"torch {torch.torch} was published for CUDA {', '.join(torch.cuda)}"
        allowed = _one_of(torch.cuda)
        source = table.source(torch.published)
        found.append(Rule("torch", f"=={torch.torch}.*", "torch-cuda", allowed, why, source))
    for paddle in table.paddle:
        why = f"paddlepaddle-gpu {paddle.paddle.strip('=.*')} was published for CUDA {', '.join(paddle.cuda)}"
        allowed = _one_of(paddle.cuda)
        source = table.source(paddle.published)
        found.append(Rule("paddlepaddle-gpu", paddle.paddle, "cuda", allowed, why, source))
    return tuple(found)


def _one_of(versions: list[str]) -> str:
    return f" {OR} ".join(f"=={version}.*" for version in versions)


def _torch_rules(table: Table) -> Iterator[Rule]:
    for row in table.torch:
        release, why = f"=={row.torch}.*", f"it is the one built for torch {row.torch}"
        yield Rule("torch", release, "torchvision", row.torchvision, why, table.source(row.pair))
        audio = "torchaudio" if row.torchaudio.startswith(">=") else row.pair
        yield Rule("torch", release, "torchaudio", row.torchaudio, why, table.source(audio))
        python = f"torch {row.torch} has wheels for these"
        yield Rule("torch", release, "python", row.python, python, table.source("torch-release"))


def _driver_rules(table: Table) -> Iterator[Rule]:
    for row in table.cuda.minor:
        why = f"the least driver for any CUDA {row.major}"
        for package in ("cuda", "torch-cuda"):
            yield Rule(package, f"=={row.major}.*", "driver", f">={row.driver}", why, table.source(row.source))


def within(version: str, specifiers: str) -> bool:
    """Returns whether a version fits; True where it follows no standard, so that nothing is known of it."""
    try:
        return any(SpecifierSet(part).contains(Version(version), prereleases=True) for part in specifiers.split(OR))
    except InvalidVersion:
        return True
