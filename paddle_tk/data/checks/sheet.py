"""A contact sheet of the images at fault, each with what is wrong."""

from __future__ import annotations

import io
import os
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from paddle_tk.data.checks.findings import NO_SAMPLE, Finding, Report
from paddle_tk.files import write_bytes_atomic

_TILE, _PICTURE = (240, 216), (232, 140)  # px
_COLUMNS, _MOST = 5, 60
_LINES, _WIDTH = 4, 38
_PAPER, _INK, _FAULT, _VOID = (255, 255, 255), (40, 40, 40), (178, 24, 43), (225, 225, 225)


def write_sheet(report: Report, path: Path) -> int:
    """Draws the images at fault, 60 at most, and writes them as a PNG file; returns how many are on it.

    A file that cannot be decoded is a grey field with a cross. Faults without an image have a field of their own too.
    """
    groups: dict[str, list[Finding]] = {}
    for finding in report.findings:
        image = report.samples[finding.sample].image if finding.sample != NO_SAMPLE else finding.file
        groups.setdefault(image, []).append(finding)
    shown = list(groups.items())[:_MOST]
    rows = max(1, -(-len(shown) // _COLUMNS))
    sheet = Image.new("RGB", (_TILE[0] * min(_COLUMNS, max(1, len(shown))), _TILE[1] * rows), _PAPER)
    for i, (image, findings) in enumerate(shown):
        place = (i % _COLUMNS * _TILE[0], i // _COLUMNS * _TILE[1])
        _tile(sheet, place, image, report.relative(image), findings)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_bytes_atomic(path, stream.getvalue())
    return len(shown)


def _tile(sheet: Image.Image, place: tuple[int, int], image: str, name: str, findings: Sequence[Finding]) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    x, y = place[0] + 4, place[1] + 4
    picture = _picture(image)
    if picture is None:
        box = (x, y, x + _PICTURE[0], y + _PICTURE[1])
        draw.rectangle(box, fill=_VOID)
        draw.line(box, fill=_FAULT, width=2)
        draw.line((box[0], box[3], box[2], box[1]), fill=_FAULT, width=2)
    else:
        sheet.paste(picture, (x + (_PICTURE[0] - picture.width) // 2, y + (_PICTURE[1] - picture.height) // 2))
    kinds = ", ".join(dict.fromkeys(finding.kind for finding in findings))
    lines = textwrap.wrap(_plain(kinds), _WIDTH)[:2]
    for i, line in enumerate(lines):
        draw.text((x, y + _PICTURE[1] + 4 + 14 * i), line, fill=_FAULT, font=font)
    told = [os.path.basename(name)[:_WIDTH], *textwrap.wrap(_plain(findings[0].problem), _WIDTH)]
    for i, line in enumerate(told[: _LINES - len(lines)], len(lines)):
        draw.text((x, y + _PICTURE[1] + 4 + 14 * i), _plain(line), fill=_INK, font=font)


def _plain(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")  # all that the built-in font has


def _picture(path: str) -> Image.Image | None:
    """Returns a thumbnail, None where the file is no whole image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                return ImageOps.contain(ImageOps.exif_transpose(image).convert("RGB"), _PICTURE)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None
