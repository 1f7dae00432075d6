"""Axes with readable ticks, linear and logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paddle_tk.report.numbers import number

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LOG_FROM = 30.0  # largest / smallest value from which a logarithmic axis shows more
_DECADE = 6.0  # ratio of an axis' ends below which a logarithmic axis gets evenly spaced ticks


@dataclass(frozen=True)
class Axis:
    """A range of values and its ticks.

    Attributes:
        low: Value at the axis' start.
        high: Value at its end; above ``low``.
        ticks: Values that are labelled.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float, start: float, end: float) -> float:
        """Returns where a value lies between two coordinates; values outside are moved to the nearer end."""
        value = min(max(value, self.low), self.high)
        share = (
            math.log(value / self.low) / math.log(self.high / self.low)
            if self.log
            else (value - self.low) / (self.high - self.low)
        )
        return start + share * (end - start)

    def labels(self) -> list[str]:
        """Returns the ticks' texts, with equally many decimals where they are evenly spaced."""
        gaps = [b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)]
        if not gaps or max(gaps) > 1.01 * min(gaps) or min(gaps) < 1e-4:
            return [f"{t:g}" if 1e-3 <= abs(t) < 1e4 else number(t) for t in self.ticks]
        decimals = max(0, math.ceil(-math.log10(min(gaps)) - 1e-9))
        decimals += round(min(gaps) * 10**decimals, 6) != round(min(gaps) * 10**decimals)
        return [f"{t:,.{decimals}f}" for t in self.ticks]


def finite(values: Iterable[float | None]) -> list[float]:
    """Returns the values that can be drawn."""
    return [v for v in values if v is not None and math.isfinite(v)]


def linear_axis(values: Sequence[float], *, zero: bool = False, ticks: int = 5) -> Axis:
    """Returns an axis that holds all values and ends on ticks.

    Args:
        values: Finite ones; none at all gives 0..1.
        zero: Whether it starts at (or holds) 0.
        ticks: About how many.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        spread = abs(high) * 0.1 or 1.0
        low, high = (low if zero and low == 0 else low - spread), high + spread
    step = _step(high - low, ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(n * step for n in range(first, last + 1)))


def log_axis(values: Sequence[float], *, ticks: int = 6) -> Axis:
    """Returns a logarithmic axis that holds all values.

    Args:
        values: Above 0.
        ticks: At most about how many.
    """
    low, high = min(values), max(values)
    low, high = low / 1.05, high * 1.05
    if high / low < _DECADE:
        step = _step(high - low, ticks - 1)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return Axis(low, high, tuple(n * step for n in range(first, last + 1)), log=True)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        if len(found) <= ticks:
            break
    every = max(1, math.ceil(len(found) / ticks))
    return Axis(low, high, tuple(found[::every]), log=True)


def axis_for(values: Sequence[float], *, ticks: int = 5) -> Axis:
    """Returns a logarithmic axis where the values are above 0 and far apart, else a linear one."""
    if values and min(values) > 0 and max(values) / min(values) >= _LOG_FROM:
        return log_axis(values, ticks=ticks + 1)
    return linear_axis(values, ticks=ticks)


def _step(span: float, ticks: int) -> float:
    rough = span / max(ticks, 1)
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * s for s in _STEPS if size * s >= rough * (1 - 1e-9))
