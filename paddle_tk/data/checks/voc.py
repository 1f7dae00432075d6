"""Pascal VOC's XML files and lists, each read on after a fault."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from paddle_tk.data.checks.findings import BoxTable, Sample, Scan
from paddle_tk.data.formats.detection_files import is_image
from paddle_tk.data.formats.voc import CLASS_FILES
from paddle_tk.data.formats.voc_xml import VocFile, VocObject, read_voc_file
from paddle_tk.errors import DataError

_YEARS = ("VOC2007", "VOC2012")
_LISTS = ("train", "val", "test", "trainval")


def scan_voc(root: Path) -> Scan:
    """Reads what a VOC dataset says of itself: ``root`` holds Annotations, or VOCdevkit with years below it."""
    scan = Scan(root)
    folders = [f for f in (root, *(b / y for b in (root / "VOCdevkit", root) for y in _YEARS)) if _is_voc(f)]
    if not folders:
        scan.fault("layout", root, "there is no folder with Annotations and JPEGImages")
        return scan
    listed = _classes(scan, root)
    scan.classes = listed
    numbers: dict[str, int] = {}
    objects: list[VocObject] = []
    rows: list[int] = []
    for folder in folders:
        for sample, annotation in _folder(scan, folder):
            for found in annotation.objects:
                numbers.setdefault(found.name, len(numbers))
                objects.append(found)
                rows.append(sample)
    _unknown(scan, objects, rows, listed)
    if scan.classes is None:
        scan.classes = tuple(sorted(numbers))
    corners = np.array([found.corners for found in objects], np.float64).reshape(-1, 4)
    ids = np.array([numbers[found.name] for found in objects], np.int64)
    scan.boxes.append(BoxTable(corners, np.array(rows, np.int64), ids, partial(_entry, objects)))
    return scan


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


def _entry(objects: Sequence[VocObject], i: int) -> str:
    return objects[i].stated.partition(": ")[2]


def _classes(scan: Scan, root: Path) -> tuple[str, ...] | None:
    for name in CLASS_FILES:
        if (root / name).is_file():
            classes = _lines(scan, root / name)
            scan.unique("duplicate_id", classes, root / name, "class")
            return tuple(classes)
    return None


def _unknown(scan: Scan, objects: Sequence[VocObject], rows: Sequence[int], listed: Sequence[str] | None) -> None:
    for i, found in enumerate(objects):
        if listed is not None and found.name not in listed:
            sample = scan.samples[rows[i]]
            told = f"class '{found.name}' is none of the {len(listed)} that are listed"
            more = {"entry": _entry(objects, i), "split": sample.split, "sample": rows[i]}
            scan.fault("unknown_class", sample.label, told, **more)


def _lines(scan: Scan, path: Path, split: str = "") -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        scan.fault("unreadable_text", path, str(error), split=split)
        return []


def _folder(scan: Scan, folder: Path) -> list[tuple[int, VocFile]]:
    """Adds the samples of one year; returns their numbers and annotations."""
    images: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder / "JPEGImages")):
        if is_image(name):
            images.setdefault(os.path.splitext(name)[0], []).append(name)
    annotated = {path.stem for path in (folder / "Annotations").glob("[!.]*.xml")}
    found = []
    splits = _splits(scan, folder, annotated)
    for split, stems in splits.items():
        for stem in stems:
            sample = _sample(scan, folder, split, stem, images, stem in annotated)
            if sample is not None:
                found.append(sample)
    used = {stem for stems in splits.values() for stem in stems}
    for stem in sorted(annotated - used - set(images)):
        file = folder / "Annotations" / f"{stem}.xml"
        scan.fault("orphan_label", file, "there is no image of this name, and no list names it", loose=True)
    unused = len(set(images) - used)
    if unused:
        scan.remarks.append(f"{unused} image(s) of {folder.name}/JPEGImages are in no split")
    return found


def _splits(scan: Scan, folder: Path, annotated: set[str]) -> dict[str, list[str]]:
    lists = {name: folder / "ImageSets" / "Main" / f"{name}.txt" for name in _LISTS}
    found = {name: _lines(scan, path, name) for name, path in lists.items() if path.is_file()}
    scan.documents.extend(str(lists[name]) for name in found)
    for name, stems in found.items():
        scan.unique("duplicate_id", stems, lists[name], "name")
    unique = {name: list(dict.fromkeys(stems)) for name, stems in found.items()}
    trainval = unique.pop("trainval", None)
    if not unique and trainval is None:
        return {"train": sorted(annotated)}
    if "train" not in unique:
        others = {stem for stems in unique.values() for stem in stems}
        unique = {"train": [stem for stem in trainval or [] if stem not in others], **unique}
    return unique


def _sample(
    scan: Scan, folder: Path, split: str, stem: str, images: Mapping[str, Sequence[str]], annotated: bool
) -> tuple[int, VocFile] | None:
    """Adds one sample; returns its number and annotation, None where that cannot be read."""
    file = folder / "Annotations" / f"{stem}.xml"
    if not annotated or file.parent != folder / "Annotations":
        lists = folder / "ImageSets" / "Main" / f"{split}.txt"
        scan.fault("missing_label", lists, f"names {file}, which does not exist", entry=stem, split=split)
        return None
    annotation, problem = None, ""
    try:
        annotation = read_voc_file(file)
    except DataError as error:
        problem = error.problem
    names = list(images.get(stem, ()))
    stated = os.path.basename(annotation.filename) if annotation else ""
    name = stated if stated and (stated in names or not names) else (names[0] if names else f"{stem}.jpg")
    number = len(scan.samples)
    size = annotation.size if annotation else None
    image = str(folder / "JPEGImages" / name)
    scan.samples.append(Sample(split, image, str(file), "filename", own_label=True, key=stem, size=size))
    if len(names) > 1 and stated not in names:
        told = f"may belong to {' or '.join(names)}"
        scan.fault("malformed_entry", file, told, split=split, sample=number)
    if annotation is None:
        scan.fault("malformed_entry", file, problem, split=split, sample=number)
        return None
    return number, annotation
