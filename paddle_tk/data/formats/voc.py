"""``voc``: boxes in Pascal VOC's XML files and folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddle_tk.data.boxes import Boxes, BoxTable, DetectionSplit, check_size
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.catalog import class_names
from paddle_tk.data.formats.detection_boxes import checked_classes, clipped_corners, first_repeated, grouped
from paddle_tk.data.formats.detection_bundle import Annotated, detection_bundle
from paddle_tk.data.formats.detection_files import ImageFile, examine_images, is_image, stat_image
from paddle_tk.data.formats.voc_xml import VocFile, VocObject, read_voc_file
from paddle_tk.data.home import dataset_folder
from paddle_tk.errors import DataError

VOC_CLASSES = class_names("voc")
CLASS_FILES = ("labels.txt", "classes.txt")
_LAYOUT = (
    "expected root/Annotations/*.xml, root/JPEGImages and, for published splits, "
    "root/ImageSets/Main/{train,val,test}.txt, or VOCdevkit/VOC2007 and VOC2012 with them below root; give root with "
    "data.root=PATH (--root PATH in tools/dataset.py)"
)
_YEARS = ("VOC2007", "VOC2012")


class _Sample(NamedTuple):
    """One annotated image."""

    xml: Path
    annotation: VocFile
    image: str


def load_voc(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads a dataset in Pascal VOC's format.

    Args:
        root: Its folder, see the layouts in docs/data.md; None: ``$PADDLE_TK_HOME/datasets/voc``.
        val_fraction: Share of the training images that become "val", where no such split is published.
        test_fraction: The same for "test", taken first.
        split_seed: Seed of the splits.
        skip_unreadable: Leave out images that cannot be decoded and list them in the bundle.

    Raises:
        DataError: Anything that cannot be used; the message names the file, the entry and the value.
    """
    folder = dataset_folder("voc", root)
    return detection_bundle(
        read_voc(folder, skip_unreadable=skip_unreadable),
        name="voc",
        source=f"VOC annotations in {folder.name}",
        licence="not stated",
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def read_voc(root: Path, *, skip_unreadable: bool) -> Annotated:
    """Finds the layout and reads every published split; see ``load_voc``. VOC2007 and VOC2012 are read together."""
    samples: dict[str, list[_Sample]] = {}
    for folder in _folders(root):
        images = _images(folder / "JPEGImages")
        for split, paths in _annotation_files(folder).items():
            samples.setdefault(split, []).extend(_sample(folder, path, images) for path in paths)
    classes = _classes(root, samples)
    every = [sample for part in samples.values() for sample in part]
    stats = [stat_image(sample.image, partial(str, sample.xml)) for sample in every]
    files, skipped = examine_images(root, stats, skip_unreadable=skip_unreadable)
    splits = {split: _split(part, files, classes) for split, part in samples.items()}
    return Annotated(root, splits, classes, files, skipped)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", f"{_LAYOUT}; VOC itself: python tools/dataset.py setup voc")
    if (root / "Annotations").is_dir():
        return [root]
    for base in (root / "VOCdevkit", root):
        found = [base / year for year in _YEARS if (base / year / "Annotations").is_dir()]
        if found:
            return found
    raise DataError(f"{root} holds no folder Annotations", _LAYOUT)


def _images(folder: Path) -> dict[str, list[str]]:
    """Returns the names of the image files by stem."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", _LAYOUT)
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        if is_image(name):
            found.setdefault(os.path.splitext(name)[0], []).append(name)
    return found


def _annotation_files(folder: Path) -> dict[str, list[Path]]:
    """Returns the annotation files of each published split; all of them as "train" where no split is published."""
    lists = {name: folder / "ImageSets" / "Main" / f"{name}.txt" for name in ("train", "val", "test", "trainval")}
    found = {name: _listed(path) for name, path in lists.items() if path.is_file()}
    trainval = found.pop("trainval", [])
    if not found and not trainval:
        return {"train": sorted((folder / "Annotations").glob("[!.]*.xml"))}
    if "train" not in found:
        others = {stem for stems in found.values() for stem in stems}
        found["train"] = [stem for stem in trainval if stem not in others]
    if not found["train"]:
        raise DataError(f"{lists['train']} names no images", "add it, or trainval.txt, or remove ImageSets")
    return {
        split: [_annotation_file(folder, stem, lists[split]) for stem in found[split]]
        for split in ("train", "val", "test")
        if split in found
    }


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file: one name per line, UTF-8") from error
    stems = [line.strip() for line in lines if line.strip()]
    repeated = first_repeated(stems)
    if repeated is not None:
        raise DataError(f"{path} names '{stems[repeated]}' twice", "name every image once")
    return stems


def _annotation_file(folder: Path, stem: str, listed_in: Path) -> Path:
    path = folder / "Annotations" / f"{stem}.xml"
    if path.parent != folder / "Annotations" or not path.is_file():
        raise DataError(f"{listed_in} names '{stem}', but {path} does not exist", "add the file or remove the line")
    return path


def _sample(folder: Path, xml: Path, images: Mapping[str, Sequence[str]]) -> _Sample:
    """Reads one annotation and finds its image: the file of the same stem, else the one that it names."""
    annotation = read_voc_file(xml)
    names = images.get(xml.stem, ())
    stated = os.path.basename(annotation.filename)
    if len(names) > 1 and stated not in names:
        raise DataError(f"{xml} may belong to {' or '.join(names)} in {folder / 'JPEGImages'}", "keep one of them")
    name = stated if len(names) > 1 or not names else names[0]
    return _Sample(xml, annotation, str(folder / "JPEGImages" / (name or f"{xml.stem}.jpg")))


def _classes(root: Path, samples: Mapping[str, Sequence[_Sample]]) -> tuple[str, ...]:
    """Returns the listed classes, else VOC's own where they suffice, else the names that occur, sorted."""
    for name in CLASS_FILES:
        path = root / name
        if path.is_file():
            return checked_classes(_listed(path), str(path))
    found = {o.name for part in samples.values() for sample in part for o in sample.annotation.objects}
    return VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))


