"""Which versions are installed, which combinations are known not to work, and a report of it all."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle_tk
from paddle_tk.environment.devices import GPU_WHEELS, hardware
from paddle_tk.environment.threads import MKL, OMP
from paddle_tk.environment.version_table import OR, Rule, build_rules, rules, within

SUPPORTED_PYTHON = ">=3.10,<3.13"
_TORCH_WHEELS = "https://download.pytorch.org/whl/"
_PADDLE_WHEELS = GPU_WHEELS.rsplit("/", 2)[0] + "/"
_VERSION_PY = re.compile(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)


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


def check_versions(installed: Mapping[str, str]) -> list[Problem]:
    """Returns the known problems of a set of versions.

    Args:
        installed: Version by lower-case distribution name, with "python" and, where known, "cuda" (what Paddle was
            built for), "torch-cuda" (what torch was) and "driver" among them.
    """
    return _problems(rules(), installed)


def check_wanted(versions: Mapping[str, str]) -> list[Problem]:
    """Returns the contradictions in a set of versions that somebody plans to install.

    Args:
        versions: As for ``check_versions``; "cuda" counts for torch too. The CUDA versions that a framework was never
            published for are contradictions here.
    """
    known = {name.lower(): version for name, version in versions.items()}
    if "torch" in known and "cuda" in known:
        known.setdefault("torch-cuda", known["cuda"])
    return _problems((*rules(), *build_rules()), known)


def _problems(wanted: Sequence[Rule], versions: Mapping[str, str]) -> list[Problem]:
    # Several rows may say the same of one thing, the first most exactly: it is enough. Python is one thing altogether.
    first: dict[tuple[str, str, str], Problem] = {}
    for rule in wanted:
        problem = _broken(rule, versions)
        if problem is not None:
            beside = (rule.package.removeprefix("torch-"), versions[rule.package])
            key = ("", "") if problem.package == "python" else beside
            first.setdefault((*key, problem.package.removeprefix("torch-")), problem)
    return list(first.values())


def _broken(rule: Rule, installed: Mapping[str, str]) -> Problem | None:
    if rule.package not in installed or rule.partner not in installed:
        return None
    if rule.only_with and rule.only_with not in installed:
        return None
    found = installed[rule.partner]
    if not within(installed[rule.package], rule.versions) or within(found, rule.allowed):
        return None
    beside = "" if rule.package == rule.partner else f" beside {rule.package} {installed[rule.package]}"
    return Problem(rule.partner, found + beside, rule.allowed, rule.why, rule.source, _fix(rule))


def _fix(rule: Rule) -> str:
    if rule.partner == "python":
        return "make the environment anew with Python 3.11"
    if rule.partner == "driver":
        return f"install an NVIDIA driver {rule.allowed}, or a build for an older CUDA"
    if rule.partner == "torch-cuda":
        folder = _folder(rule.allowed)
        return f"pip install 'torch{rule.versions}' --index-url {_TORCH_WHEELS}{folder}, or another torch"
    if "cuda" in (rule.package, rule.partner) or rule.partner == "paddlepaddle-gpu":
        return (
            f"pip install 'paddlepaddle-gpu>=3.3,<4' -i {GPU_WHEELS} (other CUDA: another folder of {_PADDLE_WHEELS})"
        )
    no_deps = "--no-deps " if rule.partner in ("paddleslim", "paddledet") else ""
    return f"pip install {no_deps}'{rule.partner}{rule.allowed}'"


def _folder(allowed: str) -> str:
    newest = allowed.split(OR)[-1]
    return "cu" + "".join(character for character in newest if character.isdigit())


def nvidia_driver() -> str | None:
    """Returns the version of this machine's NVIDIA driver; None where there is none or it does not answer."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def torch_cuda() -> str | None:
    """Returns the CUDA version the installed torch was built for, without importing it; None: CPU build or no torch."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        file = Path(folder) / "version.py"
        match = _VERSION_PY.search(file.read_text(encoding="utf-8")) if file.is_file() else None
        if match is not None:
            return match[1]
    return None


def live_versions(paddle_cuda: str | None) -> dict[str, str]:
    """Returns ``installed_versions`` with what the machine and the builds add: "cuda", "torch-cuda", "driver".

    Args:
        paddle_cuda: What the installed Paddle was built for; None: a CPU build.
    """
    added = {"cuda": paddle_cuda, "torch-cuda": torch_cuda(), "driver": nvidia_driver()}
    return {**installed_versions(), **{name: version for name, version in added.items() if version}}


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
