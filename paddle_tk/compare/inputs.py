"""What both frameworks start from, as it lies in a folder: the same bytes for either. NumPy only, no framework."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddle_tk.errors import ArtifactError
from paddle_tk.files import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from paddle_tk.data.boxes import AnnotatedSplit, DetectionSplit

Array = np.ndarray[Any, Any]
PLAN, WEIGHTS = "plan.json", "initial.safetensors"
TRAIN, VAL, TEST = "train", "val", "test"
_AGAIN = "prepare the inputs again: start the comparison anew"


@dataclass(frozen=True)
class Plan:
    """How the networks are built and trained; of JSON types.

    Attributes:
        kind: "classification" or "detection".
        model: "name", "num_classes", "stem" (resolved; None for a detector), "image_size" (height, width in pixels),
            "dropout", "activation".
        optimizer: The keywords of ``training.optim.build_optimizer`` with "name"; "clip_norm" None: no clipping.
        schedule: The keywords of ``training.schedule.learning_rate_factor``.
        label_smoothing: Of the cross-entropy.
        epochs: Whose batches are there; also the length of the schedule.
        batches_per_epoch: Training batches of an epoch.
        batch_size: Images per batch; the last one of an epoch may be smaller.
        epoch_images: Training images of an epoch.
        precision: "fp32".
        classes: Class names in the order of the ids.
        metric: "top1" or "map50_95".
        preprocessing: As a manifest holds it.
        postprocessing: As a manifest holds it; empty for a classifier.
        seed: Of weights, order and augmentation.
        kernels: "fast_conv" and "fast_depthwise": whether Paddle trains with the toolkit's own kernels on a CPU.
        dataset: "name" and "fingerprint".
    """

    kind: str
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    label_smoothing: float
    epochs: int
    batches_per_epoch: int
    batch_size: int
    epoch_images: int
    precision: str
    classes: tuple[str, ...]
    metric: str
    preprocessing: Mapping[str, Any]
    postprocessing: Mapping[str, Any]
    seed: int
    kernels: Mapping[str, Any]
    dataset: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return dict(json.loads(json.dumps(asdict(self))))

    def batch_images(self, step: int) -> int:
        """Returns how many images batch ``step`` of an epoch has."""
        return min(self.batch_size, self.epoch_images - step * self.batch_size)

    @property
    def whole_batches(self) -> list[int]:
        """The places, over all epochs, of the batches that are full."""
        per_epoch = [s for s in range(self.batches_per_epoch) if self.batch_images(s) == self.batch_size]
        return [epoch * self.batches_per_epoch + step for epoch in range(self.epochs) for step in per_epoch]


@dataclass(frozen=True)
class EvalImages:
    """A split that is evaluated, in its order.

    Attributes:
        images: float32 (N, 3, H, W), mapped from disk.
        labels: int64 (N,), or targets float32 (N, M, 5) as ``data.box_batches.pad_targets`` makes them.
        batch_size: Images per batch; the last may be smaller.
        split: What is annotated, for a detector; its pictures themselves are not there.
    """

    images: Array
    labels: Array
    batch_size: int
    split: DetectionSplit | None = None

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def batches(self) -> Iterator[tuple[Array, Array]]:
        """Yields copies of (images, labels)."""
        for first in range(0, len(self.images), self.batch_size):
            rows = slice(first, first + self.batch_size)
            yield np.array(self.images[rows]), trimmed(self.labels[rows])

    def first(self, count: int) -> EvalImages:
        """Returns the first images as a set of its own."""
        return EvalImages(self.images[:count], self.labels[:count], self.batch_size, self.split)


@dataclass(frozen=True)
class SharedInputs:
    """The folder that every process of a comparison reads.

    Attributes:
        folder: Holds ``plan.json``, ``initial.safetensors`` (Paddle's names) and the batches as ``.npy``.
        plan: What is built and trained.
        files: Bytes and SHA-256 of every file, by name.
        sha256: Of plan and files together.
    """

    folder: Path
    plan: Plan
    files: Mapping[str, Mapping[str, Any]]
    sha256: str

    @property
    def weights(self) -> Path:
        """The initial weights."""
        return self.folder / WEIGHTS

    @cached_property
    def _train(self) -> tuple[Array, Array]:
        return self._mapped(f"{TRAIN}_images"), self._mapped(f"{TRAIN}_labels")

    def train_batch(self, place: int) -> tuple[Array, Array]:
        """Returns copies of the images and labels of a training batch.

        Args:
            place: Of the batch over all epochs, from 0.
        """
        images, labels = self._train
        count = self.plan.batch_images(place % self.plan.batches_per_epoch)
        return np.array(images[place, :count]), trimmed(labels[place, :count])

    def eval_images(self, split: str) -> EvalImages:
        """Returns the "val" or the "test" split."""
        images, labels = self._mapped(f"{split}_images"), self._mapped(f"{split}_labels")
        truth = self.folder / truth_name(split)
        boxes = read_truth(truth) if self.plan.kind == "detection" else None
        return EvalImages(images, labels, self.plan.batch_size, boxes)

    def _mapped(self, name: str) -> Array:
        return np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="r"))


def trimmed(labels: Array) -> Array:
    """Returns a copy of a batch's labels; of targets without the rows that no image of the batch needs."""
    if labels.ndim == 1:
        return np.array(labels)
    longest = int((labels[:, :, 0] >= 0).sum(axis=1).max(initial=0))
    return np.array(labels[:, : max(1, longest)])


def truth_name(split: str) -> str:
    """Returns the file that holds a split's annotations."""
    return f"{split}_truth.npz"


def write_truth(split: AnnotatedSplit, path: Path, count: int) -> None:
    """Writes what is annotated in a split's first images."""
    rows = [split.boxes(index) for index in range(count)]
    columns = {f.name: np.concatenate([getattr(r, f.name) for r in rows]) for f in fields(rows[0])}
    np.savez(path, counts=np.array([len(r) for r in rows], np.int64), sizes=split.sizes[:count], **columns)


def read_truth(path: Path) -> DetectionSplit:
    """Reads it back, as a split whose pictures are not there."""
    from paddle_tk.data.boxes import Boxes, DetectionSplit

    with np.load(path) as found:
        counts, sizes = found["counts"], found["sizes"]
        ends = np.cumsum(counts)[:-1]
        columns = [np.split(found[f.name], ends) for f in fields(Boxes)]
    names = [f"{path.stem} {index}" for index in range(len(counts))]
    return DetectionSplit(names, sizes, [Boxes(*row) for row in zip(*columns, strict=True)])


def inputs_sha256(plan: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the one hash of everything in the folder."""
    return sha256_bytes(canonical_json({"plan": dict(plan), "files": {k: dict(v) for k, v in files.items()}}))


def open_inputs(folder: Path) -> SharedInputs:
    """Opens a folder that ``build_shared_inputs`` wrote; files are checked by name and size, the plan by its hash.

    Raises:
        ArtifactError: Something is missing or was changed.
    """
    try:
        raw = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        plan, files, told = raw["plan"], raw["files"], raw["sha256"]
        opened = SharedInputs(folder, Plan(**{**plan, "classes": tuple(plan["classes"])}), files, told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no inputs of a comparison ({type(error).__name__})", _AGAIN) from error
    if inputs_sha256(plan, files) != told:
        raise ArtifactError(f"{folder / PLAN} was changed after it was written", _AGAIN)
    for name, entry in files.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size != entry["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes, {entry['bytes']} were written"
            raise ArtifactError(f"{folder / name} {found}", _AGAIN)
    return opened
