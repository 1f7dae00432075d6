"""Which images a model is calibrated on, and how they become batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from paddle_tk.data.bundle import FileSplit, ImageSplit
from paddle_tk.data.formats.image_folder import SUFFIXES
from paddle_tk.data.splits import stratified_subset
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.errors import DataError
from paddle_tk.quantize.histogram import Array
from paddle_tk.types import Preprocessing


def choose_calibration(split: ImageSplit, count: int, seed: int = 0) -> Array:
    """Chooses images so that each class has its part; by rule those of the training split.

    A detection split goes by the rarest class in each image, images without boxes by themselves, so that every kind of
    image is among those chosen; images without labels are drawn evenly.

    Args:
        split: The images to choose from.
        count: How many, at least 1; all where there are fewer.
        seed: Equal seeds choose equally.

    Returns:
        Indices, int64, in a seeded random order, so that every batch is a mixture too.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    chosen = stratified_subset(split.labels, count, seed=seed)
    return np.random.default_rng((seed, len(chosen))).permutation(chosen)


def read_batches(
    split: ImageSplit, indices: Sequence[int] | Array, preprocessing: Preprocessing, batch_size: int
) -> Iterator[Array]:
    """Yields the images at ``indices`` as the model gets them, float32 (B, 3, H, W); the last batch may be smaller.

    Raises:
        DataError: An image cannot be decoded.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    transform = EvalTransform(preprocessing)
    for start in range(0, len(indices), batch_size):
        yield np.stack([transform(split.image(int(index))) for index in indices[start : start + batch_size]])


class FolderImages:
    """The images of a folder and its sub-folders, without labels.

    Args:
        path: The folder.
        preprocessing: The model's.

    Attributes:
        split: The images as an ``ImageSplit`` of one class.
        preprocessing: The model's.

    Raises:
        DataError: There is no such folder, or no image in it.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        if not path.is_dir():
            raise DataError(f"there is no folder {path} with calibration images", "give a folder of images")
        self.path, self.preprocessing = path, preprocessing
        if not self._files:
            kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise DataError(
                f"the calibration folder {path} holds no image ({kinds})",
                "put images of the kind the model is for into it, a few hundred are enough",
            )
        self.split = FileSplit(self._files, np.zeros(len(self._files), np.int64))

    @cached_property
    def _files(self) -> list[Path]:
        return sorted(p for p in self.path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())

    def __len__(self) -> int:
        return len(self.split)

    def choose(self, count: int, seed: int = 0) -> Array:
        """Returns the indices of ``count`` images, as ``choose_calibration`` does."""
        return choose_calibration(self.split, count, seed)

    def batches(self, indices: Sequence[int] | Array, batch_size: int) -> Iterator[Array]:
        """Yields images as the model gets them, float32 (B, 3, H, W); see ``read_batches``.

        Raises:
            DataError: An image cannot be decoded.
        """
        return read_batches(self.split, indices, self.preprocessing, batch_size)
