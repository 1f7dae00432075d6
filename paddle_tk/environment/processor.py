"""What the kernel says of the processors: name, maker and features."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """Returns the processor's name, as far as the system tells it."""
    fields = _fields(cpuinfo)
    named = [value for key in ("model name", "Model") for value in fields.get(key, []) if value]
    return named[0] if named else platform.processor() or platform.machine() or "unknown"


def cpu_maker(cpuinfo: Path = CPUINFO) -> str:
    """Returns the maker as x86 processors tell it ("GenuineIntel"), "" where it is not known or not one."""
    makers = set(_fields(cpuinfo).get("vendor_id", []))
    return makers.pop() if len(makers) == 1 else ""


def cpu_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Returns the features ("avx2") that every x86 processor of the machine has; empty where none are told."""
    told = [frozenset(value.split()) for value in _fields(cpuinfo).get("flags", [])]
    return frozenset.intersection(*told) if told else frozenset()


def has_vnni(cpuinfo: Path = CPUINFO) -> bool | None:
    """Whether an x86 processor adds products of 8-bit integers in 32 bits; None where that is not known.

    Older ones add pairs of them in 16 bits, which overflow with full 8-bit weights.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    features = cpu_features(cpuinfo)
    return any("vnni" in feature for feature in features) if features else None


def _fields(cpuinfo: Path) -> dict[str, list[str]]:
    """Returns the values of each key, one for each processor that has it; none where there is no such file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, list[str]] = {}
    for key, colon, value in (line.partition(":") for line in lines):
        if colon:
            found.setdefault(key.strip(), []).append(value.strip())
    return found
