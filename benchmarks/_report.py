"""What all benchmarks share: ratios of interleaved repeats, one line of verdict, JSON with the raw samples."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Claim:
    """A figure and the bound it must hold.

    Attributes:
        name: What is claimed.
        value: The measured figure.
        unit: Its unit; "ratio" for ratios.
        bound: The limit.
        at_most: Whether the bound is an upper one.
    """

    name: str
    value: float
    unit: str
    bound: float
    at_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def line(self) -> str:
        """Returns the closing line."""
        return f"{self.name}: {self.value:.4g} {self.unit} (bound {'<=' if self.at_most else '>='} {self.bound:g})"


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """Returns a parser with ``--json``."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, default=Path("outputs/benchmarks") / f"{name}.json")
    return made


def interleaved(jobs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Runs the jobs in turn, ``repeats`` times, every other time backwards, so that a drift meets all of them."""
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(repeats):
        for name, job in list(jobs.items())[:: 1 if round_number % 2 == 0 else -1]:
            samples[name].append(job())
            print(f"  round {round_number + 1}/{repeats} {name}: {samples[name][-1]:.4g}", file=sys.stderr, flush=True)
    return samples


def paired_ratio(upper: Sequence[float], lower: Sequence[float]) -> float:
    """Returns the median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def finish(
    claims: Sequence[Claim], samples: Mapping[str, Sequence[float]], path: Path, notes: Mapping[str, object]
) -> int:
    """Prints the verdict, writes the JSON, returns the exit code: 1 when a bound is missed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "claims": [{**vars(c), "holds": c.holds} for c in claims],
        "samples": {k: list(v) for k, v in samples.items()},
        "machine": {"cpus": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "origin": "measured",
        **notes,
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for claim in claims:
        print(claim.line() + ("" if claim.holds else "  MISSED"))
    return 0 if all(c.holds for c in claims) else 1
