"""What is annotated in an image: boxes with classes, and splits of images that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Protocol, overload, runtime_checkable

import numpy as np

from paddle_tk.data.bundle import read_image
from paddle_tk.data.tables import as_paths, taken
from paddle_tk.errors import DataError

_NO_CLASS = -1


@dataclass(frozen=True)
class Boxes:
    """The annotated objects of one image.

    Coordinates are in pixels of the decoded image, with the origin at the upper left corner of its first pixel, so that
    a box over the whole image is (0, 0, width, height).

    Attributes:
        xyxy: float64, (n, 4), with x1 < x2 and y1 < y2, inside the image.
        class_ids: int64, (n,).
        crowd: bool, (n,): COCO's iscrowd, a region of many objects. Never trained on; what is found in it is not wrong.
        difficult: bool, (n,): VOC's flag. Trained on; in an evaluation neither required nor wrong.
        areas: float64, (n,), square pixels: COCO's area, of the mask where there is one, else of the box.
    """

    xyxy: np.ndarray
    class_ids: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        for name, kind, shape in (
            ("xyxy", np.float64, (n, 4)),
            ("class_ids", np.int64, (n,)),
            ("crowd", np.bool_, (n,)),
            ("difficult", np.bool_, (n,)),
            ("areas", np.float64, (n,)),
        ):
            found = getattr(self, name)
            if found.dtype != kind or found.shape != shape:
                raise ValueError(f"{name} must be {np.dtype(kind)} {shape}, got {found.dtype} {found.shape}")

    def __len__(self) -> int:
        return len(self.class_ids)

    @classmethod
    def make(
        cls,
        xyxy: Sequence[Sequence[float]] | np.ndarray,
        class_ids: Sequence[int] | np.ndarray,
        *,
        crowd: Sequence[bool] | np.ndarray | None = None,
        difficult: Sequence[bool] | np.ndarray | None = None,
        areas: Sequence[float] | np.ndarray | None = None,
    ) -> Boxes:
        """Builds from any sequences; flags default to False, areas to those of the boxes."""
        corners = np.asarray(xyxy, np.float64).reshape(-1, 4)
        n = len(corners)
        sides = corners[:, 2:] - corners[:, :2]
        return cls(
            corners,
            np.asarray(class_ids, np.int64).reshape(-1),
            np.zeros(n, np.bool_) if crowd is None else np.asarray(crowd, np.bool_).reshape(-1),
            np.zeros(n, np.bool_) if difficult is None else np.asarray(difficult, np.bool_).reshape(-1),
            sides[:, 0] * sides[:, 1] if areas is None else np.asarray(areas, np.float64).reshape(-1),
        )

    def select(self, which: np.ndarray | slice) -> Boxes:
        """Returns the boxes at ``which``: a bool mask (n,), indices, or a slice, of which they are views."""
        return Boxes(
            self.xyxy[which], self.class_ids[which], self.crowd[which], self.difficult[which], self.areas[which]
        )


class BoxTable(Sequence[Boxes]):
    """The boxes of many images as columns; the ``Boxes`` of one image are views, made when they are asked for.

    Args:
        every: The boxes of all images, image by image.
        starts: int64, (images + 1,): where each image's boxes begin in ``every``, and the end of the last.
        rows: int64: which of the images, in which order; None: all.
    """

    def __init__(self, every: Boxes, starts: np.ndarray, rows: np.ndarray | None = None) -> None:
        if starts.dtype != np.int64 or not len(starts) or int(starts[-1]) != len(every):
            raise ValueError(f"starts must be int64 and end with {len(every)}, got {starts.dtype} {starts[-1:]}")
        self.every, self.starts, self.rows = every, starts, rows

    @classmethod
    def of(cls, boxes: Sequence[Boxes]) -> BoxTable:
        """Takes the boxes of each image."""
        none = Boxes.make([], [])
        every = (np.concatenate([getattr(b, f.name) for b in [*boxes, none]]) for f in fields(Boxes))
        return cls(Boxes(*every), np.cumsum([0, *(len(b) for b in boxes)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1 if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Boxes: ...
    @overload
    def __getitem__(self, index: slice) -> BoxTable: ...
    def __getitem__(self, index: int | slice) -> Boxes | BoxTable:
        if isinstance(index, slice):
            return self.take(np.arange(len(self), dtype=np.int64)[index])
        place = range(len(self))[index]
        row = place if self.rows is None else int(self.rows[place])
        return self.every.select(slice(int(self.starts[row]), int(self.starts[row + 1])))

    def take(self, indices: np.ndarray) -> BoxTable:
        """Returns the images at ``indices``, in that order; the boxes are not copied."""
        rows = np.asarray(indices, np.int64)
        return BoxTable(self.every, self.starts, rows if self.rows is None else self.rows[rows])

    def counts(self) -> np.ndarray:
        """Returns int64, (n,): the number of boxes of each image."""
        counts: np.ndarray = np.diff(self.starts)
        return counts if self.rows is None else counts[self.rows]

    def merged(self) -> Boxes:
        """Returns the boxes of all images one after the other."""
        if self.rows is None:
            return self.every
        counts = self.counts()
        before = np.cumsum(counts) - counts
        return self.every.select(np.repeat(self.starts[self.rows] - before, counts) + np.arange(counts.sum()))


def check_size(path: str, entry: str, stated: tuple[int, int], actual: tuple[int, int]) -> None:
    """Refuses an annotation that was made for an image of another size; both are (height, width)."""
    if stated != actual:
        turned = " (they are swapped: was the image turned by its EXIF orientation?)" if stated == actual[::-1] else ""
        raise DataError(
            f"{entry} says {stated[1]}x{stated[0]} px, but {path} is {actual[1]}x{actual[0]} px{turned}",
            "correct the annotation or the image",
        )


@runtime_checkable
class AnnotatedSplit(Protocol):
    """Images with boxes in them and of known sizes, wherever they lie.

    Attributes:
        on_disk: Whether an image is read and decoded at each access.
    """

    on_disk: bool

    @property
    def labels(self) -> np.ndarray:
        """int64, (n,): per image its class that is rarest in the split, -1 without boxes."""

    @property
    def sizes(self) -> np.ndarray:
        """int64, (n, 2): height and width of each image in pixels."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """Returns image ``index``: uint8 RGB, (H, W, 3)."""

    def boxes(self, index: int) -> Boxes:
        """Returns what is annotated in image ``index``."""

    def name(self, index: int) -> str:
        """Returns a name for image ``index`` that a person can find it by."""

    def subset(self, indices: np.ndarray) -> AnnotatedSplit:
        """Returns the images at ``indices``, in that order."""


class DetectionSplit:
    """Image files with boxes; images are decoded at each access.

    Args:
        paths: One file per image.
        sizes: int64, (n, 2): height and width of each image as annotated, in pixels.
        boxes: One ``Boxes`` per image, empty where nothing is annotated.
    """

    on_disk = True

    def __init__(self, paths: Sequence[Path | str], sizes: np.ndarray, boxes: Sequence[Boxes]) -> None:
        self.paths = as_paths(paths)
        self.sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        self.annotations = boxes if isinstance(boxes, BoxTable) else BoxTable.of(boxes)
        if not len(self.paths) == len(self.sizes) == len(self.annotations):
            counts = (len(self.paths), len(self.sizes), len(self.annotations))
            raise ValueError(f"paths, sizes and boxes must be as many, got {counts}")

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> np.ndarray:
        """Reads image ``index``: uint8 RGB, (H, W, 3).

        Raises:
            DataError: The file is missing, cannot be decoded, or has another size than its annotation says.
        """
        image = read_image(self.paths[index])
        height, width = self.sizes[index].tolist()
        check_size(self.paths[index], "its annotation", (height, width), (image.shape[0], image.shape[1]))
        return image

    def boxes(self, index: int) -> Boxes:
        """Returns what is annotated in image ``index``."""
        return self.annotations[index]

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return self.paths[index]

    def subset(self, indices: np.ndarray) -> DetectionSplit:
        """Returns the images at ``indices``, in that order."""
        return DetectionSplit(taken(self.paths, indices), self.sizes[indices], self.annotations.take(indices))

    @cached_property
    def labels(self) -> np.ndarray:
        """int64, (n,): per image its class that is rarest in the split, -1 without boxes; what splits go by."""
        ids, counts = self.annotations.merged().class_ids, self.annotations.counts()
        found, numbers, times = np.unique(ids, return_inverse=True, return_counts=True)
        by_rarity = np.lexsort((found, times))  # among equally rare ones the lower class id
        ranks = np.empty(len(found), np.int64)
        ranks[by_rarity] = np.arange(len(found))
        labels = np.full(len(self), _NO_CLASS, np.int64)
        filled = counts > 0
        if len(found):
            starts = (np.cumsum(counts) - counts)[filled]
            labels[filled] = found[by_rarity[np.minimum.reduceat(ranks[numbers], starts)]]
        return labels
