"""What a framework takes before it computes anything: the size of what must be installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from paddle_tk.errors import CheckFailed
from paddle_tk.files import MIB
from paddle_tk.measure.fresh_process import answer


def installed_mib(names: Iterable[str]) -> tuple[float, tuple[str, ...]]:
    """Adds up the installed files of distributions and of everything they need.

    Args:
        names: Distributions.

    Returns:
        MiB on disk, and the names of all that was counted.

    Raises:
        CheckFailed: One of ``names`` is not installed.
    """
    counted: dict[str, int] = {}
    waiting = [(name, True) for name in names]
    while waiting:
        name, required = waiting.pop()
        key = _normal(name)
        if key in counted:
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            if required:
                fix = "run 'make setup', or name an interpreter that has it with compare.torch_python"
                raise CheckFailed(f"{name} is not installed", fix) from None
            continue  # one of another platform, or left out on purpose
        counted[key] = _bytes(found)
        waiting += [(need, False) for need in _needs(found)]
    return sum(counted.values()) / MIB, tuple(sorted(counted))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _bytes(found: Distribution) -> int:
    files = {Path(str(found.locate_file(file))) for file in found.files or ()}
    return sum(file.stat().st_size for file in files if file.is_file())


def _needs(found: Distribution) -> list[str]:
    names = []
    for text in found.requires or ():
        try:
            need = Requirement(text)
        except InvalidRequirement:
            continue
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            names.append(need.name)
    return names


def _measured(job: Mapping[str, Any]) -> dict[str, Any]:
    mib, counted = installed_mib(job["distributions"])
    return {"mib": mib, "distributions": list(counted)}


if __name__ == "__main__":
    sys.exit(answer(_measured))
