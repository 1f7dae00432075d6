"""``coco`` and ``coco2017``: boxes in COCO's JSON, in COCO's own folders or in those of a Roboflow export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from paddle_tk.data.boxes import DetectionSplit
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.catalog import shipped_entry
from paddle_tk.data.formats.coco_boxes import coco_split, image_entry
from paddle_tk.data.formats.coco_index import Listing, Source, folder_of, keep, read_before
from paddle_tk.data.formats.coco_json import Category
from paddle_tk.data.formats.coco_table import CocoTable, read_coco_table
from paddle_tk.data.formats.detection_boxes import checked_classes, first_repeated
from paddle_tk.data.formats.detection_bundle import Annotated, detection_bundle
from paddle_tk.data.formats.detection_files import examine_images, inside, split_of, stat_image
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.verify import FileStat
from paddle_tk.errors import DataError

_LAYOUT = (
    "expected root/annotations/instances_{train,val,test}*.json with the images in root/{train,val,test}*, "
    "root/images or root, or root/{train,valid,test}/_annotations.coco.json; give root with data.root=PATH (--root "
    "PATH in tools/dataset.py)"
)
_ROBOFLOW = "_annotations.coco.json"

_COCO2017 = shipped_entry("coco2017")
# Two boxes of instances_train2017.json, as published, have a height of 0.
COCO2017_FAULTS = frozenset({918, 2206849})


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
        split: Source(folder / "annotations" / f"instances_{name}.json", (folder / name, folder / "images" / name))
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
    root: Path, sources: Mapping[str, Source], *, skip_unreadable: bool, known_faults: frozenset[int] = frozenset()
) -> Annotated:
    before = read_before(root, sources, known_faults, skip_unreadable=skip_unreadable)
    if before is not None:
        return before
    tables = {split: read_coco_table(source.file) for split, source in sources.items()}
    categories = _categories(sources, tables)
    folders: dict[str, Path] = {}
    stats: dict[str, list[FileStat]] = {}
    for split, source in sources.items():
        folders[split], stats[split] = _images(source, tables[split])
    every = [file for found in stats.values() for file in found]
    files, skipped = examine_images(root, every, skip_unreadable=skip_unreadable)
    splits: dict[str, DetectionSplit] = {}
    listings: dict[str, Listing] = {}
    notes: list[str] = []
    for split, source in sources.items():
        paths = [file.path for file in stats[split]]
        ids = [category.id for category in categories]
        splits[split], rows, faults = coco_split(source.file, tables[split], paths, files, ids, known_faults)
        notes.extend(f"annotation {i} of {source.file.name} has a box without area and was left out" for i in faults)
        sides = np.array([file[1:] for file in stats[split]], np.int64).reshape(-1, 2)
        listings[split] = Listing(folders[split], tables[split].file_names, rows, sides)
    classes = checked_classes([category.name for category in categories], f"{sources['train'].file}: categories")
    found = Annotated(root, splits, classes, files, skipped, tuple(notes))
    return keep(found, sources, listings, known_faults, {split: table.sha256 for split, table in tables.items()})


def _sources(root: Path) -> dict[str, Source]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", _LAYOUT)
    found: dict[str, Source] = {}
    for file in sorted((root / "annotations").glob("instances_*.json")):
        name = file.stem.removeprefix("instances_")
        folders = [root / name, root / "images" / name]
        split = split_of(name)
        if split is not None:
            folders += [root / split, root / "images" / split, root / "images", root]
            _add(found, split, Source(file, tuple(folders)))
    for file in [] if found else sorted(root.glob(f"*/{_ROBOFLOW}")):
        split = split_of(file.parent.name)
        if split is not None:
            _add(found, split, Source(file, (file.parent,)))
    if "train" not in found:
        raise DataError(f"{root} holds no COCO annotations of a training split", _LAYOUT)
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _add(found: dict[str, Source], split: str, source: Source) -> None:
    if split in found:
        raise DataError(f"both {found[split].file} and {source.file} are a {split} split", "keep one of them")
    found[split] = source


def _categories(sources: Mapping[str, Source], tables: Mapping[str, CocoTable]) -> list[Category]:
    """Returns the categories by ascending id, which all splits must share."""
    first = sources["train"].file
    wanted = sorted(tables["train"].categories, key=lambda category: category.id)
    repeated = first_repeated([category.id for category in wanted])
    if repeated is not None:
        raise DataError(f"{first}: category id {wanted[repeated].id} occurs twice", "give every category its own id")
    for split, table in tables.items():
        other = sorted(table.categories, key=lambda category: category.id)
        if [(c.id, c.name) for c in other] != [(c.id, c.name) for c in wanted]:
            raise DataError(
                f"{sources[split].file} has other categories than {first}", "give every split the same categories"
            )
    return _without_root_category(wanted, tables.values()) if first.name == _ROBOFLOW else wanted


def _without_root_category(categories: list[Category], tables: Iterable[CocoTable]) -> list[Category]:
    """Leaves out what Roboflow puts before the classes: their common supercategory, which no box ever has."""
    used = {category_id for table in tables for category_id in table.category_of.values()}
    parents = {category.supercategory for category in categories}
    kept = [c for c in categories if c.id in used or c.name not in parents or c.supercategory == c.name]
    return kept or categories


def _images(source: Source, table: CocoTable) -> tuple[Path, list[FileStat]]:
    """Returns the folder of the images, and each of them as it lies on disk."""
    if not len(table.image_ids):
        raise DataError(f"{source.file} names no images", "add images, or remove the file")
    names = list(table.file_names)
    position = first_repeated(names)
    for key, value in (
        ("id", table.image_ids.repeated()),
        ("file_name", None if position is None else names[position]),
    ):
        if value is not None:
            raise DataError(f"{source.file}: two images have the {key} {value!r}", "remove one of them")
    for row, name in enumerate(names):
        if not inside(name):
            raise DataError(
                f"{image_entry(source.file, table, row)} has the file_name {name!r}",
                "name a file below the folder of images",
            )
    folder = folder_of(source, names)
    return folder, [
        stat_image(str(folder / name), partial(image_entry, source.file, table, row)) for row, name in enumerate(names)
    ]
