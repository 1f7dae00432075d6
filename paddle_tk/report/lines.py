"""Curves laid over one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from paddle_tk.report.scales import Axis, axis_for, linear_axis
from paddle_tk.report.svg import (
    DASHES,
    FONT,
    LINE,
    SERIES,
    centred,
    drawing,
    element,
    fit,
    line,
    marker,
    path,
    text,
    text_width,
)

_MARKERS = 8  # on a long curve
_ALL_MARKED = 14  # points up to which each one gets a marker
_EDGE = 10  # px kept free at the right
_SAMPLE = 34  # px of line in the legend


@dataclass(frozen=True)
class Series:
    """One curve. Points whose x or y is not finite are left out and break the line."""

    label: str
    series: int
    x: tuple[float, ...]
    y: tuple[float, ...]


def line_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    width: int,
    height: int = 250,
    x_label: str,
    y_label: str,
    log_label: str,
    reference: tuple[float, str] | None = None,
) -> Markup:
    """Draws curves on common axes, the y axis logarithmic where its values are far apart.

    Args:
        name: Unique on the page.
        title: What it shows.
        series: One per option.
        width: Of the drawing, in px.
        height: Of the plotting area, in px.
        x_label: Title of the x axis, with its unit.
        y_label: Title of the y axis.
        log_label: What is added to it where the axis is logarithmic.
        reference: A y that is marked by a dashed line, and its name.
    """
    points = [p for s in series for run in _runs(s) for p in run]
    y_values = [y for _, y in points] + ([reference[0]] if reference else [])
    x_axis, y_axis = _x_axis([x for x, _ in points]), axis_for(y_values)
    legend, top = _legend(series, width)
    labels = y_axis.labels()
    left = max(text_width(label) for label in labels) + 10
    area = _Area(left, width - _EDGE, top + LINE + 8, top + LINE + 8 + height, x_axis, y_axis)
    told = f"{y_label}, {log_label}" if y_axis.log else y_label
    body = [*legend, text(0, top + FONT, fit(told, width), "muted"), *area.grid(labels)]
    if reference:
        body += area.reference(*reference)
    for one in sorted(series, key=lambda s: s.series):
        body += area.curve(one)
    body.append(text(area.right, area.bottom + 2 * LINE + 2, fit(x_label, width), "muted", "end"))
    ends = "; ".join(f"{s.label}: {_told_end(s)}" for s in series)
    return drawing(name, title, f"{x_label}, {y_label}. {ends}", width, area.bottom + 2 * LINE + 8, body)


def _x_axis(values: Sequence[float]) -> Axis:
    """Returns an axis that ends with the curves: ticks are where they fall."""
    axis = linear_axis(values, ticks=5)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        return axis
    low = 0.0 if 0 < low <= 0.1 * high else low
    return Axis(low, high, tuple(t for t in axis.ticks if low <= t <= high))


def _told_end(series: Series) -> str:
    last = [run[-1] for run in _runs(series)][-1:]
    return f"{len(series.x)} points, last ({last[0][0]:g}, {last[0][1]:.4g})" if last else "no points"


def _runs(series: Series) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(series.x, series.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _legend(series: Sequence[Series], width: int) -> tuple[list[Markup], float]:
    x, y, drawn = 0.0, 0.0, []
    for one in series:
        label = fit(one.label, width - _SAMPLE - 8)
        needed = _SAMPLE + 8 + text_width(label)
        if x > 0 and x + needed > width:
            x, y = 0.0, y + LINE + 2
        look = f"curve s{one.series % SERIES}"
        middle = y + FONT - 4
        drawn.append(line(x, middle, x + _SAMPLE, middle, look, stroke_dasharray=DASHES[one.series % SERIES]))
        drawn += [marker(one.series, x + _SAMPLE / 2, middle), text(x + _SAMPLE + 8, y + FONT, label)]
        x += needed + 20
    return drawn, y + LINE + 8


@dataclass(frozen=True)
class _Area:
    left: float
    right: float
    top: float
    bottom: float
    x_axis: Axis
    y_axis: Axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.x_axis.at(x, self.left, self.right), self.y_axis.at(y, self.bottom, self.top)

    def grid(self, labels: Sequence[str]) -> list[Markup]:
        drawn = []
        for value, label in zip(self.y_axis.ticks, labels, strict=True):
            y = self.y_axis.at(value, self.bottom, self.top)
            drawn.append(line(self.left, y, self.right, y, "grid"))
            drawn.append(text(self.left - 8, y + 4.5, label, "muted", "end"))
        drawn.append(line(self.left, self.bottom, self.right, self.bottom, "axis"))
        for value, label in zip(self.x_axis.ticks, self.x_axis.labels(), strict=True):
            x = self.x_axis.at(value, self.left, self.right)
            drawn.append(line(x, self.bottom, x, self.bottom + 4, "axis"))
            drawn.append(centred(x, self.bottom + LINE, label, self.right + _EDGE))
        return drawn

    def reference(self, value: float, label: str) -> list[Markup]:
        y = self.y_axis.at(value, self.bottom, self.top)
        at = y + 16 if y - self.top < 2 * LINE else y - 6
        return [line(self.left, y, self.right, y, "reference"), text(self.right, at, label, "muted", "end")]

    def curve(self, series: Series) -> list[Markup]:
        kind = series.series % SERIES
        runs = [[self.at(x, y) for x, y in run] for run in _runs(series)]
        drawn = [path(run, f"curve s{kind}", stroke_dasharray=DASHES[kind]) for run in runs if len(run) > 1]
        points = [point for run in runs for point in run]
        every = 1 if len(points) <= _ALL_MARKED else math.ceil(len(points) / _MARKERS)
        offset = kind * every // SERIES  # so that the markers of coinciding curves lie beside one another
        drawn += [marker(series.series, x, y) for x, y in points[offset::every]]
        return [element("g", *drawn)]
