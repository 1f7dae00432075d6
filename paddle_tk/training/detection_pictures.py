"""Pictures of how a detector does: samples with boxes, precision over recall, confusion. Returned as RGB arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from paddle_tk.metrics.detection_curves import PrecisionRecall
from paddle_tk.training.pictures import DPI, RIGHT_COLOUR, matrix_picture, pixels, short

TRUE_COLOUR, FOUND_COLOUR = RIGHT_COLOUR, "#bf5700"
MAX_IMAGES = 9
_COLUMNS = 3
_PANEL_INCHES = 4.0
_MAX_BOXES = 30  # per image; the labels of more hide the image
_SMALL_SIDE = 256  # pixels; smaller images are enlarged without smoothing, so that their pixels can be seen
_LABEL_SHARE = 0.05  # of the image's height: what a label takes
_MAX_CURVES = 20  # beyond that neither the lines nor the names would be readable
_BACKGROUND = "background"

Truth = tuple[np.ndarray, np.ndarray]
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def detections_picture(
    images: Sequence[np.ndarray], truths: Sequence[Truth], predictions: Sequence[Found], classes: Sequence[str]
) -> np.ndarray:
    """Draws a sheet of images with true boxes (green, dashed) and predicted ones (orange, with their scores).

    Args:
        images: RGB, (height, width, 3), uint8, of any sizes; only the first nine are drawn.
        truths: Per image its boxes (n, 4), x1, y1, x2, y2 in pixels, and their class ids (n,).
        predictions: Per image boxes (m, 4), scores (m,) and class ids (m,); only the best thirty are drawn.
        classes: Class names.

    Returns:
        RGB, (height, width, 3), uint8.

    Raises:
        ValueError: No image, or lists of different lengths.
    """
    if not images or not len(images) == len(truths) == len(predictions):
        counts = (len(images), len(truths), len(predictions))
        raise ValueError(f"images, truths and predictions must be as many, at least 1, got {counts}")
    count = min(len(images), MAX_IMAGES)
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(_PANEL_INCHES * columns, _PANEL_INCHES * rows), dpi=DPI, layout="constrained")
    for index in range(count):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_image(axes, images[index])
        boxes, class_ids = truths[index]
        for box, class_id in zip(boxes, class_ids, strict=True):
            _draw_box(axes, box, short(classes[int(class_id)]), found=False)
        _draw_found(axes, predictions[index], classes)
        axes.set_title(f"true: {len(boxes)}, predicted: {len(predictions[index][0])}", fontsize=9)
    return pixels(figure)


def _draw_image(axes: Any, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    # One pixel is one unit, and the first one begins at 0, as the boxes have it.
    smoothing = "nearest" if max(height, width) < _SMALL_SIDE else "antialiased"
    axes.imshow(image, interpolation=smoothing, extent=(0, width, height, 0))
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_found(axes: Any, found: Found, classes: Sequence[str]) -> None:
    boxes, scores, class_ids = found
    best = np.argsort(-np.asarray(scores, np.float64), kind="stable")[:_MAX_BOXES]
    for row in best[::-1]:  # the best one on top
        _draw_box(axes, boxes[row], f"{short(classes[int(class_ids[row])])} {scores[row]:.2f}", found=True)


def _draw_box(axes: Any, box: np.ndarray, text: str, *, found: bool) -> None:
    left, top, right, bottom = (float(side) for side in box)
    colour = FOUND_COLOUR if found else TRUE_COLOUR
    # The dashes lie on top: where both boxes agree, both colours are seen.
    style: dict[str, Any] = {"linewidth": 2, "linestyle": "--", "zorder": 3}
    if found:
        style = {"linewidth": 1.5, "zorder": 2}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, **style))
    # Predicted names stand above their box and true ones below it, inside it where there is no room in the image.
    height = axes.get_ylim()[0]
    above = top > _LABEL_SHARE * height if found else bottom > (1 - _LABEL_SHARE) * height
    axes.text(
        left,
        top if found else bottom,
        text,
        fontsize=7,
        color="white",
        verticalalignment="bottom" if above else "top",
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1, "alpha": 0.8},
        clip_on=True,
        zorder=4,
    )


def precision_recall_picture(curves: PrecisionRecall, classes: Sequence[str]) -> np.ndarray:
    """Draws precision over recall at IoU 0.5: a thin line per class and a thick one for their mean.

    Args:
        curves: What ``DetectionMetric.precision_recall`` returned.
        classes: Class names; of more than twenty with truth, only the mean is drawn.

    Returns:
        RGB, (height, width, 3), uint8.

    Raises:
        ValueError: There are not as many curves as classes.
    """
    if len(curves.precision) != len(classes):
        raise ValueError(f"{len(curves.precision)} curves for {len(classes)} classes")
    figure = Figure(figsize=(9, 6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    known = np.flatnonzero(~np.isnan(curves.precision[:, 0]))
    if len(known) <= _MAX_CURVES:
        for i in known:
            precision = curves.precision[i]
            axes.plot(curves.recall, precision, linewidth=1, label=f"{short(classes[i])} {precision.mean():.3f}")
    if len(known):
        label = f"mean of {len(known)} classes {curves.mean.mean():.3f}"
        axes.plot(curves.recall, curves.mean, linewidth=3, color="black", label=label)
        figure.legend(loc="outside right upper", title="AP at IoU 0.5", fontsize=8)
    axes.set_title("Precision over recall" if len(known) else "no objects to find")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return pixels(figure)


def detection_confusion_picture(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Draws a detector's confusion matrix: cells coloured by their share of the row, with counts where readable.

    Args:
        matrix: Counts (C + 1, C + 1), rows true, columns predicted, the last of each: background.
        classes: C names.

    Returns:
        RGB, (height, width, 3), uint8.

    Raises:
        ValueError: The shapes do not fit.
    """
    count = len(classes) + 1
    if matrix.shape != (count, count) or count == 1:
        raise ValueError(f"the matrix must be ({count}, {count}) for {count - 1} classes, got {matrix.shape}")
    objects, wrong = int(matrix[:-1].sum()), int(matrix[-1].sum())
    title = f"{np.trace(matrix)} of {objects} objects found\n{wrong} detections of nothing"
    return matrix_picture(matrix, [*classes, _BACKGROUND], title, margin_inches=3.0, title_size=10)
