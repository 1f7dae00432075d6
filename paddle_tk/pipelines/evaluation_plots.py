"""An evaluation -> pictures of where the model errs."""

from __future__ import annotations

from pathlib import Path

import cv2

from paddle_tk.errors import DataError
from paddle_tk.evaluate.detection import DetectionEvaluation
from paddle_tk.evaluate.task import Evaluation
from paddle_tk.files import write_bytes_atomic
from paddle_tk.runtime.base import Array
from paddle_tk.training.detection_pictures import detection_confusion_picture, precision_recall_picture
from paddle_tk.training.pictures import confusion_matrix_picture


def write_plots(found: Evaluation, folder: Path) -> list[Path]:
    """Writes confusion_matrix.png and, of a detector, precision_recall.png.

    Args:
        found: What ``evaluate`` returned.
        folder: Made where it is missing; files of these names are replaced.

    Returns:
        The files.
    """
    pictures: dict[str, Array] = {}
    if isinstance(found, DetectionEvaluation):
        pictures["precision_recall"] = precision_recall_picture(found.metric.precision_recall(), list(found.classes))
        pictures["confusion_matrix"] = detection_confusion_picture(found.metric.confusion(), list(found.classes))
    else:
        pictures["confusion_matrix"] = confusion_matrix_picture(found.confusion, found.classes)
    return [_write(folder / f"{name}.png", picture) for name, picture in pictures.items()]


def _write(path: Path, picture: Array) -> Path:
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{path} cannot be encoded", "leave --plots out")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, encoded.tobytes())
    return path
