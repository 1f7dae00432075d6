"""How many images each class has, as a bar chart."""

from __future__ import annotations

import io
from pathlib import Path

from paddle_tk.data.balance import ClassStatistics
from paddle_tk.errors import BadInput
from paddle_tk.files import write_bytes_atomic

_MOST = 60  # bars that can be told apart
_BAR, _HEAD = 0.22, 1.1  # inches
_FORMATS = (".png", ".svg", ".pdf")


def write_balance_plot(statistics: ClassStatistics, path: Path) -> None:
    """Draws the classes by falling count; of more than 60 the 30 largest and the 30 smallest.

    Args:
        statistics: What is drawn.
        path: Ends with .png, .svg or .pdf.

    Raises:
        BadInput: Another ending, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise BadInput(f"--plot {path} is no picture by name", f"end it with {', '.join(_FORMATS)}")
    from matplotlib.figure import Figure

    rows = sorted(zip(statistics.images, statistics.classes, strict=True), reverse=True)
    shown = rows if len(rows) <= _MOST else rows[: _MOST // 2] + rows[-_MOST // 2 :]
    figure = Figure(figsize=(8, _HEAD + _BAR * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    bars = axes.barh(places, [count for count, _ in shown], color="#4477aa")
    axes.bar_label(bars, padding=3, fontsize=7)
    axes.set_yticks(places, [name[:28] for _, name in shown], fontsize=7, parse_math=False)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("images" if statistics.kind == "classification" else "images with the class")
    left_out = f", {len(rows) - len(shown)} classes in the middle not shown" * (len(rows) > len(shown))
    axes.set_title(f"n = {statistics.total} images, largest / smallest = {statistics.ratio:.3g}{left_out}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix[1:], dpi=120)
    write_bytes_atomic(path, stream.getvalue())
