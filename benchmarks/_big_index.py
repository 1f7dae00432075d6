"""Datasets as large as COCO 2017 and as wide as ImageNet, made of nothing but what an index reads of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGES, ANNOTATIONS, CATEGORIES = 118_287, 860_001, 80
CLASSES, FILES_PER_CLASS = 1000, 100
_POLYGONS = 4096
_LICENCES = [{"id": i, "name": f"licence {i}", "url": f"http://licences.example/{i}"} for i in range(1, 9)]


def write_coco(path: Path, seed: int = 0) -> None:
    """Writes an annotation file of COCO train2017's size, with polygons, URLs and dates as there, equal every time.

    Ids of images are spread from 1 to 581,929 and those of annotations to 2,232,119, as there; annotations come in no
    order; one in a hundred images has none.
    """
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(np.arange(1, 581_930), IMAGES, replace=False))
    sides = np.stack([rng.integers(300, 641, IMAGES), rng.integers(300, 641, IMAGES)], axis=1)
    categories = [{"supercategory": f"kind {i % 12}", "id": i, "name": f"thing {i}"} for i in range(1, CATEGORIES + 1)]
    with path.open("w", encoding="ascii") as stream:
        stream.write('{"info": {"description": "synthetic"}, "licenses": ' + json.dumps(_LICENCES) + ', "images": [')
        _write_list(stream.write, _images(ids, sides))
        stream.write('], "annotations": [')
        _write_list(stream.write, _annotations(rng, ids, sides))
        stream.write('], "categories": ' + json.dumps(categories) + "}")


def _write_list(write: object, entries: Iterator[str]) -> None:
    assert callable(write)
    for number, entry in enumerate(entries):
        write(entry if not number else ", " + entry)


def _images(ids: np.ndarray, sides: np.ndarray) -> Iterator[str]:
    for i, (width, height) in zip(ids.tolist(), sides.tolist(), strict=True):
        yield (
            f'{{"license": {i % 8 + 1}, "file_name": "{i:012d}.jpg", "coco_url": '
            f'"http://images.cocodataset.example/train2017/{i:012d}.jpg", "height": {height}, "width": {width}, '
            f'"date_captured": "2013-11-14 11:18:45", "flickr_url": "http://farm9.example/8186/{i}_3d.jpg", "id": {i}}}'
        )


def _annotations(rng: np.random.Generator, ids: np.ndarray, sides: np.ndarray) -> Iterator[str]:
    polygons = [_polygon(rng) for _ in range(_POLYGONS)]
    filled = np.flatnonzero(np.arange(IMAGES) % 100 != 99)
    rows = filled[rng.integers(0, len(filled), ANNOTATIONS)]
    own = rng.permutation(np.arange(1, 2_232_120))[:ANNOTATIONS]
    width = np.round(1 + rng.random((ANNOTATIONS, 2)) * (sides[rows] - 2) * 0.6, 2)
    place = np.round(rng.random((ANNOTATIONS, 2)) * (sides[rows] - width), 2)
    area = np.round(width.prod(axis=1) * rng.uniform(0.3, 0.9, ANNOTATIONS), 4)
    boxes = np.hstack([place, width])
    kinds = rng.integers(1, CATEGORIES + 1, ANNOTATIONS)
    crowd = rng.random(ANNOTATIONS) < 0.01
    shapes = rng.integers(0, _POLYGONS, ANNOTATIONS)
    columns = (own, ids[rows], kinds, boxes, area, crowd.astype(int), shapes)
    for number, image, kind, box, size, is_crowd, shape in zip(*(c.tolist() for c in columns), strict=True):
        yield (
            f'{{"segmentation": {polygons[shape]}, "area": {size}, "iscrowd": {is_crowd}, "image_id": {image}, '
            f'"bbox": {box}, "category_id": {kind}, "id": {number}}}'
        )


def _polygon(rng: np.random.Generator) -> str:
    corners = int(rng.integers(8, 36))
    return json.dumps([np.round(rng.random(2 * corners) * 600, 2).tolist()])


def write_image_folder(root: Path) -> None:
    """Writes 100,000 tiny images in 1,000 class folders, named as in ImageNet."""
    import cv2

    payload = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    for number in range(CLASSES):
        folder = root / "train" / f"n{1440764 + 1013 * number:08d}"
        folder.mkdir(parents=True)
        for i in range(FILES_PER_CLASS):
            # A few lengths, as a fingerprint is over names and lengths: what follows a JPEG's end is not decoded.
            (folder / f"{folder.name}_{37 * i + number}.JPEG").write_bytes(payload + bytes((i + number) % 50))
