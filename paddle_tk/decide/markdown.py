"""Markdown that shows text as it was written: nothing a user writes becomes markup, a link or HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")
_IN_PROSE = re.compile(r"([\[\]])")


class Link(str):
    """An address of ours, shown as a link."""


def md(text: object) -> str:
    """Returns text for one line or table cell."""
    if isinstance(text, Link):
        return f"<{text}>"
    one_line = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", html.escape(one_line, quote=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table whose cells are plain text."""
    lines = [[md(column) for column in columns], ["---"] * len(columns), *([md(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(items: Iterable[object]) -> str:
    """Returns a list of plain text."""
    return "\n".join(f"- {md(item)}" for item in items)


def quote(prose: str) -> str:
    """Returns prose as a quotation: its Markdown stays, HTML and links become text."""
    lines = html.escape(prose, quote=False).splitlines()
    return "\n".join(("> " + _IN_PROSE.sub(r"\\\1", line)).rstrip() for line in lines)


def code(lines: Iterable[str]) -> str:
    """Returns commands as a block of code."""
    return "\n".join(["```bash", *lines, "```"])
