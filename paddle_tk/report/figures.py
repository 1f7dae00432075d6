"""Every figure of a report as rows, grouped by name, each with the anchor that scores link to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddle_tk.evidence import Evidence
from paddle_tk.report.keys import Key, Keys
from paddle_tk.report.names import better
from paddle_tk.report.numbers import between, number
from paddle_tk.report.plots import figure_order
from paddle_tk.report.scales import finite
from paddle_tk.report.texts import Texts
from paddle_tk.types import Decision, Measurement

_HIDDEN = ("lowest", "highest")  # told by the spread
_SHOWN = 8  # entries of a list in the conditions


@dataclass(frozen=True)
class FigureRow:
    """One figure of one option.

    Attributes:
        anchor: Of its row.
        key: Whose it is.
        measurement: The figure.
        value: With its unit.
        spread: Least and largest sample; "" where there are fewer than two.
        share: Of the largest value in the group, 0..1: how long its bar is; None: no bar.
        conditions: Those it does not have in common with the rest of the group.
    """

    anchor: str
    key: Key
    measurement: Measurement
    value: str
    spread: str
    share: float | None
    conditions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FigureGroup:
    """All options' figures of one name, and the conditions they share."""

    name: str
    title: str
    direction: str
    conditions: tuple[tuple[str, str], ...]
    rows: tuple[FigureRow, ...]


Owned = tuple[str, Measurement]


def all_figures(evidence: Evidence | None, decision: Decision | None) -> list[Owned]:
    """Returns what was measured and what else the scores stand on, each once."""
    found = [(f.option, f.measurement) for f in evidence.figures] if evidence else []
    for score in decision.scores if decision else ():
        found += [(score.option, m) for m in score.evidence if _index(found, score.option, m) is None]
    return found


def _index(figures: Sequence[Owned], option: str, measurement: Measurement) -> int | None:
    """Returns where a figure is: the option's own; of what was measured once for several, else another's."""
    equal = [n for n, (_, m) in enumerate(figures) if m == measurement]
    own = next((n for n in equal if figures[n][0] == option), None)
    return equal[0] if own is None and equal and measurement.origin == "measured" else own


def figure_groups(figures: Sequence[Owned], keys: Keys, t: Texts) -> tuple[FigureGroup, ...]:
    """Returns the figures by name, in the report's order; anchors count through ``figures``."""
    numbered = list(enumerate(figures, start=1))
    order = sorted({m.name for _, (_, m) in numbered}, key=lambda n: (figure_order(n), n))
    ranked = sorted(numbered, key=lambda entry: keys[entry[1][0]].series)
    return tuple(_group(name, [(at, o, m) for at, (o, m) in ranked if m.name == name], keys, t) for name in order)


def anchor(figures: Sequence[Owned], option: str, measurement: Measurement) -> str:
    """Returns the anchor of a figure that is in ``all_figures``."""
    at = _index(figures, option, measurement)
    assert at is not None
    return f"figure-{at + 1}"


def _group(name: str, found: list[tuple[int, str, Measurement]], keys: Keys, t: Texts) -> FigureGroup:
    told = [dict(conditions(m)) for _, _, m in found]
    shared = {k: v for k, v in told[0].items() if all(other.get(k) == v for other in told)} if len(told) > 1 else {}
    values = finite(m.value for _, _, m in found)
    direction = better(name)
    top = max(values, default=0.0)
    barred = len(values) > 1 and min(values) >= 0 and top > 0 and found[0][2].unit != "0/1"
    rows = []
    for (at, option, m), own in zip(found, told, strict=True):
        rest = tuple((k, v) for k, v in own.items() if k not in shared)
        share = m.value / top if barred and math.isfinite(m.value) else None
        rows.append(
            FigureRow(f"figure-{at}", keys[option], m, t.value(m.value, m.unit), _spread(m, t), share, rest)
        )  # fmt: skip
    title = t.figure(name)
    return FigureGroup(name, title, t(direction) if direction else "", tuple(shared.items()), tuple(rows))


def _spread(measurement: Measurement, t: Texts) -> str:
    values = finite(measurement.samples)
    if len(values) < 2 or min(values) == max(values):
        return ""
    return between(number(min(values)), t.value(max(values), measurement.unit))


def conditions(measurement: Measurement) -> tuple[tuple[str, str], ...]:
    """Returns a figure's device and conditions as text."""
    told = [("device", measurement.device), *flat(measurement.conditions)]
    return tuple((k, v) for k, v in told if k not in _HIDDEN and v != "")


def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Returns nested settings as pairs of a dotted key and a text."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            pairs += flat(value, f"{name}.")
        else:
            pairs.append((name, plain(value)))
    return pairs


def plain(value: Any) -> str:
    """Returns any JSON value as a short text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        shown = ", ".join(plain(v) for v in value[:_SHOWN])
        return f"{shown}, … ({len(value)})" if len(value) > _SHOWN else shown or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"  # a setting is told as it was set
    return "-" if value is None else str(value)
