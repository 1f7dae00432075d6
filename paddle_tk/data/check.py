"""Is a dataset whole and sound? Every fault with its file and entry; nothing is changed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from paddle_tk.data.catalog import class_names, shipped_entry
from paddle_tk.data.checks.arrays import scan_arrays
from paddle_tk.data.checks.boxes import check_boxes
from paddle_tk.data.checks.coco import scan_coco
from paddle_tk.data.checks.findings import Report, Scan
from paddle_tk.data.checks.image_folder import scan_image_folder
from paddle_tk.data.checks.images import check_images
from paddle_tk.data.checks.voc import scan_voc
from paddle_tk.data.checks.yolo import scan_yolo
from paddle_tk.data.datasets import DATASETS, load_dataset
from paddle_tk.data.formats.coco import COCO2017_FAULTS
from paddle_tk.data.formats.coco128 import COCO128_STRAYS, COCO_CLASSES, coco128_folder
from paddle_tk.data.formats.digits_detection import digits_detection_folder
from paddle_tk.data.home import dataset_folder
from paddle_tk.errors import BadInput, DataError

FORMATS = ("coco", "image_folder", "voc", "yolo")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Expected:
    """What is published of a dataset; None or empty: nothing is compared.

    Attributes:
        images: Images by split, or under "all" whatever their split.
        boxes: Boxes of all splits.
        classes: Classes.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    boxes: int | None = None
    classes: int | None = None


# "voc" is also the name of one's own boxes in that format, whose counts are their own.
_PUBLISHED = ("cifar10", "coco128", "coco2017", "digits", "digits_detection", "imagenet1k")


def published(name: str) -> Expected:
    """Returns what the catalog says of a dataset; nothing where it is one's own."""
    if name not in _PUBLISHED:
        return Expected()
    entry, classes = shipped_entry(name), len(class_names(name))
    splits = entry.splits if name in _SCANNERS else {"all": entry.images}  # others are split anew when they are read
    return Expected(splits, classes=classes or entry.class_count)


def check_dataset(
    name: str, root: str | None, *, expected: Expected | None = None, advance: Progress = lambda _: None
) -> Report:
    """Checks layout, annotations and every image.

    All images are read and decoded once, in parallel; memory holds one record per image and what is decoded at the
    moment. No verdict of an earlier run is trusted.

    Args:
        name: A registered dataset; "coco", "voc", "yolo" or "image_folder" for one's own.
        root: Its folder or archive; None: its place under ``$PADDLE_TK_HOME``.
        expected: Counts to compare with; None: those that the catalog has of a published dataset.
        advance: Called with the number of images done.

    Raises:
        BadInput: The name is unknown.
        DataError: There is nothing at ``root``, or it cannot be read at all.
    """
    began = time.perf_counter()
    DATASETS.load(name)  # an unknown name is told of as everywhere
    if name == "shards":
        raise BadInput(
            "shards have checksums, and a check of their own", "python tools/dataset.py validate_shards --root PLACE"
        )
    scan, images = _scan(name, root, advance)
    boxes = sum(len(table.rows) for table in scan.boxes)
    _compare(scan, published(name) if expected is None else expected, boxes)
    return Report(
        dataset=name,
        root=scan.root,
        findings=tuple(sorted(scan.findings, key=lambda finding: finding.file)),
        remarks=tuple(scan.remarks),
        samples=tuple(scan.samples),
        documents=tuple(scan.documents),
        images=images,
        boxes=boxes,
        seconds=time.perf_counter() - began,
    )


def _scan(name: str, root: str | None, advance: Progress) -> tuple[Scan, int]:
    """Returns everything that is found, and how many images were opened."""
    scanner = _SCANNERS.get(name)
    if scanner is None:
        bundle = load_dataset(name, root=root, val_fraction=0.1, test_fraction=0.2, split_seed=0)
        return scan_arrays(bundle, dataset_folder(name, root))
    scan = scanner(_place(name, root))
    facts = check_images(scan, advance)
    check_boxes(scan, facts)
    return scan, len(facts)


def _place(name: str, root: str | None) -> Path:
    folder = _FOLDERS[name](root) if name in _FOLDERS else dataset_folder(name, root)
    if not folder.exists():
        raise DataError(f"{folder} does not exist", "give the dataset's folder with --root PATH")
    return folder


def checked_folder(name: str, root: str | None) -> Path:
    """Returns the folder that a report of ``check_dataset`` with these arguments has as its root.

    Raises:
        DataError: There is nothing.
    """
    place = _place(name, root)
    return place.parent if place.is_file() else place  # YOLO's own description is a file in it


_SCANNERS: Mapping[str, Callable[[Path], Scan]] = {
    "coco": scan_coco,
    "coco128": partial(scan_yolo, classes=COCO_CLASSES, strays=COCO128_STRAYS),
    "coco2017": partial(scan_coco, known_faults=COCO2017_FAULTS),
    "digits_detection": scan_coco,
    "image_folder": scan_image_folder,
    "imagenet1k": scan_image_folder,
    "voc": scan_voc,
    "yolo": scan_yolo,
}
_FOLDERS: Mapping[str, Callable[[str | None], Path]] = {
    "coco128": coco128_folder,
    "digits_detection": digits_detection_folder,
}


def _compare(scan: Scan, expected: Expected, boxes: int) -> None:
    """Adds a finding for every count that is another than published."""
    found = Counter(sample.split for sample in scan.samples)
    for split, wanted in expected.images.items():
        count = len(scan.samples) if split == "all" else found[split]
        if count != wanted:
            scan.fault("count_mismatch", scan.root, f"{count} images in {split}, {wanted} are published", split=split)
    if expected.boxes is not None and boxes != expected.boxes:
        scan.fault("count_mismatch", scan.root, f"{boxes} boxes, {expected.boxes} are published")
    if expected.classes is not None and scan.classes is not None and len(scan.classes) != expected.classes:
        scan.fault("count_mismatch", scan.root, f"{len(scan.classes)} classes, {expected.classes} are published")