def _split(samples: Sequence[_Sample], files: Mapping[str, ImageFile], classes: tuple[str, ...]) -> DetectionSplit:
    readable = [sample for sample in samples if sample.image in files]
    paths = [sample.image for sample in readable]
    repeated = first_repeated(paths)
    if repeated is not None:
        raise DataError(f"{readable[repeated].xml} names {paths[repeated]}, as another file does", "remove one of them")
    sizes = np.array([files[path][2:] for path in paths], np.int64).reshape(-1, 2)
    for sample in readable:
        actual = (files[sample.image].height, files[sample.image].width)
        check_size(sample.image, str(sample.xml), sample.annotation.size or actual, actual)
    rows = [row for row, sample in enumerate(readable) for _ in sample.annotation.objects]
    objects = [o for sample in readable for o in sample.annotation.objects]
    return DetectionSplit(paths, sizes, _boxes(readable, objects, np.array(rows, np.int64), sizes, classes))


def _boxes(
    samples: Sequence[_Sample],
    objects: Sequence[VocObject],
    rows: np.ndarray,
    sizes: np.ndarray,
    classes: Sequence[str],
) -> BoxTable:
    class_ids = {name: index for index, name in enumerate(classes)}
    for row, found in zip(rows, objects, strict=True):
        if found.name not in class_ids:
            raise DataError(
                f"{samples[row].xml}: class '{found.name}' is none of the {len(classes)} listed classes",
                f"correct it, or add it to {CLASS_FILES[0]}",
            )
    corners = np.array([o.corners for o in objects], np.float64).reshape(-1, 4)
    boxes = Boxes.make(
        clipped_corners(corners, sizes[rows], lambda i: objects[i].stated),
        [class_ids[o.name] for o in objects],
        difficult=[o.difficult for o in objects],
    )
    return grouped(boxes, rows, len(sizes))
