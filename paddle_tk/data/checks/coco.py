"""COCO's annotation files, read on after a fault: every entry that can be read is, every other one is named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from paddle_tk.data.checks.findings import NO_SAMPLE, BoxTable, Sample, Scan
from paddle_tk.data.formats.detection_files import inside, split_of

_ROBOFLOW = "_annotations.coco.json"
_PROBED = 20
_LISTS = ("images", "annotations", "categories")
_LAYOUT = "there are neither annotations/instances_{train,val,test}*.json nor {train,valid,test}/_annotations.coco.json"


# Not the readers' records: those refuse what has to be named here.
class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | str | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _Document(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Damage(NamedTuple):
    """An entry that cannot be read: which, why, and the image it names, if any."""

    entry: str
    problem: str
    image_id: Any


_Record = TypeVar("_Record", _Image, _Annotation, _Category)


def scan_coco(root: Path, known_faults: frozenset[int] = frozenset()) -> Scan:
    """Reads what a COCO dataset says of itself.

    Args:
        root: Its folder.
        known_faults: Ids of annotations without area in the published files.
    """
    scan = Scan(root)
    sources = _sources(root, scan)
    if "train" not in sources:
        scan.fault("layout", root, _LAYOUT if not sources else "there are no annotations of a training split")
    categories: list[tuple[int, str]] | None = None
    for split in [name for name in ("train", "val", "test") if name in sources]:
        file, folders = sources[split]
        damaged: list[_Damage] = []
        document = _read(scan, file, split, damaged)
        if document is None:
            continue
        scan.documents.append(str(file))
        found = sorted((category.id, category.name) for category in document.categories)
        _categories(scan, file, split, found, categories)
        categories = found if categories is None else categories
        rows = _split(scan, split, file, folders, document, known_faults)
        for entry, problem, image_id in damaged:
            number = rows.get(image_id, NO_SAMPLE) if isinstance(image_id, int | str) else NO_SAMPLE
            scan.fault("malformed_entry", file, problem, entry=entry, split=split, sample=number)
    if categories is not None:
        scan.classes = tuple(name for _, name in categories)
    return scan


def _sources(root: Path, scan: Scan) -> dict[str, tuple[Path, list[Path]]]:
    """Returns the annotation file of each split and the folders its images may lie in."""
    found: dict[str, tuple[Path, list[Path]]] = {}
    plain = [(file, file.stem.removeprefix("instances_")) for file in (root / "annotations").glob("instances_*.json")]
    exported = [(file, file.parent.name) for file in root.glob(f"*/{_ROBOFLOW}")]
    for file, name in sorted(plain or exported):
        split = split_of(name)
        if split is None:
            scan.remarks.append(f"{file.name} is of no known split and was passed over")
            continue
        if split in found:
            scan.fault("layout", file, f"both it and {found[split][0].name} are a {split} split", split=split)
            continue
        folders = [root / name, root / "images" / name, root / split, root / "images" / split, root / "images", root]
        found[split] = file, folders if plain else [file.parent]
    return found


def _read(scan: Scan, file: Path, split: str, damaged: list[_Damage]) -> _Document | None:
    try:
        payload = file.read_bytes()
    except OSError as error:
        scan.fault("unreadable_text", file, error.strerror or str(error), split=split)
        return None
    try:
        return msgspec.json.decode(payload, type=_Document)
    except msgspec.DecodeError:
        return _read_on(scan, file, split, payload, damaged)


def _read_on(scan: Scan, file: Path, split: str, payload: bytes, damaged: list[_Damage]) -> _Document | None:
    """Reads entry by entry, slowly; NaN and Infinity, which are no JSON, come through to be named as boxes."""
    try:
        raw = json.loads(payload)
    except (ValueError, RecursionError) as error:
        kind = "unreadable_text" if isinstance(error, UnicodeDecodeError) else "malformed_entry"
        scan.fault(kind, file, f"no JSON, or cut off ({error})", split=split)
        return None
    if not isinstance(raw, dict) or not all(isinstance(raw.get(name), list) for name in _LISTS):
        scan.fault("malformed_entry", file, "images, annotations and categories must be lists", split=split)
        return None
    return _Document(
        _records(raw["images"], _Image, "images", damaged),
        _records(raw["annotations"], _Annotation, "annotations", damaged),
        _records(raw["categories"], _Category, "categories", damaged),
    )


def _records(entries: Sequence[Any], kind: type[_Record], name: str, damaged: list[_Damage]) -> list[_Record]:
    found = []
    for number, entry in enumerate(entries):
        try:
            found.append(msgspec.convert(entry, kind))
        except msgspec.ValidationError as error:
            image_id = entry.get("image_id") if isinstance(entry, dict) else None
            damaged.append(_Damage(f"{name}[{number}]", f"{error}: {json.dumps(entry)[:80]}", image_id))
    return found


def _categories(
    scan: Scan, file: Path, split: str, found: list[tuple[int, str]], first: list[tuple[int, str]] | None
) -> None:
    ids, names = [number for number, _ in found], [name for _, name in found]
    scan.unique("duplicate_id", ids, file, "category id")
    scan.unique("duplicate_id", names, file, "category name")
    if first is not None and first != found:
        told = f"{sorted(set(found) ^ set(first))[:5]} are only in one of {split} and the first split"
        scan.fault("class_mismatch", file, told, entry="categories", split=split)
    gaps = sorted(set(range(min(ids, default=0), max(ids, default=0) + 1)) - set(ids)) if first is None else []
    if gaps:  # COCO's own 80 categories have ids up to 90; readers number them anew
        scan.remarks.append(f"{file.name}: category ids leave out {len(gaps)} numbers, the first is {gaps[0]}")


def _split(
    scan: Scan, split: str, file: Path, folders: Sequence[Path], document: _Document, known_faults: frozenset[int]
) -> dict[int | str, int]:
    """Adds images and boxes; returns the images' numbers by id."""
    if not document.images:
        scan.fault("layout", file, "names no images", split=split)
    scan.unique("duplicate_id", [image.id for image in document.images], file, "image id")
    scan.unique("duplicate_id", [image.file_name for image in document.images], file, "file_name")
    numbers = [annotation.id for annotation in document.annotations if annotation.id is not None]
    scan.unique("duplicate_id", numbers, file, "annotation id")
    rows = _images(scan, split, file, folders, document.images)
    known = {category.id for category in document.categories}
    kept: list[_Annotation] = []
    for annotation in document.annotations:
        entry = f"annotation {annotation.id} of image {annotation.image_id}"
        row = rows.get(annotation.image_id)
        if row is None:
            scan.fault("orphan_label", file, "there is no image of this id", entry=entry, split=split)
            continue
        if annotation.category_id not in known:
            told = f"category_id {annotation.category_id} is none of the {len(known)} categories"
            scan.fault("unknown_class", file, told, entry=entry, split=split, sample=row)
        if annotation.id not in known_faults:
            kept.append(annotation)
    scan.boxes.append(_table(kept, rows))
    bare = len(set(rows.values()) - {rows[annotation.image_id] for annotation in kept})
    if bare:
        scan.remarks.append(f"{bare} of {len(rows)} {split} images have no box: nothing is in them")
    return rows


