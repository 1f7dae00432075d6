"""Boxes as they are annotated: finite, not inverted, with an area, inside their image, each only once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from paddle_tk.data.checks.findings import BoxTable, Scan
from paddle_tk.data.checks.images import ImageFacts

# What reaches less far over the edge is rounding, which the readers cut off.
PIXELS_OVER, SHARE_OVER = 1.0, 1e-3


def check_boxes(scan: Scan, facts: Mapping[str, ImageFacts]) -> None:
    """Adds what is wrong with the boxes of a scan."""
    for table in scan.boxes:
        frames = _frames(scan, table, facts)
        for kind, wrong in box_faults(table.corners, frames, SHARE_OVER if table.shares else PIXELS_OVER).items():
            for i in np.flatnonzero(wrong).tolist():
                _add(scan, table, i, kind, _told(table, i, frames[i]))
        for i in np.flatnonzero(_repeated(table)).tolist():
            _add(scan, table, i, "duplicate_box", "the same box and class occur before in this image")


def box_faults(corners: np.ndarray, frames: np.ndarray, tolerance: float) -> dict[str, np.ndarray]:
    """Returns, by kind of fault, bool (n,): each box has one fault at most.

    Args:
        corners: float64, (n, 4): x1, y1, x2, y2.
        frames: float64, (n, 2): width and height of each box's image in the same unit, NaN where it is not known.
        tolerance: How far a box may reach over the edge, in the same unit.
    """
    finite = np.isfinite(corners).all(axis=1)
    with np.errstate(invalid="ignore"):
        sides = corners[:, 2:] - corners[:, :2]
        inverted = finite & (sides < 0).any(axis=1)
        flat = finite & ~inverted & (sides == 0).any(axis=1)
        over = (corners[:, :2] < -tolerance).any(axis=1) | (corners[:, 2:] > frames + tolerance).any(axis=1)
        beyond = (corners[:, :2] >= frames).any(axis=1) | (corners[:, 2:] <= 0).any(axis=1)
    outside = finite & ~inverted & ~flat & (over | beyond)
    return {"box_not_finite": ~finite, "box_inverted": inverted, "box_zero_area": flat, "box_outside": outside}


def _frames(scan: Scan, table: BoxTable, facts: Mapping[str, ImageFacts]) -> np.ndarray:
    if table.shares:
        return np.ones((len(table.rows), 2))
    sizes = np.full((len(scan.samples), 2), np.nan)
    for number, sample in enumerate(scan.samples):
        found = facts.get(sample.image)
        size = found.size if found and found.size else sample.size
        if size:
            sizes[number] = size[1], size[0]
    frames: np.ndarray = sizes[table.rows]
    return frames


def _told(table: BoxTable, i: int, frame: np.ndarray) -> str:
    x1, y1, x2, y2 = (f"{value:g}" for value in table.corners[i].tolist())
    image = "1x1 (shares)" if table.shares else f"{frame[0]:g}x{frame[1]:g} px"
    return f"the box goes from {x1}, {y1} to {x2}, {y2} in an image of {image}"


def _repeated(table: BoxTable) -> np.ndarray:
    """Returns bool (n,): whether the same numbers and class occur before in the same image."""
    finite = np.isfinite(table.corners).all(axis=1)
    keys = np.column_stack([table.rows, table.classes, np.nan_to_num(table.corners)])
    again = np.ones(len(keys), np.bool_)
    again[np.unique(keys, axis=0, return_index=True)[1]] = False
    result: np.ndarray = again & finite
    return result


def _add(scan: Scan, table: BoxTable, i: int, kind: str, problem: str) -> None:
    number = int(table.rows[i])
    sample = scan.samples[number]
    scan.fault(kind, sample.label, problem, entry=table.entry(i), split=sample.split, sample=number)
