"""What a dataset is once it has been read: splits of labelled images, class names, source, fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from paddle_tk.data.streams import Streamed
from paddle_tk.data.tables import as_paths, taken
from paddle_tk.errors import DataError
from paddle_tk.files import canonical_json, sha256_bytes

SPLITS = ("train", "val", "test")


class ImageSplit(Protocol):
    """Images of one split, readable in any order and from several processes.

    Attributes:
        on_disk: Whether an image is read and decoded at each access.
    """

    on_disk: bool

    @property
    def labels(self) -> np.ndarray:
        """int64, (n,), class ids; what splits are stratified by."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """Returns image ``index``: uint8 RGB, (H, W, 3)."""

    def name(self, index: int) -> str:
        """Returns a name for image ``index`` that a person can find it by."""

    def subset(self, indices: np.ndarray) -> ImageSplit:
        """Returns the images at ``indices``, in that order."""


class ArraySplit:
    """Images of one size, held in memory.

    Args:
        images: uint8 RGB, (n, H, W, 3).
        labels: int64, (n,).
        names: One name per image.
    """

    on_disk = False

    def __init__(self, images: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images must be uint8 (n, H, W, 3), got {images.dtype} {images.shape}")
        self.labels = _checked_labels(labels, len(images))
        if len(names) != len(images):
            raise ValueError(f"{len(images)} images but {len(names)} names")
        self.images = images
        self.names = names

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """Returns a view of image ``index``: uint8 RGB, (H, W, 3)."""
        return np.asarray(self.images[index])

    def name(self, index: int) -> str:
        """Returns the image's name."""
        return self.names[index]

    def subset(self, indices: np.ndarray) -> ArraySplit:
        """Returns a copy of the images at ``indices``, in that order."""
        return ArraySplit(self.images[indices], self.labels[indices], [self.names[i] for i in indices])


class FileSplit:
    """Image files, decoded at each access.

    Args:
        paths: One file per image.
        labels: int64, (n,).
    """

    on_disk = True

    def __init__(self, paths: Sequence[Path | str], labels: np.ndarray) -> None:
        self.labels = _checked_labels(labels, len(paths))
        self.paths = as_paths(paths)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        """Reads image ``index``: uint8 RGB, (H, W, 3).

        Raises:
            DataError: The file is missing or cannot be decoded.
        """
        return read_image(self.paths[index])

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return self.paths[index]

    def subset(self, indices: np.ndarray) -> FileSplit:
        """Returns the files at ``indices``, in that order."""
        return FileSplit(taken(self.paths, indices), self.labels[indices])


@dataclass(frozen=True)
class DatasetBundle:
    """A dataset, read and split.

    Attributes:
        name: The registered name.
        kind: The task it is for: "classification" or "detection".
        splits: "train", "val" and "test", none of them empty.
        classes: Class names in the order of the class ids.
        source: Where the images come from.
        licence: Under which terms, as far as it is known.
        fingerprint: SHA-256 over content and split; equal fingerprints mean equal splits.
        skipped: Files left out because they could not be decoded.
        notes: What else was left out while reading, one sentence each, for the user.
    """

    name: str
    kind: str
    splits: Mapping[str, ImageSplit]
    classes: tuple[str, ...]
    source: str
    licence: str
    fingerprint: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out, in words for the user."""
        left_out = f"{len(self.skipped)} unreadable image(s) left out: {', '.join(self.skipped[:5])}"
        return (*((left_out,) if self.skipped else ()), *self.notes)

    def __post_init__(self) -> None:
        for name in SPLITS:
            if name not in self.splits or len(self.splits[name]) == 0:
                raise DataError(
                    f"dataset {self.name} has no images in its {name} split",
                    "add images, or raise data.val_fraction or data.test_fraction",
                )
            lowest, highest = label_range(self.splits[name])
            least = -1 if self.kind == "detection" else 0  # -1: an image without boxes
            if lowest < least or highest >= len(self.classes):
                raise DataError(
                    f"dataset {self.name}: labels of {name} run from {lowest} to {highest}, "
                    f"but there are {len(self.classes)} classes",
                    "check the dataset's files",
                )


def label_range(split: ImageSplit) -> tuple[int, int]:
    """Returns the least and the largest label; a streamed split knows them without reading its images."""
    if isinstance(split, Streamed):
        return split.label_range
    return int(split.labels.min()), int(split.labels.max())


def _checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise ValueError(f"labels must be int64 ({count},), got {labels.dtype} {labels.shape}")
    return labels


def decode_image(payload: np.ndarray) -> np.ndarray | None:
    """Decodes an image file's bytes to uint8 RGB, (H, W, 3), or returns None where that fails.

    The orientation stored in EXIF is applied; grey images are replicated to three channels, transparency is
    dropped and 16-bit images are reduced to 8 bits.
    """
    if payload.size == 0:
        return None
    try:
        decoded: np.ndarray | None = cv2.imdecode(payload, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)


def read_image(path: Path | str) -> np.ndarray:
    """Reads an image file: uint8 RGB, (H, W, 3); see ``decode_image``.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    try:
        # imdecode on bytes, because cv2.imread does not open every path on every system.
        image = decode_image(np.fromfile(path, np.uint8))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "check the file and its rights") from error
    if image is None:
        raise DataError(f"{path} cannot be decoded as an image", "repair or remove the file")
    return image


def array_digest(*arrays: np.ndarray) -> str:
    """Returns the SHA-256 over types, shapes and content of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fingerprint(content_sha256: str, **split_parameters: Any) -> str:
    """Returns one SHA-256 for content and everything that decides how it is split."""
    return sha256_bytes(canonical_json({"content": content_sha256, **split_parameters}))
