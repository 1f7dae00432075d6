"""``digits_detection``: scikit-learn's hand-written digits strewn over textured pictures; needs no download."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from paddle_tk.data.bundle import DatasetBundle, fingerprint
from paddle_tk.data.catalog import shipped_entry
from paddle_tk.data.formats.coco import read_coco
from paddle_tk.data.formats.coco_json import CocoWriter
from paddle_tk.data.formats.detection_bundle import detection_bundle
from paddle_tk.data.formats.digit_canvas import SIDE, Canvas, draw_canvas
from paddle_tk.data.home import cache_folder
from paddle_tk.data.made_once import made_once
from paddle_tk.errors import DataError

_ENTRY = shipped_entry("digits_detection")
CANVASES = {"train": 400, "val": 60, "test": 120}
# Another recipe is another dataset: whatever changes a pixel must change this number, which names the folder.
RECIPE = 2
_SEED = 20261
_SHARES = {"train": 70, "val": 10, "test": 20}  # of the source digits of every class, in per cent
_DIGEST = "content.sha256"


def digits_detection_folder(root: str | None = None) -> Path:
    """Returns the COCO dataset under ``$PADDLE_TK_HOME/cache``; it is drawn first where it is not there.

    Raises:
        DataError: A root was given.
    """
    if root is not None:
        raise DataError(f"digits_detection is drawn and reads no folder, got data.root={root}", "drop data.root")
    return made_once(cache_folder() / f"digits_detection-{RECIPE}", write_digits_detection)


def load_digits_detection(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Draws the pictures once, as a COCO dataset under ``$PADDLE_TK_HOME/cache``, and reads them from there.

    400 pictures to train on, 60 to validate and 120 to test, 128x128 px, each with 2 to 6 digits of 20 to 56 px. A
    source digit is used in one split only. All is seeded and computed in integers.

    Args:
        root: Must be None.
        val_fraction: Without effect: the splits are part of the dataset.
        test_fraction: Without effect.
        split_seed: Without effect.
        skip_unreadable: Leave out pictures that were damaged since.

    Raises:
        DataError: A root was given, or the folder was damaged.
    """
    folder = digits_detection_folder(root)
    try:
        content = (folder / _DIGEST).read_text(encoding="ascii")
        found = read_coco(folder, skip_unreadable=skip_unreadable)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is damaged ({error})", "remove the folder; it will be made again") from error
    except DataError as error:
        raise DataError(error.problem, f"remove {folder}; it will be made again") from error
    bundle = detection_bundle(
        found,
        name="digits_detection",
        source=_ENTRY.source,
        licence=_ENTRY.licence,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
    # The length of a PNG file depends on the library that packs it, its pixels do not.
    return replace(bundle, fingerprint=fingerprint(content, skipped=[Path(p).name for p in bundle.skipped]))


def write_digits_detection(folder: Path) -> None:
    """Writes the dataset into an empty folder: PNG files, COCO annotations and the digest of all pixels and boxes."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    writer = CocoWriter([str(name) for name in raw.target_names], _ENTRY.source, _ENTRY.licence)
    digest = hashlib.sha256()
    (folder / "annotations").mkdir()
    for split, canvases in draw_digits_detection(raw.images.astype(np.int64), raw.target.astype(np.int64)).items():
        names = [f"{split}_{number:04d}.png" for number in range(len(canvases))]
        (folder / split).mkdir()
        for name, canvas in zip(names, canvases, strict=True):
            digest.update(canvas.image.tobytes() + canvas.boxes.xyxy.tobytes() + canvas.boxes.class_ids.tobytes())
            (folder / split / name).write_bytes(cv2.imencode(".png", canvas.image[..., ::-1])[1].tobytes())
        document = writer.document(names, [(SIDE, SIDE)] * len(names), [canvas.boxes for canvas in canvases])
        (folder / "annotations" / f"instances_{split}.json").write_bytes(document)
    (folder / _DIGEST).write_text(digest.hexdigest(), encoding="ascii")


def draw_digits_detection(levels: np.ndarray, labels: np.ndarray) -> dict[str, list[Canvas]]:
    """Draws all pictures of all splits.

    Args:
        levels: The source digits, int64 (n, 8, 8), 0..16.
        labels: int64, (n,), their classes.
    """
    random = np.random.RandomState(_SEED)
    found = {}
    for split, own in _shared_out(labels, random).items():
        pool: list[int] = []
        canvases: list[Canvas] = []
        while len(canvases) < CANVASES[split]:
            if len(pool) < 6:  # enough for one picture, and no digit twice on it
                pool = [int(own[i]) for i in random.permutation(len(own))]
            canvases.append(draw_canvas(levels, labels, pool, random))
        found[split] = canvases
    return found


def _shared_out(labels: np.ndarray, random: np.random.RandomState) -> dict[str, Sequence[int]]:
    """Shares the source digits among the splits, class by class."""
    own: dict[str, list[int]] = {split: [] for split in _SHARES}
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum([len(members) * share // 100 for share in _SHARES.values()])
        for split, part in zip(own, np.split(members, ends[:-1]), strict=True):
            own[split].extend(int(i) for i in part)
    return dict(own)
