"""Distributions of samples, and ratios with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from paddle_tk.report.numbers import number, ratio
from paddle_tk.report.scales import Axis, axis_for, finite, log_axis
from paddle_tk.report.svg import (
    FONT,
    LINE,
    SERIES,
    centred,
    drawing,
    element,
    fit,
    line,
    marker,
    rect,
    text,
    text_width,
)

SHOWN = 400  # dots per option
_BIN, _HIST, _STRIP, _GAP = 7, 44, 22, 18
_QUANTILES = ((50, ""), (95, "6 3"), (99, "2 2"))
_LOG_FROM = 8.0
_NARROW = 400  # px of width below which labels stand above


@dataclass(frozen=True)
class Strip:
    """All samples of one option; at least one of them finite."""

    label: str
    series: int
    samples: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """Returns a percentile, interpolated linearly between samples."""
        return float(np.percentile(finite(self.samples), share))


def strip_chart(name: str, title: str, strips: Sequence[Strip], *, width: int, unit: str) -> Markup:
    """Draws, for every option, a histogram and the single samples on one axis, with p50, p95 and p99 marked.

    Args:
        name: Unique on the page.
        title: What it shows.
        strips: One per option.
        width: Of the drawing, in px.
        unit: Of the samples.
    """
    values = [v for s in strips for v in finite(s.samples)]
    axis = log_axis(values) if min(values) > 0 and max(values) / min(values) > _LOG_FROM else axis_for(values)
    rows: list[Markup] = []
    y = 2.0
    stacked = width < _NARROW
    tops = []
    for strip in strips:
        told = _told(strip)
        if stacked:
            rows += [text(0, y + FONT, fit(strip.label, width), "strong"), text(0, y + FONT + LINE, told, "muted")]
        else:
            rows.append(text(width, y + FONT, told, "muted", "end"))
            rows.append(text(0, y + FONT, fit(strip.label, width - text_width(told) - 16), "strong"))
        y += LINE * (2 if stacked else 1) + 6
        tops.append(y)
        rows += _strip(strip, axis, width, y)
        y += _HIST + _STRIP + _GAP
    y -= _GAP - 6
    back = [
        line(_x(axis, t, width), top - 2, _x(axis, t, width), top + _HIST + _STRIP, "grid")
        for t in axis.ticks
        for top in tops
    ]
    body = [*back, *rows, *_ticks(axis, width, y, unit)]
    told = "; ".join(f"{s.label}: {_told(s)} {unit}, n={len(s.samples)}" for s in strips)
    return drawing(name, title, told, width, y + 2 * LINE + 6, body)


def _told(strip: Strip) -> str:
    return " · ".join(f"p{q} {number(strip.percentile(q))}" for q, _ in _QUANTILES)


def _x(axis: Axis, value: float, width: float) -> float:
    return axis.at(value, 8.0, width - 12.0)


def _strip(strip: Strip, axis: Axis, width: int, y: float) -> list[Markup]:
    look = f"s{strip.series % SERIES}"
    at = np.array([_x(axis, v, width) for v in finite(strip.samples)])
    counts, edges = np.histogram(at, bins=width // _BIN, range=(8.0, width - 12.0))
    scale = _HIST / counts.max()
    drawn = [
        rect(left, y + _HIST - n * scale, right - left - 1, n * scale, f"bin {look}")
        for n, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if n
    ]
    drawn.append(line(8, y + _HIST, width - 12, y + _HIST, "axis"))
    dots = thinned(finite(strip.samples))
    for number_, value in enumerate(dots):
        # Golden-ratio steps spread neighbours over the strip's height, the same on every run.
        height = y + _HIST + 5 + (number_ * 0.618034 % 1) * (_STRIP - 8)
        drawn.append(element("circle", cx=_x(axis, value, width), cy=height, r=1.9, class_=f"dot {look}"))
    for share, dashes in _QUANTILES:
        x = _x(axis, strip.percentile(share), width)
        tip = element("title", escape(f"{strip.label}: p{share} {number(strip.percentile(share))}"))
        drawn.append(
            element("line", tip, x1=x, y1=y, x2=x, y2=y + _HIST + _STRIP, class_="quantile", stroke_dasharray=dashes)
        )
    return drawn


def thinned(samples: Sequence[float], shown: int = SHOWN) -> list[float]:
    """Returns at most ``shown`` samples, sorted and evenly picked, the least and the largest among them."""
    ordered = sorted(samples)
    if len(ordered) <= shown:
        return ordered
    return [ordered[round(n * (len(ordered) - 1) / (shown - 1))] for n in range(shown)]


def _ticks(axis: Axis, width: int, y: float, unit: str) -> list[Markup]:
    drawn = [line(8, y, width - 12, y, "axis")]
    for value, label in zip(axis.ticks, axis.labels(), strict=True):
        drawn.append(centred(_x(axis, value, width), y + LINE, label, width))
    drawn.append(text(width - 12, y + 2 * LINE, unit, "muted", "end"))
    return drawn


@dataclass(frozen=True)
class Ratio:
    """A ratio with its interval. ``series`` is the better option's; None: no difference."""

    label: str
    value: float
    low: float
    high: float
    series: int | None

    @property
    def told(self) -> str:
        """The ratio and its interval."""
        return f"{ratio(self.value)} [{ratio(self.low)}, {ratio(self.high)}]"


