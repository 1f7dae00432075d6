"""A criterion's score is a weighted sum of parts, one for each figure; a part that is not known is an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paddle_tk.decide.formulas import TOP, clipped
from paddle_tk.types import Measurement, Score

_SAME = 1e-12


@dataclass(frozen=True)
class Part:
    """What one figure gives to a score.

    Attributes:
        name: Of the figure.
        weight: Its share of the criterion.
        low: Least score that the evidence allows, 0..5.
        high: Largest.
        text: What it follows from, with the numbers.
        used: The measurements behind it.
        missing: What is missing, with the reason.
    """

    name: str
    weight: float
    low: float
    high: float
    text: str
    used: tuple[Measurement, ...] = ()
    missing: tuple[str, ...] = ()


def unknown(name: str, weight: float, why: str, used: tuple[Measurement, ...] = ()) -> Part:
    """Returns the part of a figure that is not there: anything from 0 to 5."""
    return Part(name, weight, 0.0, TOP, f"{name}: {why}", used, (f"{name} ({why})",))


def combine(option: str, criterion: str, parts: Sequence[Part]) -> Score:
    """Adds up parts whose weights sum to 1."""
    total = math.fsum(p.weight for p in parts)
    low = clipped(math.fsum(p.weight * p.low for p in parts) / total)
    high = max(low, clipped(math.fsum(p.weight * p.high for p in parts) / total))
    counted = [p for p in parts if p.high - p.low > _SAME and p.weight > 0]
    if not counted:
        high = low
    return Score(
        option=option,
        criterion=criterion,
        value=None if counted else low,
        low=low,
        high=high,
        formula=" + ".join(_term(p) for p in parts) + " = " + interval(low, high),
        evidence=_once(parts),
        missing=tuple(dict.fromkeys(m for p in counted for m in p.missing)),
    )


def _term(part: Part) -> str:
    shown = interval(part.low, part.high)
    return f"{part.weight:g} x {f'({shown})' if ' ' in shown else shown} [{part.text}]"


def _once(parts: Sequence[Part]) -> tuple[Measurement, ...]:
    found: list[Measurement] = []
    for part in parts:
        found += [m for m in part.used if m not in found]
    return tuple(found)


def interval(low: float, high: float) -> str:
    """Returns "3.25", or "3.1 to 3.6" where the ends differ."""
    return number(low) if high - low <= _SAME else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """Returns a score or a sum with at most three decimals."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def levelled(values: Mapping[str, float], *, higher: bool, same: Callable[[str, str], bool]) -> dict[str, float]:
    """Gives figures that show no difference one value: that of the best of them.

    From the best on, each option takes the value of the first one before it from which it shows no difference, where
    that one kept its own. The order of ``values`` does not matter.

    Args:
        values: Figure by option.
        higher: Whether more is better.
        same: Whether two options show no difference in this figure.
    """
    level: dict[str, float] = {}
    keepers: list[tuple[float, list[str]]] = []
    for option in sorted(values, key=lambda o: (-values[o] if higher else values[o], o)):
        own = values[option]
        found = next((k for k in keepers if k[0] == own or any(same(n, option) for n in k[1])), None)
        if found is None:
            keepers.append((own, [option]))
        elif found[0] == own:
            found[1].append(option)
        level[option] = own if found is None else found[0]
    return level
