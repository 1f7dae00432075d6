"""Limits of the latency mode on a command line: what they look like, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from paddle_tk.commands.shared import image_size
from paddle_tk.files import MIB

if TYPE_CHECKING:
    from paddle_tk.pipelines.latency_limits import LatencyLimits

_MS: Mapping[str, float] = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3}
_BYTES: Mapping[str, float] = {
    "": 1e6, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
}  # fmt: skip
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z%]*)\s*")


def parse_latency(text: str) -> float:
    """Parses "50ms", "0.05s", "500us" or "50", which is in milliseconds, as ms."""
    return _quantity(text, _MS, "a time above 0 such as 50ms, 0.05s or 50 (milliseconds)")


def parse_memory(text: str) -> float:
    """Parses "512MB", "1GB" (10^9 bytes), "512MiB" (2^20 bytes) or "512", which is in MB, as MiB."""
    return _quantity(text, _BYTES, "a size above 0 such as 512MB, 1GB, 512MiB or 512 (MB)") / MIB


def parse_rate(text: str) -> float:
    """Parses "100" or "100fps" as images per second."""
    return _quantity(text, {"": 1.0, "fps": 1.0}, "images per second above 0, such as 100")


def parse_cpu(text: str) -> float:
    """Parses "50" or "50%" of the cores that may be used as a share in 0..1."""
    share = _quantity(text, {"": 0.01, "%": 0.01}, "per cent of the cores, above 0 and at most 100, such as 50")
    if share > 1:
        raise argparse.ArgumentTypeError(f"must be per cent of the cores, above 0 and at most 100, got '{text}'")
    return share


def parse_percent(text: str) -> float:
    """Parses "10" or "10%", from 0 to below 100, as a share."""
    found = _NUMBER.fullmatch(text)
    if found is None or found[2] not in ("", "%") or float(found[1]) >= 100:
        raise argparse.ArgumentTypeError(f"must be per cent from 0 to below 100, such as 10, got '{text}'")
    return float(found[1]) / 100


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parses "224x224,192" as (height, width) in pixels, each once."""
    return tuple(dict.fromkeys(image_size(part.strip()) for part in text.split(",")))


def parse_names(text: str) -> tuple[str, ...]:
    """Parses "a,b" as names, each once."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(names):
        raise argparse.ArgumentTypeError(f"must be names separated by commas, got '{text}'")
    return names


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the latency mode; ``limits_of`` reads its limits."""
    group = parser.add_argument_group(
        "latency mode",
        "Any limit turns it on: on this machine engines, precisions, input sizes, threads, affinity, "
        "graph optimisation and batches are measured, and the most accurate model inside all limits is taken.",
    )
    group.add_argument("--target-latency", type=parse_latency, metavar="T", help="of a batch: 50ms, 0.05s, 50 (ms)")
    group.add_argument(
        "--percentile", type=int, choices=(50, 95, 99), default=95, help="of 100 batches so many take no longer than "
        "--target-latency (default: 95)",
    )  # fmt: skip
    group.add_argument("--min-fps", type=parse_rate, metavar="N", help="images per second")
    group.add_argument(
        "--max-memory", type=parse_memory, metavar="M", help="peak resident memory of a process that only runs the "
        "model: 512MB, 1GB, 512MiB",
    )  # fmt: skip
    group.add_argument(
        "--max-cpu", type=parse_cpu, metavar="P", help="per cent of the cores that may be busy while it predicts one "
        "batch after the other",
    )  # fmt: skip
    group.add_argument(
        "--margin", type=parse_percent, default=0.1, metavar="P", help="per cent of the limits on latency and rate "
        "that are kept free, so that they hold at a noisier moment (default: 10)",
    )  # fmt: skip
    group.add_argument(
        "--max-drop", type=parse_percent, default=0.01, metavar="P", help="points of the main metric on the test "
        "images that may be lost against the given model (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--input-sizes", type=parse_sizes, default=(), metavar="HxW,...", help="further input sizes to try; one counts "
        "only where its accuracy on the test images is within --max-drop",
    )  # fmt: skip
    group.add_argument("--engines", type=parse_names, metavar="A,B", help="engines to try (default: all installed)")


def limits_of(arguments: argparse.Namespace) -> LatencyLimits | None:
    """Returns the limits of a command line with ``add_limit_options``, None where no limit was given."""
    from paddle_tk.pipelines.latency_limits import LatencyLimits

    given = (arguments.target_latency, arguments.min_fps, arguments.max_memory, arguments.max_cpu)
    if all(limit is None for limit in given):
        return None
    return LatencyLimits(
        target_latency_ms=arguments.target_latency,
        percentile=arguments.percentile,
        min_fps=arguments.min_fps,
        max_memory_mib=arguments.max_memory,
        max_cpu_share=arguments.max_cpu,
        margin=arguments.margin,
        max_drop=arguments.max_drop,
    )


def _quantity(text: str, units: Mapping[str, float], wanted: str) -> float:
    found = _NUMBER.fullmatch(text)
    scale = next(
        (value for unit, value in units.items() if found is not None and unit.lower() == found[2].lower()), None
    )
    if found is None or scale is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be {wanted}, got '{text}'")
    return float(found[1]) * scale
