"""A candidate of the latency mode and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from paddle_tk.errors import CheckFailed
from paddle_tk.measure.memory import ProcessFigures
from paddle_tk.pipelines.latency_bench import Accuracy, Times
from paddle_tk.pipelines.latency_candidates import Candidate
from paddle_tk.pipelines.latency_limits import Breach, Figures, LatencyLimits, breaches


@dataclass(eq=False)
class Trial:
    """A candidate and what became of it.

    Attributes:
        candidate: What was tried.
        screening: Of a few runs.
        careful: Of a hundred and more, in several fresh processes that took turns with other candidates'.
        alone: Of a fresh process with nothing beside it.
        process: Its memory and cold start.
        accuracy: What its predictions are worth.
        reason: Why it lost; "": it did not.
        unfit: Its accuracy rules it out.
    """

    candidate: Candidate
    screening: Times | None = None
    careful: Times | None = None
    alone: Times | None = None
    process: ProcessFigures | None = None
    accuracy: Accuracy | None = None
    reason: str = ""
    unfit: bool = False

    @property
    def times(self) -> Times:
        """The most careful times there are."""
        found = self.alone or self.careful or self.screening
        assert found is not None
        return found

    @property
    def p50_ms(self) -> float:
        """The median of the most careful times."""
        return self.times.latency.p50_ms

    @property
    def told(self) -> str:
        """The candidate in words."""
        return self.candidate.settings.told()

    @property
    def worth(self) -> float:
        """Its main metric, 0 where that is not known."""
        return self.accuracy.value if self.accuracy is not None and self.accuracy.value is not None else 0.0

    @property
    def group(self) -> tuple[Any, ...]:
        """What it computes and in what numbers: candidates of one group differ in their answers by rounding only."""
        own = self.candidate.settings
        # Integer kernels round in other places from engine to engine.
        return own.precision, own.input_size, self.times.arithmetic, own.engine if own.precision == "int8" else ""

    @property
    def pairing(self) -> tuple[Any, ...]:
        """All settings but the precision."""
        return tuple(vars(replace(self.candidate.settings, precision="")).values())

    def figures(self, percentile: int) -> Figures:
        """Returns what is held against the limits: of the careful times and the lonely ones the worse figures."""
        parts = [found for found in (self.careful, self.alone) if found is not None]
        if not parts:
            found = self.times
            return Figures(
                found.latency.p50_ms, found.latency.n, found.images_per_second, found.cpu_share, found.peak_mib
            )
        slowest = max(parts, key=lambda found: found.latency.percentile_ms(percentile))
        peaks = [found.peak_mib for found in parts]
        return Figures(
            slowest.latency.percentile_ms(percentile),
            slowest.latency.n,
            min(found.images_per_second for found in parts),
            max(found.cpu_share for found in parts),
            max(peaks) if self.process is None else max(*peaks, self.process.peak_mib),
        )

    def breaches(self, limits: LatencyLimits) -> tuple[Breach, ...]:
        """Returns the limits it breaks, by its most careful figures."""
        screening = self.careful is None and self.alone is None
        return breaches(limits, self.figures(limits.percentile), screening=screening)

    def far_off(self, limits: LatencyLimits) -> float:
        """Returns by what factor it breaks the limit that it breaks most, 1 where it keeps all."""
        return max((breach.factor for breach in self.breaches(limits)), default=1.0)


def nothing_fits(closest: Trial, limits: LatencyLimits, hints: tuple[str, ...] = ()) -> CheckFailed:
    """Returns the failure that tells of the closest candidate, its figures and what to try.

    Args:
        closest: The candidate that breaks the limits least.
        limits: What was asked for.
        hints: What to try besides.
    """
    found, latency = closest.figures(limits.percentile), closest.times.latency
    broken = closest.breaches(limits)
    told = "; ".join(breach.told for breach in broken) or closest.reason
    advice = [breach.advice for breach in broken]
    if broken and not closest.breaches(replace(limits, margin=0.0)):
        advice = [f"it fits without the margin of {100 * limits.margin:g} %: --margin 0"]
    memory = "" if found.peak_mib is None else f", peak {found.peak_mib:.0f} MiB"
    return CheckFailed(
        f"no candidate keeps {limits.told()}: the closest is {closest.told}: {told} (p50 {latency.p50_ms:.3g}, p95 "
        f"{latency.p95_ms:.3g}, p99 {latency.p99_ms:.3g} ms, n={latency.n}, {found.images_per_second:.4g} images/s, "
        f"CPU {100 * found.cpu_share:.0f} %{memory})",
        "; ".join(dict.fromkeys([*advice, *hints])),
    )
