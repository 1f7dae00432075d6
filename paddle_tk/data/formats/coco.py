"""``coco`` and ``coco2017``: boxes in COCO's JSON, in COCO's own folders or in those of a Roboflow export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddle_tk.data.boxes import Boxes, DetectionSplit, check_size
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.catalog import shipped_entry
from paddle_tk.data.formats.coco_json import Annotation, Category, CocoFile, CocoImage, read_coco_file
from paddle_tk.data.formats.detection_boxes import (
    checked_classes,
    clipped_corners,
    first_repeated,
    grouped,
    spans_area,
)
from paddle_tk.data.formats.detection_bundle import Annotated, detection_bundle
from paddle_tk.data.formats.detection_files import ImageFile, examine_images, inside, split_of, stat_image
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.verify import FileStat
from paddle_tk.errors import DataError

_LAYOUT = (
    "expected root/annotations/instances_{train,val,test}*.json with the images in root/{train,val,test}*, "
    "root/images or root, or root/{train,valid,test}/_annotations.coco.json; give root with data.root=PATH (--root "
    "PATH in tools/dataset.py)"
)
_ROBOFLOW = "_annotations.coco.json"
_PROBED = 20

_COCO2017 = shipped_entry("coco2017")
# Two boxes of instances_train2017.json, as published, have a height of 0.
COCO2017_FAULTS = frozenset({918, 2206849})


class _Source(NamedTuple):
    """One split: its annotation file and the folders its images may lie in."""

    file: Path
    folders: tuple[Path, ...]


class _Images(NamedTuple):
    """The images of one split, in the order of the file: where they lie and what is stated of them."""

    paths: list[str]
    stated: list[CocoImage]


def load_coco(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads a dataset in COCO's JSON format.

    Args:
        root: Its folder, see the layouts in docs/data.md; None: ``$PADDLE_TK_HOME/datasets/coco``.
        val_fraction: Share of the training images that become "val", where no such split is published.
        test_fraction: The same for "test", taken first.
        split_seed: Seed of the splits.
        skip_unreadable: Leave out images that cannot be decoded and list them in the bundle.

    Raises:
        DataError: Anything that cannot be used; the message names the file, the entry and the value.
    """
    folder = dataset_folder("coco", root)
    return detection_bundle(
        read_coco(folder, skip_unreadable=skip_unreadable),
        name="coco",
        source=f"COCO annotations in {folder.name}",
        licence="not stated",
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def load_coco2017(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads COCO 2017 as published.

    The labels of its test images are not public and published figures are those of val2017. So val2017 is the "test"
    split, which is evaluated once, and "val", which ranks the epochs, is drawn from train2017.

    Args:
        root: The folder of ``annotations/``, ``train2017/`` and ``val2017/`` (or ``images/train2017/`` ...); None:
            ``$PADDLE_TK_HOME/datasets/coco2017``.
        val_fraction: Share of train2017 that becomes "val".
        test_fraction: Without effect: val2017 is the test split.
        split_seed: Seed of the validation split.
        skip_unreadable: Leave out images that cannot be decoded and list them in the bundle.

    Raises:
        DataError: Anything that cannot be used; the message names the file, the entry and the value.
    """
    folder = dataset_folder("coco2017", root)
    names = {"train": "train2017", "test": "val2017"}
    sources = {
        split: _Source(folder / "annotations" / f"instances_{name}.json", (folder / name, folder / "images" / name))
        for split, name in names.items()
    }
    missing = [source.file for source in sources.values() if not source.file.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]} does not exist",
            "python tools/dataset.py setup coco2017, or give the folder of annotations/ with data.root=PATH",
        )
    return detection_bundle(
        _read(folder, sources, skip_unreadable=skip_unreadable, known_faults=COCO2017_FAULTS),
        name="coco2017",
        source=_COCO2017.source,
        licence=_COCO2017.licence,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def read_coco(root: Path, *, skip_unreadable: bool) -> Annotated:
    """Finds the layout and reads every published split; see ``load_coco``."""
    return _read(root, _sources(root), skip_unreadable=skip_unreadable)


def _read(
    root: Path, sources: Mapping[str, _Source], *, skip_unreadable: bool, known_faults: frozenset[int] = frozenset()
) -> Annotated:
    documents = {split: read_coco_file(source.file) for split, source in sources.items()}
    categories = _categories(sources, documents)
    images: dict[str, _Images] = {}
    stats: list[FileStat] = []
    for split, source in sources.items():
        images[split], found = _images(source, documents[split].images)
        stats.extend(found)
    files, skipped = examine_images(root, stats, skip_unreadable=skip_unreadable)
    class_ids = {category.id: index for index, category in enumerate(categories)}
    splits: dict[str, DetectionSplit] = {}
    notes: list[str] = []
    for split, source in sources.items():
        splits[split], faults = _split(source, documents[split], images[split], files, class_ids, known_faults)
        notes.extend(f"annotation {i} of {source.file.name} has a box without area and was left out" for i in faults)
    classes = checked_classes([category.name for category in categories], f"{sources['train'].file}: categories")
    return Annotated(root, splits, classes, files, skipped, tuple(notes))


def _sources(root: Path) -> dict[str, _Source]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", _LAYOUT)
    found: dict[str, _Source] = {}
    for file in sorted((root / "annotations").glob("instances_*.json")):
        name = file.stem.removeprefix("instances_")
        folders = [root / name, root / "images" / name]
        split = split_of(name)
        if split is not None:
            folders += [root / split, root / "images" / split, root / "images", root]
            _add(found, split, _Source(file, tuple(folders)))
    for file in [] if found else sorted(root.glob(f"*/{_ROBOFLOW}")):
        split = split_of(file.parent.name)
        if split is not None:
            _add(found, split, _Source(file, (file.parent,)))
    if "train" not in found:
        raise DataError(f"{root} holds no COCO annotations of a training split", _LAYOUT)
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _add(found: dict[str, _Source], split: str, source: _Source) -> None:
    if split in found:
        raise DataError(f"both {found[split].file} and {source.file} are a {split} split", "keep one of them")
    found[split] = source


def _categories(sources: Mapping[str, _Source], documents: Mapping[str, CocoFile]) -> list[Category]:
    """Returns the categories by ascending id, which all splits must share."""
    first = sources["train"].file
    wanted = sorted(documents["train"].categories, key=lambda category: category.id)
    repeated = first_repeated([category.id for category in wanted])
    if repeated is not None:
        raise DataError(f"{first}: category id {wanted[repeated].id} occurs twice", "give every category its own id")
    for split, document in documents.items():
        other = sorted(document.categories, key=lambda category: category.id)
        if [(c.id, c.name) for c in other] != [(c.id, c.name) for c in wanted]:
            raise DataError(
                f"{sources[split].file} has other categories than {first}", "give every split the same categories"
            )
    return _without_root_category(wanted, documents.values()) if first.name == _ROBOFLOW else wanted


def _without_root_category(categories: list[Category], documents: Iterable[CocoFile]) -> list[Category]:
    """Leaves out what Roboflow puts before the classes: their common supercategory, which no box ever has."""
    used = {annotation.category_id for document in documents for annotation in document.annotations}
    parents = {category.supercategory for category in categories}
    kept = [c for c in categories if c.id in used or c.name not in parents or c.supercategory == c.name]
    return kept or categories


def _images(source: _Source, stated: Sequence[CocoImage]) -> tuple[_Images, list[FileStat]]:
    if not stated:
        raise DataError(f"{source.file} names no images", "add images, or remove the file")
    for key in ("id", "file_name"):
        values = [getattr(image, key) for image in stated]
        repeated = first_repeated(values)
        if repeated is not None:
            raise DataError(f"{source.file}: two images have the {key} {values[repeated]!r}", "remove one of them")
    for image in stated:
        if not inside(image.file_name):
            raise DataError(
                f"{source.file}: image {image.id} has the file_name {image.file_name!r}",
                "name a file below the folder of images",
            )
    folder = _folder(source, stated)
    paths = [str(folder / image.file_name) for image in stated]
    stats = [
        stat_image(path, partial(_image_entry, source.file, image)) for path, image in zip(paths, stated, strict=True)
    ]
    return _Images(paths, list(stated)), stats


def _folder(source: _Source, images: Sequence[CocoImage]) -> Path:
    """Returns the first folder that holds one of the first images, else the first that exists."""
    probed = images[:_PROBED]
    holding = [f for f in source.folders if any((f / image.file_name).is_file() for image in probed)]
    return next(iter([*holding, *(f for f in source.folders if f.is_dir()), *source.folders]))


def _image_entry(file: Path, image: CocoImage) -> str:
    return f"{file}: image {image.id}"


def _split(
    source: _Source,
    document: CocoFile,
    images: _Images,
    files: Mapping[str, ImageFile],
    class_ids: Mapping[int, int],
    known_faults: frozenset[int],
) -> tuple[DetectionSplit, list[int | str]]:
    """Returns the readable images with their boxes, and the ids of the annotations left out as known faults."""
    paths: list[str] = []
    sizes: list[tuple[int, int]] = []
    rows: dict[int | str, int] = {}
    for path, image in zip(images.paths, images.stated, strict=True):
        file = files.get(path)
        rows[image.id] = -1 if file is None else len(paths)
        if file is not None:
            _check_stated(source.file, image, file)
            paths.append(path)
            sizes.append((file.height, file.width))
    frame = np.array(sizes, np.int64).reshape(-1, 2)
    boxes, faults = _boxes(source.file, document.annotations, rows, class_ids, frame, known_faults)
    return DetectionSplit(paths, frame, boxes), faults


def _check_stated(path: Path, image: CocoImage, file: ImageFile) -> None:
    height = file.height if image.height is None else image.height
    width = file.width if image.width is None else image.width
    if (height, width) != (file.height, file.width):
        check_size(file.path, _image_entry(path, image), (height, width), (file.height, file.width))


def _boxes(
    path: Path,
    annotations: Sequence[Annotation],
    rows: Mapping[int | str, int],
    class_ids: Mapping[int, int],
    sizes: np.ndarray,
    known_faults: frozenset[int],
) -> tuple[list[Boxes], list[int | str]]:
    places = _looked_up(path, annotations, "image_id", rows, "image")
    classes = _looked_up(path, annotations, "category_id", class_ids, "category")
    ids = [annotation.id for annotation in annotations if annotation.id is not None]
    repeated = first_repeated(ids)
    if repeated is not None:
        raise DataError(f"{path}: two annotations have the id {ids[repeated]}", "give every annotation its own id")
    corners = np.array([annotation.bbox for annotation in annotations], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    known = np.array([annotation.id in known_faults for annotation in annotations], np.bool_)
    faulty = known & ~spans_area(corners)
    kept = np.flatnonzero((places >= 0) & ~faulty)
    used = [annotations[i] for i in kept]
    clipped = clipped_corners(corners[kept], sizes[places[kept]], lambda i: _entry(path, used[i]))
    boxes = Boxes.make(
        clipped,
        classes[kept],
        crowd=[bool(annotation.iscrowd) for annotation in used],
        difficult=[bool(annotation.ignore) for annotation in used],
        areas=_areas(path, used, clipped),
    )
    return grouped(boxes, places[kept], len(sizes)), [annotations[i].id or 0 for i in np.flatnonzero(faulty)]


def _looked_up(
    path: Path, annotations: Sequence[Annotation], key: str, known: Mapping[int, int] | Mapping[int | str, int], of: str
) -> np.ndarray:
    """Translates ids to positions, int64 (n,)."""
    try:
        return np.array([known[getattr(annotation, key)] for annotation in annotations], np.int64)
    except KeyError:
        wrong = next(annotation for annotation in annotations if getattr(annotation, key) not in known)
        value = getattr(wrong, key)
        raise DataError(
            f"{path}: annotation {wrong.id} has the {key} {value!r}, but there is no {of} with that id",
            f"add the {of} or remove the annotation",
        ) from None


def _areas(path: Path, annotations: Sequence[Annotation], corners: np.ndarray) -> np.ndarray:
    """Returns the stated areas, or those of the boxes where none is stated."""
    own = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    stated = [annotation.area for annotation in annotations]
    areas: np.ndarray = np.array([o if s is None else s for o, s in zip(own, stated, strict=True)], np.float64)
    if (areas < 0).any():
        wrong = annotations[int(np.argmin(areas))]
        raise DataError(f"{path}: annotation {wrong.id} has the area {wrong.area}", "give it in square pixels, from 0")
    return areas


def _entry(path: Path, annotation: Annotation) -> str:
    bbox = ", ".join(f"{value:g}" for value in annotation.bbox)
    return f"{path}: annotation {annotation.id} of image {annotation.image_id}: bbox [{bbox}]"
