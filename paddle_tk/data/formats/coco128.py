"""``coco128``: 128 images of COCO train2017 with YOLO labels, from the published archive or what it unpacks to."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.catalog import class_names, shipped_entry
from paddle_tk.data.formats.detection_bundle import detection_bundle
from paddle_tk.data.formats.yolo import read_yolo
from paddle_tk.data.formats.yolo_layout import YoloLayout, folder_images, stray_labels
from paddle_tk.data.home import cache_folder, dataset_folder
from paddle_tk.data.made_once import made_once
from paddle_tk.data.unpack import unpack
from paddle_tk.errors import DataError
from paddle_tk.files import MIB, sha256_file

_ENTRY = shipped_entry("coco128")
COCO_CLASSES = class_names("coco128")
ARCHIVE, FOLDER, PART = "coco128.zip", "coco128", "train2017"
_SUFFIXES = {"images": ".jpg", "labels": ".txt"}
# Label files that the archive holds without their images.
COCO128_STRAYS = frozenset({"000000000656", "000000000659"})
_MAX_BYTES = 256 * MIB  # the archive holds 22 MB; what unpacks to far more is another one


def load_coco128(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads COCO128. Nothing of it is published as val or test: both are drawn, stratified.

    Args:
        root: ``coco128.zip``, the folder ``coco128`` it unpacks to, or a folder that holds either; None:
            ``$PADDLE_TK_HOME/datasets/coco128``. An archive is unpacked once, under ``$PADDLE_TK_HOME/cache``.
        val_fraction: Share of what remains after the test split that becomes "val".
        test_fraction: Share of all images that becomes "test".
        split_seed: Seed of the splits.
        skip_unreadable: Leave out images that cannot be decoded and list them in the bundle.

    Raises:
        DataError: It was not found or is damaged; the message names the file.
    """
    folder = coco128_folder(root)
    images = folder / "images" / PART
    layout = YoloLayout(folder, {"train": folder_images(images)}, COCO_CLASSES, stray_labels([images]))
    return detection_bundle(
        read_yolo(layout, skip_unreadable=skip_unreadable),
        name="coco128",
        source=_ENTRY.source,
        licence=_ENTRY.licence,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def coco128_folder(given: str | None) -> Path:
    """Returns the folder of ``images`` and ``labels``; an archive is unpacked first. ``given``: as ``load_coco128``'s.

    Raises:
        DataError: It was not found, or the archive is damaged.
    """
    root = dataset_folder("coco128", given)
    for candidate in (root, root / FOLDER):
        if (candidate / "images" / PART).is_dir():
            return candidate
    for archive in (root, root / ARCHIVE):
        if archive.is_file():
            target = cache_folder() / f"{FOLDER}-{sha256_file(archive)[:16]}"
            return made_once(target, partial(_unpack, archive))
    raise DataError(
        f"COCO128 was not found at {root}",
        f"python tools/dataset.py setup coco128, or put {ARCHIVE} or the folder {FOLDER} it unpacks to there, or give "
        "its place with data.root=PATH",
    )


def _unpack(archive: Path, target: Path) -> None:
    """Unpacks images and labels; nothing else of the archive is wanted."""
    if unpack(archive, target, max_bytes=_MAX_BYTES, place=_place).files == 0:
        raise DataError(f"{archive} holds no {FOLDER}/images/{PART}/*.jpg", f"download {ARCHIVE} again")


def _place(path: PurePosixPath) -> PurePosixPath | None:
    parts = path.parts
    if len(parts) != 4 or parts[0] != FOLDER or parts[2] != PART or parts[1] not in _SUFFIXES:
        return None
    wanted = parts[3].endswith(_SUFFIXES[parts[1]]) and not parts[3].startswith(".")
    return PurePosixPath(*parts[1:]) if wanted else None
