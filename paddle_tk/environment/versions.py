"""Which versions are installed, which combinations are known not to work, and a report of it all."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

import paddle_tk
from paddle_tk.environment.devices import GPU_WHEELS, hardware
from paddle_tk.environment.threads import MKL, OMP

SUPPORTED_PYTHON = ">=3.10,<3.13"
_MEASURED = "measured with paddlepaddle 3.3.1, x86-64"
_PAIRS = "https://github.com/pytorch/pytorch/wiki/PyTorch-Versions"


@dataclass(frozen=True)
class Rule:
    """Beside ``package`` at a version in ``versions``, an installed ``partner`` must be in ``allowed``.

    Attributes:
        package: A distribution's name, or "python", or "cuda" (what the installed Paddle was built for).
        versions: PEP 440 specifiers; "" is every version.
        why: What goes wrong otherwise.
        source: Where this is known from.
    """

    package: str
    versions: str
    partner: str
    allowed: str
    why: str
    source: str


@dataclass(frozen=True)
class Problem:
    """A combination that is known not to work."""

    package: str
    found: str
    allowed: str
    why: str
    source: str
    fix: str

    def __str__(self) -> str:
        return f"{self.package} {self.found}: needs {self.allowed}, {self.why} ({self.source}). Fix: {self.fix}"


def _pairs(*rows: tuple[str, str, str]) -> tuple[Rule, ...]:
    """Returns the rules of torch's releases: each has one torchvision and one torchaudio."""
    rules = []
    for torch, vision, audio in rows:
        for partner, minor in (("torchvision", vision), ("torchaudio", audio)):
            rules.append(
                Rule(
                    "torch",
                    f"=={torch}.*",
                    partner,
                    f"=={minor}.*",
                    f"it is the one built for torch {torch}",
                    _PAIRS,
                )
            )
    return tuple(rules)


RULES: tuple[Rule, ...] = (
    Rule("paddlepaddle", "", "python", SUPPORTED_PYTHON, "paddle_tk is tested on 3.10 to 3.12", _MEASURED),
    Rule(
        "paddlepaddle",
        "",
        "paddlepaddle",
        ">=3.3,<4",
        "the training and export code is written for 3.3",
        _MEASURED,
    ),
    Rule(
        "paddlepaddle-gpu",
        "",
        "paddlepaddle-gpu",
        ">=3.3,<4",
        f"the newest on the public Python index is 2.6.2, 3.x comes from {GPU_WHEELS}",
        _MEASURED,
    ),
    Rule(
        "paddlepaddle-gpu",
        "==2.6.*",
        "cuda",
        "<12.1",
        "Paddle 2.6 was built up to CUDA 12.0, never for 12.6",
        "https://www.paddlepaddle.org.cn/documentation/docs/en/2.6/install/index_en.html",
    ),
    Rule(
        "paddlepaddle",
        ">=3",
        "numpy",
        "<2.4",
        "numpy 2.4 made float() of a one-element array an error, which Paddle's high-level API calls",
        _MEASURED,
    ),
    Rule(
        "paddlepaddle-gpu",
        ">=3",
        "numpy",
        "<2.4",
        "numpy 2.4 made float() of a one-element array an error, which Paddle's high-level API calls",
        _MEASURED,
    ),
    Rule(
        "paddlepaddle",
        ">=3",
        "paddle2onnx",
        ">=2.1,<3",
        "older ones cannot read Paddle 3's model format",
        _MEASURED,
    ),
    Rule(
        "paddle2onnx",
        "==2.1.*",
        "onnx",
        ">=1.16.1,<=1.17.0",
        "paddle2onnx is built against it",
        "metadata of the paddle2onnx 2.1.0 wheel",
    ),
    Rule(
        "onnx",
        ">=1.17,<1.18",
        "onnxruntime",
        ">=1.20",
        "onnx 1.17 brings opset 22, which older runtimes do not know",
        "https://onnxruntime.ai/docs/reference/compatibility.html",
    ),
    Rule("paddleslim", "", "paddleslim", ">=2.6,<3", "older ones are written for Paddle 2", _MEASURED),
    Rule(
        "paddledet",
        "==2.6.*",
        "setuptools",
        "<81",
        "it imports pkg_resources, which setuptools 81 removed",
        _MEASURED,
    ),
    Rule(
        "visualdl",
        "",
        "visualdl",
        ">=2.5,<2.6",
        "the monitor relies on its record format and server",
        _MEASURED,
    ),
    *_pairs(("2.4", "0.19", "2.4"), ("2.5", "0.20", "2.5"), ("2.6", "0.21", "2.6"), ("2.7", "0.22", "2.7")),
)


def check_versions(installed: Mapping[str, str]) -> list[Problem]:
    """Returns the known problems of a set of versions.

    Args:
        installed: Version by lower-case distribution name, with "python" and, where known, "cuda" among them.
    """
    return [problem for rule in RULES if (problem := _broken(rule, installed)) is not None]


def _broken(rule: Rule, installed: Mapping[str, str]) -> Problem | None:
    if rule.package not in installed or rule.partner not in installed:
        return None
    found = installed[rule.partner]
    if not _within(installed[rule.package], rule.versions) or _within(found, rule.allowed):
        return None
    beside = "" if rule.package == rule.partner else f" beside {rule.package} {installed[rule.package]}"
    return Problem(rule.partner, found + beside, rule.allowed, rule.why, rule.source, _fix(rule))


def _fix(rule: Rule) -> str:
    if rule.partner == "python":
        return "make the environment anew with Python 3.11"
    if "cuda" in (rule.package, rule.partner) or rule.partner == "paddlepaddle-gpu":
        return f"pip install 'paddlepaddle-gpu>=3.3,<4' -i {GPU_WHEELS}"
    no_deps = "--no-deps " if rule.partner in ("paddleslim", "paddledet") else ""
    return f"pip install {no_deps}'{rule.partner}{rule.allowed}'"


def _within(version: str, specifiers: str) -> bool:
    try:
        return SpecifierSet(specifiers).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def installed_versions() -> dict[str, str]:
    """Returns the version of Python and of every installed distribution, by lower-case name."""
    found = {"python": platform.python_version()}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower(), distribution.version)
    return dict(sorted(found.items()))


def environment_report() -> dict[str, Any]:
    """Returns what a run was made with, as JSON types: ``environment.json``. Imports Paddle: set threads
    first.

    It names no folder and no host, so that a run can be passed on.
    """
    packages = installed_versions()
    return {
        "paddle_tk": {
            "version": paddle_tk.__version__,
            **git_state(Path(paddle_tk.__file__).resolve().parent.parent),
        },
        "python": packages.pop("python"),
        "platform": platform.platform(),
        "threads": {name: os.environ.get(name) for name in (OMP, MKL)},
        "hardware": hardware(),
        "packages": packages,
    }


def git_state(root: Path) -> dict[str, Any]:
    """Returns the commit of the checkout at ``root`` and whether files differ from it.

    Both are None where ``root`` is not itself a checkout (an installed package inside somebody's repository).
    """
    unknown: dict[str, Any] = {"commit": None, "modified": None}
    if not (root / ".git").exists():
        return unknown
    commit, status = (
        _git(root, "rev-parse", "HEAD"),
        _git(root, "status", "--porcelain", "--untracked-files=no"),
    )
    return unknown if commit is None else {"commit": commit, "modified": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
