"""Small detection datasets on disk, in each format, for tests to read, bend and break."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset

WIDTH, HEIGHT = 40, 30


def load(name: str, root: Path | None, **changes: Any) -> DatasetBundle:
    settings: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.25, "split_seed": 0} | changes
    return load_dataset(name, root=None if root is None else str(root), **settings)


def part(bundle: DatasetBundle, name: str) -> DetectionSplit:
    split = bundle.splits[name]
    assert isinstance(split, DetectionSplit)
    return split


def counts(bundle: DatasetBundle) -> dict[str, tuple[int, int]]:
    """Images and boxes of each split."""
    return {name: (len(part(bundle, name)), sum(map(len, part(bundle, name).annotations))) for name in bundle.splits}


def boxes_by_stem(bundle: DatasetBundle) -> dict[str, Boxes]:
    return {
        Path(split.name(i)).stem: split.boxes(i)
        for split in (part(bundle, name) for name in bundle.splits)
        for i in range(len(split))
    }


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix.lower(), np.full((height, width, 3), level, np.uint8))[1]
    path.write_bytes(encoded.tobytes())
    return path


def annotation(number: int, image: int, category: int, bbox: Sequence[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


def document(names: Sequence[str], annotations: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """A COCO file of so many images, each with one box of cat (id 3) or dog (id 7), unless others are given."""
    own = [annotation(i, i, 3 + 4 * (i % 2), (4, 5, 10 + i % 10, 12)) for i in range(1, len(names) + 1)]
    return {
        "info": {"year": 2026},
        "images": [
            {"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 1}
            for i, name in enumerate(names, 1)
        ],
        "annotations": list(own if annotations is None else annotations),
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "animal"}],
    }


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def coco_part(root: Path, split: str, count: int, folder: str | None = None, **changes: Any) -> dict[str, Any]:
    """Writes one split: annotations/instances_SPLIT.json and its images; returns the document."""
    names = [f"{split}_{i:03d}.png" for i in range(1, count + 1)]
    for name in names:
        picture(root / (split if folder is None else folder) / name)
    written = document(names) | changes
    write_json(root / "annotations" / f"instances_{split}.json", written)
    return written


def coco_root(root: Path, count: int = 12) -> Path:
    """A COCO dataset without published val and test."""
    coco_part(root, "train", count)
    return root


def voc_object(name: str, box: Sequence[object], extra: str = "<difficult>0</difficult>") -> str:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def voc_file(
    root: Path,
    stem: str,
    objects: Sequence[str],
    size: tuple[int, int] | None = (WIDTH, HEIGHT),
    image: str | None = None,
    head: str = "",
) -> Path:
    """Writes Annotations/STEM.xml and, unless ``image`` is "", its picture."""
    name = f"{stem}.jpg" if image is None else image
    if name:
        picture(root / "JPEGImages" / name)
    stated = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path = root / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"{head}<annotation><filename>{stem}.jpg</filename>{stated}{''.join(objects)}</annotation>", encoding="utf-8"
    )
    return path


def voc_root(root: Path, count: int = 12) -> Path:
    """A VOC dataset without published splits."""
    for i in range(count):
        voc_file(root, f"{i:06d}", [voc_object("dog" if i % 2 else "cat", (5, 6, 14 + i, 20))])
    return root


def yolo_file(root: Path, split: str, stem: str, lines: Sequence[str] | None) -> Path:
    """Writes images/SPLIT/STEM.png and, unless ``lines`` is None, its label file."""
    picture(root / "images" / split / f"{stem}.png")
    path = root / "labels" / split / f"{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if lines is not None:
        path.write_text("".join(f"{line}\n" for line in lines))
    return path


def yolo_root(root: Path, count: int = 12, yaml: str | None = "train: images/train\nnames: [cat, dog]\n") -> Path:
    """A YOLO dataset without published val and test."""
    for i in range(count):
        yolo_file(root, "train", f"{i:03d}", [f"{i % 2} 0.5 0.5 {0.2 + 0.01 * i:g} 0.4"])
    if yaml is not None:
        (root / "data.yaml").write_text(yaml, encoding="utf-8")
    return root
