"""What a check found: faults, each with file and entry, and remarks that are no faults."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddle_tk.data.formats.detection_boxes import first_repeated

NO_SAMPLE = -1

# Kind of fault: what it means. A kind that is not here is a mistake of ours.
FAULTS: Mapping[str, str] = {
    "layout": "folders or files are not where the format has them",
    "count_mismatch": "another number of images, boxes or classes than is published",
    "unreadable_text": "a text file is no UTF-8 or cannot be read",
    "malformed_entry": "an annotation that does not follow the format's schema",
    "duplicate_id": "an id or name that must be unique occurs twice",
    "class_id_gap": "class ids that do not run from 0 without a gap",
    "unknown_class": "a class that the dataset does not name",
    "class_mismatch": "a split has other classes than the training split",
    "empty_class": "a class without an image",
    "missing_image": "an annotation or list names an image that does not exist",
    "orphan_label": "an annotation without its image",
    "missing_label": "a list names an annotation that does not exist",
    "empty_file": "an image file of 0 bytes",
    "not_an_image": "a file with an image's name and another content",
    "truncated_image": "an image file that is cut off",
    "undecodable_image": "an image file that is damaged",
    "wrong_extension": "an image of another type than its name says",
    "size_mismatch": "the annotation states another size than the image has",
    "box_not_finite": "a box with NaN or infinite coordinates",
    "box_inverted": "a box whose sides are negative",
    "box_zero_area": "a box without area",
    "box_outside": "a box that reaches over the image's edge",
    "duplicate_box": "the same box with the same class twice in one image",
    "duplicate_image": "the same image twice in one split",
    "leakage": "the same image in two splits",
}


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: A key of ``FAULTS``.
        file: The file at fault.
        problem: What is wrong with it, with the value.
        entry: Which entry of the file ("line 3", "annotation 17"); "" for the file as a whole.
        split: "train", "val" or "test"; "" where that says nothing.
        sample: Number of the sample at fault; ``NO_SAMPLE``: none.
        loose: No sample is at fault, but the file as such, which can be put aside alone.
    """

    kind: str
    file: str
    problem: str
    entry: str = ""
    split: str = ""
    sample: int = NO_SAMPLE
    loose: bool = False

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"unknown kind of fault {self.kind!r}")


class Sample(NamedTuple):
    """One image as its dataset names it.

    Attributes:
        split: "train", "val" or "test".
        image: Path of the image.
        label: Path of what annotates it: a file of its own or one for many; "" where nothing does.
        entry: What names it, for a message.
        own_label: Whether ``label`` is about this image alone.
        key: What it is called in the documents that list it.
        size: Height and width that are stated, in pixels; None: not stated.
    """

    split: str
    image: str
    label: str
    entry: str
    own_label: bool = False
    key: str | int = ""
    size: tuple[int, int] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """What belongs to it alone."""
        return (self.image, self.label) if self.own_label else (self.image,)


@dataclass
class BoxTable:
    """Boxes as they are annotated.

    Attributes:
        corners: float64, (n, 4): x1, y1, x2, y2.
        rows: int64, (n,): the sample of each.
        classes: int64, (n,): ids or numbers that tell classes apart.
        entry: Names box i, for a message.
        shares: Whether coordinates are shares of the image instead of pixels.
    """

    corners: np.ndarray
    rows: np.ndarray
    classes: np.ndarray
    entry: Callable[[int], str]
    shares: bool = False


@dataclass
class Scan:
    """What the files of a dataset say, before any image is opened.

    Attributes:
        root: The dataset's folder.
        samples: Every image that is named.
        findings: What is wrong so far.
        remarks: What is odd but allowed.
        boxes: Tables of boxes.
        classes: Class names; None: not named.
        documents: Files that list many samples, where a sample has to be struck out when it is put aside.
    """

    root: Path
    samples: list[Sample] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    boxes: list[BoxTable] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    documents: list[str] = field(default_factory=list)

    def fault(self, kind: str, file: str | Path, problem: str, **more: Any) -> None:
        """Adds a finding."""
        self.findings.append(Finding(kind, str(file), problem, **more))

    def unique(self, kind: str, values: list[Any], file: str | Path, what: str) -> None:
        """Adds a finding for every value that occurs twice."""
        if first_repeated(values) is None:
            return
        for value, count in Counter(values).items():
            if count > 1:
                self.fault(kind, file, f"{what} {value!r} occurs {count} times", entry=f"{what} {value!r}")


@dataclass(frozen=True)
class Report:
    """What a check says.

    Attributes:
        dataset: The dataset's name.
        root: Its folder.
        findings: The faults, in the order of files.
        remarks: What is odd but allowed.
        samples: The images that are named; findings point at them.
        documents: As in ``Scan``.
        images: How many images were opened.
        boxes: How many boxes were looked at.
        seconds: Wall time.
    """

    dataset: str
    root: Path
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]
    samples: tuple[Sample, ...]
    documents: tuple[str, ...]
    images: int
    boxes: int
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Faults by kind, most frequent first."""
        return dict(Counter(finding.kind for finding in self.findings).most_common())

    def relative(self, path: str) -> str:
        """Returns a path as it is written in the report: relative to the dataset where it lies in it."""
        shown = os.path.relpath(path, self.root)
        return path if shown.startswith("..") else shown

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "dataset": self.dataset,
            "root": str(self.root),
            "clean": not self.findings,
            "images": self.images,
            "boxes": self.boxes,
            "splits": dict(Counter(sample.split for sample in self.samples)),
            "faults": len(self.findings),
            "counts": self.counts,
            "findings": [self._row(finding) for finding in self.findings],
            "remarks": list(self.remarks),
            "seconds": round(self.seconds, 3),
            "origin": "measured",
        }

    def _row(self, finding: Finding) -> dict[str, Any]:
        image = self.samples[finding.sample].image if finding.sample != NO_SAMPLE else ""
        return {
            "kind": finding.kind,
            "meaning": FAULTS[finding.kind],
            "file": self.relative(finding.file),
            "entry": finding.entry,
            "problem": finding.problem,
            "split": finding.split,
            "image": self.relative(image) if image else "",
        }
