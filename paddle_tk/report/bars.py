"""Horizontal bars: scores, sums, shares, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from paddle_tk.report.scales import Axis, finite, linear_axis
from paddle_tk.report.svg import FONT, LINE, SERIES, centred, drawing, element, fit, line, rect, text, text_width

_THICK, _PITCH, _GROUP_GAP, _LABEL_SHARE = 16, 28, 14, 0.3
_NARROW = 400  # px of a drawing's width below which labels stand above their bars


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: Whose it is.
        series: Number of the option, which gives the colour.
        value: Its length; None: unknown.
        text: What stands behind it.
        low: Least possible value, drawn where it differs from ``high``.
        high: Largest possible value.
        parts: Values it is made of, from the axis; they sum to ``value``. None: one piece.
    """

    label: str
    series: int
    value: float | None
    text: str
    low: float | None = None
    high: float | None = None
    parts: tuple[float, ...] = ()


@dataclass(frozen=True)
class BarGroup:
    """Bars below a heading, "" for none."""

    title: str
    bars: tuple[Bar, ...]


def bar_chart(
    name: str,
    title: str,
    groups: Sequence[BarGroup],
    *,
    width: int,
    axis: Axis | None = None,
    reference: tuple[float, str] | None = None,
    axis_label: str = "",
) -> Markup:
    """Draws groups of horizontal bars on one axis that starts at 0.

    Args:
        name: Unique on the page.
        title: What it shows.
        groups: From top to bottom; at least one bar in all.
        width: Of the drawing, in px; below 400 labels stand above their bars.
        axis: Of the values; None: from 0 to the largest of them.
        reference: A value that is marked by a dashed line, and its name.
        axis_label: Unit of the axis.
    """
    bars = [b for g in groups for b in g.bars]
    axis = axis or linear_axis(finite([x for b in bars for x in (b.value, b.low, b.high)]), zero=True)
    frame = _Frame.of(width, bars, axis)
    y, body = 4.0 if reference is None else 4.0 + LINE, []
    top = y
    for group in groups:
        if group.title:
            body.append(text(0, y + FONT, fit(group.title, width), "strong"))
            y += LINE + 6
        for bar in group.bars:
            body += frame.bar(bar, y)
            y += frame.pitch
        y += _GROUP_GAP if group is not groups[-1] else 0
    back = [line(frame.x(t), top, frame.x(t), y, "grid") for t in axis.ticks]
    below = frame.ticks(y, axis_label)
    front = [] if reference is None else frame.reference(*reference, top, y)
    told = "; ".join(f"{g.title + ': ' if g.title else ''}{b.label} {b.text}" for g in groups for b in g.bars)
    return drawing(name, title, told, width, y + (LINE * 2 if axis_label else LINE) + 6, [*back, *body, *below, *front])


@dataclass(frozen=True)
class _Frame:
    """Where the bars lie."""

    width: int
    start: float
    end: float
    axis: Axis
    above: int  # lines of text above a bar; 0: the text stands beside it

    @classmethod
    def of(cls, width: int, bars: Sequence[Bar], axis: Axis) -> _Frame:
        behind = 10 + max((text_width(b.text) for b in bars), default=0)
        if width < _NARROW:
            fits = all(text_width(b.label) + text_width(b.text) + 12 <= width for b in bars)
            return cls(width, 6, width - 12, axis, above=1 if fits else 2)
        label = min(max((text_width(b.label) for b in bars), default=0) + 12, width * _LABEL_SHARE)
        return cls(width, label, width - min(behind, width * _LABEL_SHARE), axis, above=0)

    @property
    def pitch(self) -> float:
        return _PITCH + LINE * self.above

    def x(self, value: float) -> float:
        return self.axis.at(value, self.start, self.end)

    def bar(self, bar: Bar, y: float) -> list[Markup]:
        drawn = []
        if self.above:
            drawn.append(text(0, y + FONT, fit(bar.label, self.width)))
            at, anchor = (self.width, "end") if self.above == 1 else (0, "")
            drawn.append(text(at, y + FONT + LINE * (self.above - 1), fit(bar.text, self.width), "muted", anchor))
            y += LINE * self.above
        else:
            drawn.append(text(0, y + _THICK - 3, fit(bar.label, self.start - 10)))
        drawn += self.pieces(bar, y)
        if bar.low is not None and bar.high is not None and bar.high > bar.low:
            drawn += self.bracket(bar.low, bar.high, y + _THICK / 2)
        if not self.above:
            reach = max(finite([bar.value, bar.high]), default=self.axis.low)
            drawn.append(text(self.x(reach) + 8, y + _THICK - 3, fit(bar.text, self.width - self.x(reach) - 8)))
        return drawn

    def pieces(self, bar: Bar, y: float) -> list[Markup]:
        look = f"s{bar.series % SERIES}"
        tip = element("title", escape(f"{bar.label}: {bar.text}"))
        if bar.value is None or not finite([bar.value]):
            if bar.low is None or bar.high is None:
                return []
            left, right = self.x(bar.low), self.x(bar.high)
            return [rect(left, y, right - left, _THICK, f"possible {look}", tip)]
        edge, pieces = 0.0, []
        for number, part in enumerate(bar.parts or (bar.value,)):
            left, right = self.x(edge), self.x(edge + part)
            pieces.append(rect(left, y, right - left, _THICK, f"bar part{min(number, 3)} {look}", tip))
            edge += part
        return pieces

    def bracket(self, low: float, high: float, y: float) -> list[Markup]:
        left, right = self.x(low), self.x(high)
        return [
            line(left, y, right, y, "range"),
            line(left, y - 5, left, y + 5, "range"),
            line(right, y - 5, right, y + 5, "range"),
        ]

    def ticks(self, y: float, axis_label: str) -> list[Markup]:
        drawn = [line(self.start, y, self.end, y, "axis")]
        for value, label in zip(self.axis.ticks, self.axis.labels(), strict=True):
            drawn.append(centred(self.x(value), y + LINE, label, self.width))
        if axis_label:
            drawn.append(text(self.end, y + 2 * LINE, axis_label, "muted", "end"))
        return drawn

    def reference(self, value: float, label: str, top: float, bottom: float) -> list[Markup]:
        x = self.x(value)
        return [line(x, top - 2, x, bottom, "reference"), centred(x, top - 6, label, self.width)]
