"""A COCO annotation file as columns, kept in a file that is mapped into memory and valid for the same content only."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from paddle_tk.data.columns import Columns, index_path, keep_columns, open_columns
from paddle_tk.data.content import Stamp, known_sha256, remember_sha256, stamp_of
from paddle_tk.data.formats.coco_ids import Ids
from paddle_tk.data.formats.coco_json import Category, CocoFile, coco_payload, decode_coco, no_collection
from paddle_tk.data.tables import Texts
from paddle_tk.errors import DataError
from paddle_tk.files import sha256_bytes

NOT_STATED = np.iinfo(np.int64).min
# Changes whenever other columns come out of the same annotation file.
_VERSION = 1


@dataclass(frozen=True)
class CocoTable:
    """What is used of an annotation file, in its order and as it is stated: nothing but the JSON's form is checked.

    Attributes:
        sha256: Of the annotation file.
        categories: All of them.
        image_ids: Ids of the images.
        file_names: Their names.
        sides: int64, (images, 2): width and height in pixels, ``NOT_STATED`` where there is none.
        ids: Ids of the annotations.
        image_of: The image id of each annotation.
        category_of: Its category id.
        bbox: float64, (annotations, 4): x, y, width, height in pixels.
        crowd: bool, (annotations,): iscrowd.
        ignored: bool, (annotations,): ignore.
        areas: float64, (annotations,): square pixels; NaN where none is stated.
        image_rows: int64, (annotations,): the place of its image among the images, -1 where there is no such image.
        by_image: int64: the annotations that have an image, sorted by it and then by their order in the file.
        starts: int64, (images + 1,): where the annotations of each image begin in ``by_image``.
    """

    sha256: str
    categories: tuple[Category, ...]
    image_ids: Ids
    file_names: Texts
    sides: np.ndarray
    ids: Ids
    image_of: Ids
    category_of: Ids
    bbox: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray
    image_rows: np.ndarray
    by_image: np.ndarray
    starts: np.ndarray

    def annotations_of(self, image: int) -> np.ndarray:
        """Returns int64: which annotations are of the image at this place."""
        return self.by_image[int(self.starts[image]) : int(self.starts[image + 1])]


def read_coco_table(path: Path) -> CocoTable:
    """Returns the columns of an annotation file, from the index where its content is still the same.

    Whether it is follows from the file's SHA-256. That is computed again unless size, modification time, change time
    and file number are those it was computed for (see ``data/content.py``).

    Raises:
        DataError: The file cannot be read, is no JSON, or an entry is missing or of another type.
    """
    index = index_path("coco", path)
    found = open_columns(index)
    known = known_sha256(path) if found is not None else None
    if found is not None and found.key == _key(known) and found.whole():
        return _table(found)
    before = _stamp(path)
    payload = coco_payload(path)
    with ThreadPoolExecutor(1) as pool:  # a digest leaves Python's lock, so it is computed while the file is decoded
        digest = pool.submit(sha256_bytes, payload)
        usable = found is not None and found.key == _key(digest.result()) and found.whole()
        if found is None or not usable:
            with no_collection():
                document = decode_coco(path, payload)
                del payload
                arrays, categories = _arrays(path, document), document.categories
                del document
            meta = {"categories": [msgspec.structs.astuple(category) for category in categories]}
            found = keep_columns(index, _key(digest.result()), arrays, meta)
    if before is not None:
        remember_sha256(path, before, digest.result())
    return _table(found)


def _key(sha256: str | None) -> Any:
    return {"version": _VERSION, "sha256": sha256}


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(path)
    except OSError:
        return None  # reading it will say why


def _arrays(path: Path, document: CocoFile) -> dict[str, np.ndarray]:
    images, annotations = document.images, document.annotations
    ids = Ids.of([image.id for image in images])
    image_of = Ids.of([a.image_id for a in annotations])
    rows = image_of.places_in(ids)
    known = np.flatnonzero(rows >= 0)
    counts = np.bincount(rows[known], minlength=len(images))
    corners = chain.from_iterable(a.bbox for a in annotations)
    return {
        **ids.columns("image_ids"),
        **_names(path, document).columns("file_names"),
        "sides": _sides(path, document),
        **Ids.of([a.id for a in annotations]).columns("ids"),
        **image_of.columns("image_of"),
        **Ids.of([a.category_id for a in annotations]).columns("category_of"),
        "bbox": np.fromiter(corners, np.float64, 4 * len(annotations)).reshape(-1, 4),
        "crowd": np.fromiter((bool(a.iscrowd) for a in annotations), np.bool_, len(annotations)),
        "ignored": np.fromiter((bool(a.ignore) for a in annotations), np.bool_, len(annotations)),
        "areas": np.array([a.area for a in annotations], np.float64),  # None becomes NaN, which JSON does not know
        "image_rows": rows,
        "by_image": known[np.argsort(rows[known], kind="stable")],
        "starts": np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
    }


def _names(path: Path, document: CocoFile) -> Texts:
    try:
        return Texts.of([image.file_name for image in document.images])
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {error.object!r} can be no file_name", "name a file below the images") from error


def _sides(path: Path, document: CocoFile) -> np.ndarray:
    sides: Sequence[tuple[int | None, int | None]] = [(image.width, image.height) for image in document.images]
    stated = [[NOT_STATED if side is None else side for side in pair] for pair in sides]
    try:
        return np.array(stated, np.int64).reshape(-1, 2)
    except OverflowError as error:
        wrong = next(i for i, pair in enumerate(stated) if not NOT_STATED <= min(pair) <= max(pair) < -NOT_STATED)
        raise DataError(
            f"{path}: image {document.images[wrong].id} says {sides[wrong][0]}x{sides[wrong][1]} px",
            "correct the annotation",
        ) from error


def _table(found: Columns) -> CocoTable:
    arrays = found.arrays
    return CocoTable(
        sha256=found.key["sha256"],
        categories=tuple(Category(*fields) for fields in found.meta["categories"]),
        image_ids=Ids.from_columns(arrays, "image_ids"),
        file_names=Texts.from_columns(arrays, "file_names"),
        sides=arrays["sides"],
        ids=Ids.from_columns(arrays, "ids"),
        image_of=Ids.from_columns(arrays, "image_of"),
        category_of=Ids.from_columns(arrays, "category_of"),
        bbox=arrays["bbox"],
        crowd=arrays["crowd"],
        ignored=arrays["ignored"],
        areas=arrays["areas"],
        image_rows=arrays["image_rows"],
        by_image=arrays["by_image"],
        starts=arrays["starts"],
    )
