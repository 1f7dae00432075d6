"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

from paddle_tk.report.numbers import number
from paddle_tk.report.raw import embedded
from paddle_tk.report.svg import SERIES, marker
from paddle_tk.report.templating import environment, plot_style
from paddle_tk.report.texts import Texts
from paddle_tk.report.view import View


def render_html(view: View, raw: dict[str, Any], t: Texts) -> str:
    """Returns the page.

    Args:
        view: What it shows.
        raw: What ``raw_data`` returned.
        t: The sentences.
    """
    script = environment().get_template("report.js").render().strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment().get_template("report.html")
    return template.render(
        view=view, t=t, language={"en": "en", "zh": "zh-CN"}[t.language], raw=raw, data=embedded(raw),
        script=Markup(script), script_hash=f"sha256-{digest}", plot_style=Markup(plot_style()),  # noqa: S704 (ours)
        swatch=swatch, listed=listed, is_link=is_link, moment=moment,
        samples=sum(len(f["samples"]) for f in raw["figures"]),
    )  # fmt: skip


def swatch(series: int) -> Markup:
    """Returns an option's marker, small, for tables."""
    mark = marker(series, 7, 7, 5)
    look = f"swatch plot-svg s{series % SERIES}"
    return Markup('<svg class="{}" viewBox="0 0 14 14" width="14" height="14" aria-hidden="true">{}</svg>').format(
        look, mark
    )


def is_link(text: str) -> bool:
    """Returns whether a text is the address of a page that can be cited."""
    return text.startswith(("https://", "http://")) and not any(c.isspace() for c in text)


def moment(created: str) -> str:
    """Returns an ISO 8601 time as people write it; anything else as it is."""
    try:
        told = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{told:%Y-%m-%d %H:%M} {told.tzname() or ''}".rstrip()


def listed(samples: Sequence[float | None]) -> str:
    """Returns samples as text."""
    return " ".join("NaN" if s is None else number(s) if abs(s) < 1e-3 else f"{s:.6g}" for s in samples)