def _images(
    scan: Scan, split: str, file: Path, folders: Sequence[Path], images: Sequence[_Image]
) -> dict[int | str, int]:
    """Adds the images as samples; returns their numbers by id."""
    probed = images[:_PROBED]
    holding = [
        f for f in folders if any((f / image.file_name).is_file() for image in probed if inside(image.file_name))
    ]
    folder = next(iter([*holding, *(f for f in folders if f.is_dir()), *folders]))
    rows: dict[int | str, int] = {}
    for image in images:
        entry = f"image {image.id}"
        if not inside(image.file_name):
            told = f"file_name {image.file_name!r} leaves the folder of images"
            scan.fault("malformed_entry", file, told, entry=entry, split=split)
            continue
        size = (image.height, image.width) if image.height is not None and image.width is not None else None
        path = str(folder / image.file_name)
        rows.setdefault(image.id, len(scan.samples))
        scan.samples.append(Sample(split, path, str(file), entry, key=image.id, size=size))
    return rows


def _table(annotations: Sequence[_Annotation], rows: Mapping[int | str, int]) -> BoxTable:
    corners = np.array([annotation.bbox for annotation in annotations], np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        corners[:, 2:] += corners[:, :2]
    return BoxTable(
        corners,
        np.array([rows[annotation.image_id] for annotation in annotations], np.int64),
        np.array([annotation.category_id for annotation in annotations], np.int64),
        partial(_entry, annotations),
    )


def _entry(annotations: Sequence[_Annotation], i: int) -> str:
    return f"annotation {annotations[i].id} of image {annotations[i].image_id}"
