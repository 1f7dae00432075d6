"""Pictures of how a model does: a confusion matrix and a sheet of predictions. Returned as RGB arrays."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RIGHT_COLOUR, WRONG_COLOUR = "#1a7f37", "#cf222e"
DPI = 100
_MAX_SIDE_INCHES = 12.0
_MAX_NUMBERED_CLASSES = 30  # beyond that the counts would not be readable
_MAX_TICKS = 50
_LONGEST_NAME = 18
_COLUMNS = 8


def confusion_matrix_picture(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Draws a confusion matrix: cells coloured by their share of the row, with counts where readable.

    Args:
        matrix: Counts of shape (C, C), rows true, columns predicted.
        classes: C names.

    Returns:
        RGB, (height, width, 3), uint8.

    Raises:
        ValueError: The shapes do not fit.
    """
    count = len(classes)
    if matrix.shape != (count, count) or count == 0:
        raise ValueError(f"the matrix must be ({count}, {count}) for {count} classes, got {matrix.shape}")
    n = int(matrix.sum())
    top1 = f"{np.trace(matrix) / n:.4f}" if n else "none"
    return matrix_picture(matrix, classes, f"n = {n}, top-1 = {top1}")


def matrix_picture(
    matrix: np.ndarray,
    names: Sequence[str],
    title: str,
    *,
    margin_inches: float = 2.5,
    title_size: float | str = "large",
) -> np.ndarray:
    """Draws a square matrix of counts as ``confusion_matrix_picture`` describes.

    Args:
        matrix: (N, N), rows true, columns predicted.
        names: N names.
        title: Above it.
        margin_inches: Room for title and names.
        title_size: In points, or one of matplotlib's names; "large" is its own choice.

    Returns:
        RGB, (height, width, 3), uint8.
    """
    count = len(names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape, dtype=np.float64), where=totals > 0)
    side = min(_MAX_SIDE_INCHES, margin_inches + 0.45 * count)
    figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    _label_axes(axes, names)
    if count <= _MAX_NUMBERED_CLASSES:
        _write_counts(axes, matrix, shares)
    axes.set_title(title, fontsize=title_size)
    return pixels(figure)


def _label_axes(axes: Any, classes: Sequence[str]) -> None:
    step = math.ceil(len(classes) / _MAX_TICKS)
    positions = range(0, len(classes), step)
    names = [short(classes[position]) for position in positions]
    axes.set_xticks(positions, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(positions, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def _write_counts(axes: Any, matrix: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{int(value)}", ha="center", va="center", color=colour, fontsize=8)


def predictions_picture(
    images_uint8: Sequence[np.ndarray],
    true_names: Sequence[str],
    predicted_names: Sequence[str],
    scores: Sequence[float],
) -> np.ndarray:
    """Draws a sheet of images with their predictions: right ones green, wrong ones red with the true name.

    Args:
        images_uint8: RGB images (height, width, 3), uint8, of any sizes; enlarged without smoothing.
        true_names: The true class of each.
        predicted_names: The predicted class of each.
        scores: The probability of the predicted class, 0..1.

    Returns:
        RGB, (height, width, 3), uint8.

    Raises:
        ValueError: No image, or lists of different lengths.
    """
    count = len(images_uint8)
    if count == 0 or not count == len(true_names) == len(predicted_names) == len(scores):
        lengths = (count, len(true_names), len(predicted_names), len(scores))
        raise ValueError(f"images, names and scores must be as many, at least 1, got {lengths}")
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(1.5 * columns, 1.9 * rows), dpi=DPI, layout="constrained")
    for index, image in enumerate(images_uint8):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(image, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        _mark(axes, true_names[index], predicted_names[index], scores[index])
    return pixels(figure)


def _mark(axes: Any, true: str, predicted: str, score: float) -> None:
    right = true == predicted
    colour = RIGHT_COLOUR if right else WRONG_COLOUR
    second = "" if right else f"true: {short(true)}"
    axes.set_title(f"{short(predicted)} {score:.2f}\n{second}", color=colour, fontsize=8)
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(3)


def short(name: str) -> str:
    """Returns a class name as matplotlib may write it: cut to 18 letters, no mathematics."""
    # A dollar sign would be read as mathematics.
    name = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return name.replace("$", r"\$")


def pixels(figure: Figure) -> np.ndarray:
    """Renders a figure: RGB, (height, width, 3), uint8."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names the font cannot spell become boxes
        canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
