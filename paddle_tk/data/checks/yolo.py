"""YOLO's text files: lists, label files, data.yaml, each read on after a fault."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from paddle_tk.data.checks.findings import BoxTable, Sample, Scan
from paddle_tk.data.formats.yolo_layout import (
    YAML_NAMES,
    YoloImage,
    YoloLayout,
    find_layout,
    folder_images,
    label_files,
    label_of,
    plain_splits,
)
from paddle_tk.errors import DataError

_COLUMNS = 5


class _Row(NamedTuple):
    number: int
    values: tuple[float, float, float, float, float]


def scan_yolo(root: Path, classes: Sequence[str] | None = None, strays: frozenset[str] = frozenset()) -> Scan:
    """Reads what a YOLO dataset says of itself.

    Args:
        root: Its folder, or its YAML file.
        classes: Class names, where the dataset is a published one that names none; its splits are then the folders in
            ``images/``.
        strays: Stems of label files whose image the published dataset itself lacks.
    """
    scan = Scan(root.parent if root.is_file() else root)
    try:
        layout, ids = _layout(root, classes, scan)
    except DataError as error:
        scan.fault("layout", root, error.problem)
        return scan
    scan.classes = layout.classes or None
    lists = {_list_of(item.entry) for listed in layout.images.values() for item in listed} - {""}
    scan.documents.extend(sorted(lists))
    for split, listed in layout.images.items():
        _split(scan, split, listed, ids)
    _orphans(scan, layout, strays)
    return scan


def _layout(root: Path, classes: Sequence[str] | None, scan: Scan) -> tuple[YoloLayout, frozenset[int] | None]:
    """Returns the files, and the class ids that are named; None: any."""
    if classes is not None:
        images = {split: folder_images(folder) for split, folder in plain_splits(root).items()}
        return YoloLayout(root, images, tuple(classes)), frozenset(range(len(classes)))
    described = root if root.is_file() else next((root / n for n in YAML_NAMES if (root / n).is_file()), None)
    named = _named(described) if described else None
    if described is None or named is None or sorted(named) == list(range(len(named))):
        layout = find_layout(root)
        return layout, frozenset(range(len(layout.classes))) if layout.classes else None
    gaps = sorted(set(range(max(named, default=0) + 1)) - set(named))
    told = f"names has {len(named)} classes with ids up to {max(named, default=0)}; without a name: {gaps[:10]}"
    scan.fault("class_id_gap", described, told, entry="names")
    layout = find_layout(root, classes=tuple(named[i] for i in sorted(named)))
    return layout, frozenset(named)


def _named(path: Path) -> dict[int, str] | None:
    """Returns the class names by id where ``names`` of a data.yaml is numbered; None: it is not, or is damaged."""
    try:
        raw: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506, nothing but text
        names = raw.get("names")
        return {int(key): str(name) for key, name in names.items()} if isinstance(names, Mapping) and names else None
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return None


def _list_of(entry: str) -> str:
    """Returns the list file that names an image, "" where its folder does."""
    path, line, _ = entry.partition(": line ")
    return path if line else ""


def _split(scan: Scan, split: str, listed: Sequence[YoloImage], ids: frozenset[int] | None) -> None:
    scan.unique("duplicate_id", [item.path for item in listed], listed[0].entry.partition(": line ")[0], "image")
    rows: list[int] = []
    found: list[_Row] = []
    unlabelled = 0
    for item in listed:
        number = len(scan.samples)
        labelled = os.path.isfile(item.label)
        unlabelled += not labelled
        scan.samples.append(Sample(split, item.path, item.label if labelled else "", item.entry, labelled, item.path))
        own = _rows(scan, number, ids) if labelled else []
        rows += [number] * len(own)
        found += own
    if unlabelled == len(listed):
        scan.fault("layout", listed[0].label, f"none of the {len(listed)} {split} images has a label file", split=split)
    elif unlabelled:
        scan.remarks.append(f"{unlabelled} of {len(listed)} {split} images have no label file: nothing is in them")
    values = np.array([row.values for row in found], np.float64).reshape(-1, _COLUMNS)
    centres, halves = values[:, 1:3], values[:, 3:] / 2
    corners = np.hstack([centres - halves, centres + halves])
    entry = partial(_line_entry, found)
    scan.boxes.append(BoxTable(corners, np.array(rows, np.int64), values[:, 0].astype(np.int64), entry, shares=True))


def _line_entry(rows: Sequence[_Row], i: int) -> str:
    return f"line {rows[i].number}"


def _rows(scan: Scan, sample: int, ids: frozenset[int] | None) -> list[_Row]:
    """Returns the lines that can be read, whatever boxes they hold."""
    file, split = scan.samples[sample].label, scan.samples[sample].split
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        scan.fault("unreadable_text", file, str(error), split=split, sample=sample)
        return []
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(number, line.split())
        if row is None:
            told = f"'{line.strip()[:80]}' is not a class id and four numbers"
            scan.fault("malformed_entry", file, told, entry=f"line {number}", split=split, sample=sample)
            continue
        found.append(row)
        if ids is not None and int(row.values[0]) not in ids:
            told = f"class id {int(row.values[0])} is none of the {len(ids)} that are named"
            scan.fault("unknown_class", file, told, entry=f"line {number}", split=split, sample=sample)
    return found


def _row(number: int, columns: Sequence[str]) -> _Row | None:
    try:
        first, x, y, width, height = (float(column) for column in columns)
    except ValueError:
        return None
    return _Row(number, (first, x, y, width, height)) if 0 <= first < 2**31 and first.is_integer() else None


def _orphans(scan: Scan, layout: YoloLayout, strays: frozenset[str]) -> None:
    """Adds label files that belong to no image of any split."""
    images = [item.path for listed in layout.images.values() for item in listed]
    used = {label_of(path) for path in images}
    # Beside the images a text file may be anything.
    folders = sorted({os.path.dirname(label) for label in used} - {os.path.dirname(path) for path in images})
    expected = []
    for file in sorted({file for folder in folders for file in label_files(folder)} - used):
        if Path(file).stem in strays:
            expected.append(Path(file).name)
        else:
            scan.fault("orphan_label", file, "there is no image of this name in any split", loose=True)
    if expected:
        scan.remarks.append(f"{len(expected)} label file(s) without an image, as published: {', '.join(expected)}")