def forest_chart(
    name: str, title: str, groups: Sequence[tuple[str, Sequence[Ratio]]], *, width: int, same_within: float | None
) -> Markup:
    """Draws ratios on a logarithmic axis around 1.

    Args:
        name: Unique on the page.
        title: What it shows.
        groups: Pairs of options, and their ratios, all above 0.
        width: Of the drawing, in px.
        same_within: Ratios this close to 1 count as equal; drawn as a band. None: not known.
    """
    ratios = [r for _, group in groups for r in group]
    rows = _Rows.of(ratios, width)
    y, body = 4.0, []
    for heading, group in groups:
        body.append(text(0, y + FONT, fit(heading, width), "strong"))
        y += LINE + 8
        for one in group:
            body += rows.draw(one, y)
            y += rows.pitch
        y += 8
    margin = same_within or 0.0
    left, right = rows.x(1 - margin), rows.x(1 + margin)
    back = [rect(left, LINE + 4, max(right - left, 1.0), y - LINE - 4, "band")]
    back += [line(rows.x(t), LINE + 4, rows.x(t), y, "grid") for t in rows.axis.ticks]
    back.append(line(rows.x(1), LINE + 4, rows.x(1), y, "axis"))
    labels = zip(rows.axis.ticks, rows.axis.labels(), strict=True)
    below = [centred(rows.x(t), y + LINE, label, width) for t, label in labels]
    told = "; ".join(f"{heading}: {r.label} {r.told}" for heading, group in groups for r in group)
    return drawing(name, title, told, width, y + LINE + 8, [*back, *body, *below])


@dataclass(frozen=True)
class _Rows:
    """Where the ratios lie."""

    width: int
    start: float
    end: float
    axis: Axis
    stacked: bool

    @classmethod
    def of(cls, ratios: Sequence[Ratio], width: int) -> _Rows:
        axis = log_axis([v for r in ratios for v in (r.value, r.low, r.high, 1.0)])
        if width < _NARROW:
            return cls(width, 6.0, width - 14.0, axis, stacked=True)
        start = min(width * 0.36, max(text_width(r.label) for r in ratios) + 14)
        return cls(width, start, width - max(text_width(r.told) for r in ratios) - 12, axis, stacked=False)

    @property
    def pitch(self) -> float:
        return LINE * (3 if self.stacked else 1) + 8

    def x(self, value: float) -> float:
        return self.axis.at(value, self.start, self.end)

    def draw(self, one: Ratio, y: float) -> list[Markup]:
        if self.stacked:
            body = [text(0, y + FONT, fit(one.label, self.width)), text(0, y + FONT + LINE, one.told, "muted")]
            y += 2 * LINE
        else:
            body = [
                text(0, y + FONT, fit(one.label, self.start - 12)),
                text(self.width, y + FONT, one.told, "muted", "end"),
            ]
        middle = y + FONT - 4.5
        look = "same" if one.series is None else f"s{one.series % SERIES}"
        body.append(line(self.x(one.low), middle, self.x(one.high), middle, f"interval {look}"))
        tip = f"{one.label}: {one.told}"
        if one.series is not None:
            return [*body, marker(one.series, self.x(one.value), middle, 5.5, tip=tip)]
        title = element("title", escape(tip))
        return [*body, element("circle", title, cx=self.x(one.value), cy=middle, r=5.0, class_="equal")]
