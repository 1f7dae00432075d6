"""The few SVG elements the plots are made of: escaped, finite, coloured by CSS classes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

FONT = 13  # px
LINE = 18  # px from one line of text to the next
_NARROW, _WIDE = 0.58, 1.0  # widths of a character in units of the font's size
SERIES = 8  # looks that differ; a further option starts over
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 5", "4 2", "1 4", "9 3 2 3 2 3")
NAMESPACE = "http://www.w3.org/2000/svg"
_GROUND = '<rect class="ground" width="100%" height="100%"/>'


def element(tag: str, *children: Markup, **attributes: object) -> Markup:
    """Returns an element.

    Args:
        tag: Its name.
        children: Markup inside.
        attributes: ``stroke_width`` becomes ``stroke-width``, ``class_`` becomes ``class``; None and "" are left out.

    Raises:
        ValueError: A number is not finite.
    """
    parts = [f' {_name(k)}="{escape(_value(k, v))}"' for k, v in attributes.items() if v is not None and v != ""]
    return Markup("<{}{}>{}</{}>").format(Markup(tag), Markup("".join(parts)), Markup("").join(children), Markup(tag))  # noqa: S704 (names are ours, values are escaped)


def _name(key: str) -> str:
    return key if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _value(key: str, value: object) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{key} of a plot's element must be finite, got {value}")
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "") -> Markup:
    """Returns a text whose baseline starts (or, by ``anchor``, ends) at a point."""
    return element("text", escape(content), x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def centred(x: float, y: float, content: str, width: float) -> Markup:
    """Returns a muted text centred at a point, moved inwards where it would leave a drawing ``width`` px wide."""
    half = text_width(content) / 2
    return text(min(max(x, half), width - half), y, content, "muted", "middle")


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **attributes: object) -> Markup:
    """Returns a straight line."""
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return element("line", **ends, class_=class_, **attributes)


def rect(x: float, y: float, width: float, height: float, class_: str, *children: Markup, **other: object) -> Markup:
    """Returns a rectangle; a negative width or height counts as 0."""
    size = {"width": max(float(width), 0.0), "height": max(float(height), 0.0)}
    return element("rect", *children, x=float(x), y=float(y), **size, class_=class_, **other)


def path(points: Iterable[tuple[float, float]], class_: str, **attributes: object) -> Markup:
    """Returns a line through points."""
    steps = " ".join(f"{_value('d', float(x))},{_value('d', float(y))}" for x, y in points)
    return element("polyline", points=steps, class_=class_, fill="none", **attributes)


def marker(series: int, x: float, y: float, size: float = 4.5, class_: str = "mark", tip: str = "") -> Markup:
    """Returns the marker of a series: circle, square, triangle, diamond, ... centred at a point."""
    tips = [element("title", escape(tip))] if tip else []
    kind = series % SERIES
    look = f"{class_} s{kind}"
    if kind == 0:
        return element("circle", *tips, cx=float(x), cy=float(y), r=float(size), class_=look)
    corners = _SHAPES[kind]
    points = " ".join(f"{_value('p', x + size * dx)},{_value('p', y + size * dy)}" for dx, dy in corners)
    return element("polygon", *tips, points=points, class_=look)


def _regular(corners: int, turn: float, radius: float = 1.15, inner: float | None = None) -> list[tuple[float, float]]:
    count = corners if inner is None else 2 * corners
    points = []
    for n in range(count):
        angle = 2 * math.pi * n / count + math.radians(turn)
        r = radius if inner is None or n % 2 == 0 else inner
        points.append((r * math.cos(angle), r * math.sin(angle)))
    return points


_SHAPES: dict[int, Sequence[tuple[float, float]]] = {
    1: [(-0.92, -0.92), (0.92, -0.92), (0.92, 0.92), (-0.92, 0.92)],
    2: _regular(3, -90, 1.3),
    3: _regular(4, 0, 1.3),
    4: _regular(3, 90, 1.3),
    5: _regular(4, 45, 1.45, 0.55),
    6: _regular(6, 0),
    7: _regular(5, -90, 1.4, 0.6),
}


def text_width(content: str, size: float = FONT) -> float:
    """Returns about how wide a text is, in px: rather too wide than too narrow."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in content)
    return size * (_WIDE * wide + _NARROW * (len(content) - wide))


def fit(content: str, width: float, size: float = FONT) -> str:
    """Returns a text, shortened with an ellipsis where it is wider than ``width`` px."""
    if text_width(content, size) <= width:
        return content
    kept = content
    while kept and text_width(f"{kept}…", size) > width:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"


def drawing(name: str, title: str, description: str, width: float, height: float, body: Sequence[Markup]) -> Markup:
    """Returns a whole drawing with a title and a description for those who cannot see it.

    Args:
        name: Unique on the page.
        title: A few words.
        description: What can be read from it.
        width: In px.
        height: In px.
        body: What is drawn.
    """
    head = [
        element("title", escape(title), id=f"{name}-title"),
        element("desc", escape(description), id=f"{name}-desc"),
    ]
    # Texts come last: their outline in the ground's colour keeps lines off them.
    ordered = sorted(body, key=lambda child: child.startswith("<text"))
    return element(
        "svg", *head, *ordered, class_="plot-svg", role="img", viewBox=f"0 0 {width:g} {math.ceil(height)}",
        width=f"{width:g}", height=f"{math.ceil(height)}", aria_labelledby=f"{name}-title {name}-desc",
    )  # fmt: skip


def standalone(svg: Markup, style: str) -> str:
    """Returns a drawing as the text of a file of its own: with its namespace, its background and ``style``."""
    head, rest = str(svg).split(">", 1)
    space = f'<svg xmlns="{NAMESPACE}"'
    return f"{head.replace('<svg', space, 1)}><style>{style}</style>{_GROUND}{rest}\n"
