"""From what a reader of boxes found to a dataset: missing splits are drawn, everything is fingerprinted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import DatasetBundle, array_digest, fingerprint
from paddle_tk.data.formats.detection_files import ImageFile
from paddle_tk.data.splits import TEST, VAL, stratified_split
from paddle_tk.errors import DataError
from paddle_tk.files import canonical_json, sha256_bytes


@dataclass(frozen=True)
class Annotated:
    """What a reader found on disk.

    Attributes:
        root: The dataset's folder; paths are fingerprinted relative to it.
        splits: "train", and "val" and "test" where they are published.
        classes: Class names in the order of the class ids.
        files: Every readable image by path; not needed where the digest is known.
        skipped: Images that cannot be decoded and were left out.
        notes: What else was left out, for the user.
        content_sha256: What ``content_digest`` returns, where it is known.
    """

    root: Path
    splits: Mapping[str, DetectionSplit]
    classes: tuple[str, ...]
    files: Mapping[str, ImageFile]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    content_sha256: str | None = None


def detection_bundle(
    found: Annotated,
    *,
    name: str,
    source: str,
    licence: str,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
) -> DatasetBundle:
    """Draws the splits that are not published and returns the dataset.

    "test" is drawn from "train" first, then "val" from what is left, both stratified by the rarest class of each image.

    Raises:
        DataError: There are no images or boxes to train on, an image is in two splits, or there are too few to share.
    """
    _check(found, name)
    splits = dict(found.splits)
    for part, fraction, purpose in (("test", test_fraction, TEST), ("val", val_fraction, VAL)):
        if part not in splits:
            rest, share = _draw(splits["train"], fraction, split_seed, purpose)
            splits[part] = splits["train"].subset(share)
            splits["train"] = splits["train"].subset(rest)
    return DatasetBundle(
        name=name,
        kind="detection",
        splits=splits,
        classes=found.classes,
        source=source,
        licence=licence,
        fingerprint=fingerprint(
            found.content_sha256 or content_digest(found),
            val_fraction=None if "val" in found.splits else val_fraction,
            test_fraction=None if "test" in found.splits else test_fraction,
            split_seed=split_seed,
        ),
        skipped=found.skipped,
        notes=found.notes,
    )


def _check(found: Annotated, name: str) -> None:
    for part, split in found.splits.items():
        if not len(split):
            raise DataError(f"{found.root} has no images in its {part} split", "add images, or remove the empty split")
    if not found.splits["train"].annotations.counts().any():
        raise DataError(
            f"not one box is annotated in the {len(found.splits['train'])} training images of {found.root}",
            f"check that it is a dataset in the {name} layout",
        )
    owner: dict[str, str] = {}
    for part, split in found.splits.items():
        for path in split.paths:
            if owner.setdefault(path, part) != part:
                raise DataError(
                    f"{path} is in the {owner[path]} split and in the {part} split of {found.root}",
                    f"take it out of one, or drop the {part} split, which is then drawn",
                )


def _draw(split: DetectionSplit, fraction: float, seed: int, purpose: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        return stratified_split(split.labels, fraction, seed=seed, purpose=purpose)
    except DataError:  # few images, each with a rarest class of its own: chance alone decides
        return stratified_split(np.zeros(len(split), np.int64), fraction, seed=seed, purpose=purpose)


def content_digest(found: Annotated) -> str:
    """Returns the SHA-256 over classes, images (relative path, length) and boxes: moving the folder changes nothing."""
    content = {
        name: {
            "files": [_file_row(found, path) for path in split.paths],
            "boxes": _boxes_digest(split),
        }
        for name, split in found.splits.items()
    }
    return sha256_bytes(canonical_json({"classes": found.classes, "splits": content}))


def _file_row(found: Annotated, path: str) -> list[str | int]:
    return [os.fsencode(os.path.relpath(path, found.root)).hex(), found.files[path].size_bytes]


def _boxes_digest(split: DetectionSplit) -> str:
    every = split.annotations.merged()
    columns = (getattr(every, field.name) for field in fields(Boxes))
    return array_digest(split.sizes, split.annotations.counts(), *columns)
