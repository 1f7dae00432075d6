"""What the latency mode promises: limits on time, rate, memory and processor, and what breaks them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from paddle_tk.errors import BadInput

Percentile = Literal[50, 95, 99]


@dataclass(frozen=True)
class LatencyLimits:
    """What the chosen model must keep to on this machine; None: not limited.

    Attributes:
        target_latency_ms: Of one batch, at ``percentile``.
        percentile: 50, 95 or 99: of 100 batches so many take no longer than the limit.
        min_fps: Images per second.
        max_memory_mib: Peak resident memory of a process that runs nothing else, in MiB.
        max_cpu_share: Busy share of the cores that may be used while it predicts one batch after the other, 0..1.
        margin: Share of the limits on time and rate that is kept free, so that the promise holds at a noisier moment.
        max_drop: Largest loss of the main metric against the given model, a share in 0..1.
        same_accuracy: Candidates whose main metric differs by no more than this count as equally accurate.
    """

    target_latency_ms: float | None = None
    percentile: Percentile = 95
    min_fps: float | None = None
    max_memory_mib: float | None = None
    max_cpu_share: float | None = None
    margin: float = 0.1
    max_drop: float = 0.01
    same_accuracy: float = 0.001

    def __post_init__(self) -> None:
        bounds = (self.target_latency_ms, self.min_fps, self.max_memory_mib, self.max_cpu_share)
        if all(bound is None for bound in bounds):
            raise BadInput("no limit was given", "give --target-latency, --min-fps, --max-memory or --max-cpu")
        if any(bound is not None and not bound > 0 for bound in bounds):
            raise ValueError(f"every limit must be above 0, got {bounds}")
        if self.percentile not in (50, 95, 99) or not 0 <= self.margin < 1:
            raise ValueError(
                f"expected a percentile of 50, 95 or 99 and a margin in 0..1, got {self.percentile}, {self.margin}"
            )

    @property
    def aimed_latency_ms(self) -> float | None:
        """The latency that the search accepts: the limit less the margin."""
        return None if self.target_latency_ms is None else self.target_latency_ms * (1 - self.margin)

    @property
    def aimed_fps(self) -> float | None:
        """The rate that the search accepts: the limit and the margin."""
        return None if self.min_fps is None else self.min_fps * (1 + self.margin)

    def told(self) -> str:
        """Returns the limits in words."""
        parts = []
        if self.target_latency_ms is not None:
            parts.append(f"p{self.percentile} <= {self.target_latency_ms:g} ms")
        if self.min_fps is not None:
            parts.append(f">= {self.min_fps:g} images/s")
        if self.max_memory_mib is not None:
            parts.append(f"<= {self.max_memory_mib:g} MiB")
        if self.max_cpu_share is not None:
            parts.append(f"<= {100 * self.max_cpu_share:g} % CPU")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Figures:
    """What was measured of a candidate; None: it was not.

    Attributes:
        latency_ms: At the limits' percentile (in a screening of few runs: the median).
        n: Batches behind it.
        images_per_second: As the candidate is run.
        cpu_share: Busy share of the cores, 0..1.
        peak_mib: Peak memory.
    """

    latency_ms: float
    n: int
    images_per_second: float
    cpu_share: float
    peak_mib: float | None = None


@dataclass(frozen=True)
class Breach:
    """One limit that is broken.

    Attributes:
        limit: "latency", "rate", "memory" or "CPU".
        told: What was found and what is allowed, in words.
        factor: How far off it is; 2: twice as much, or half as much, as allowed.
        advice: What to try.
    """

    limit: str
    told: str
    factor: float
    advice: str


def breaches(limits: LatencyLimits, found: Figures, *, screening: bool = False) -> tuple[Breach, ...]:
    """Holds figures against the limits.

    Args:
        limits: What is allowed.
        found: What was measured.
        screening: The figures are of few runs: the latency is the median, and no margin is asked for.
    """
    checks = (
        _latency(limits, found, screening),
        _rate(limits, found, screening),
        _memory(limits, found),
        _cpu(limits, found),
    )
    return tuple(breach for breach in checks if breach is not None)


def _latency(limits: LatencyLimits, found: Figures, screening: bool) -> Breach | None:
    most = limits.target_latency_ms if screening else limits.aimed_latency_ms
    if most is None or found.latency_ms <= most:
        return None
    name = "p50" if screening else f"p{limits.percentile}"
    return Breach(
        "latency",
        f"{name} {found.latency_ms:.3g} ms (n={found.n}) above {_aim(limits.target_latency_ms, most, limits)} ms",
        found.latency_ms / most,
        "train a smaller network or at a smaller data.image_size, or name smaller sizes with --input-sizes",
    )


def _rate(limits: LatencyLimits, found: Figures, screening: bool) -> Breach | None:
    least = limits.min_fps if screening else limits.aimed_fps
    if least is None or found.images_per_second >= least:
        return None
    told = f"{found.images_per_second:.4g} images/s below {_aim(limits.min_fps, least, limits)}"
    return Breach(
        "rate", told, least / max(found.images_per_second, 1e-9), "train a smaller network, or free the cores"
    )


def _memory(limits: LatencyLimits, found: Figures) -> Breach | None:
    most = limits.max_memory_mib
    if most is None or found.peak_mib is None or found.peak_mib <= most:
        return None
    told = f"peak memory {found.peak_mib:.4g} MiB above {most:.4g} MiB"
    return Breach("memory", told, found.peak_mib / most, "allow ONNX Runtime among the engines, which takes the least")


def _cpu(limits: LatencyLimits, found: Figures) -> Breach | None:
    most = limits.max_cpu_share
    if most is None or found.cpu_share <= most:
        return None
    told = f"CPU {100 * found.cpu_share:.3g} % above {100 * most:.3g} %"
    return Breach("CPU", told, found.cpu_share / most, "one thread takes the least CPU: allow its share of the cores")


def _aim(limit: float | None, aimed: float, limits: LatencyLimits) -> str:
    """Returns a bound, and where it comes from when a margin was taken off."""
    if limit is None or aimed == limit:
        return f"{aimed:.4g}"
    return f"{aimed:.4g} ({limit:g} with a margin of {100 * limits.margin:g} %)"
