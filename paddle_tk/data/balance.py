"""Unequal classes: statistics, and what to do about them in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paddle_tk.data.box_transforms import BoxedImages
from paddle_tk.data.boxes import DetectionSplit
from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.epoch_order import ClassOrder, EpochOrder, RepeatOrder
from paddle_tk.data.streams import Streamed
from paddle_tk.errors import BadInput

Method = Literal["none", "oversample", "undersample", "class_weights", "focal", "balanced_sampler"]
Weighting = Literal["effective", "inverse"]
METHODS: tuple[Method, ...] = ("none", "oversample", "undersample", "class_weights", "focal", "balanced_sampler")
# A detector's loss already weighs easy negatives down and has no class of an image to go by.
_FOR_STREAMS: tuple[Method, ...] = ("none", "class_weights", "focal")
_FOR_BOXES: tuple[Method, ...] = ("none", "oversample", "balanced_sampler")
BETA = 0.999  # of the effective number of samples, in the middle of the range that Cui et al. tried
EVEN, STEEP = 2.0, 10.0  # the ratios at which "auto" changes its mind
_BACKGROUND = -1


@dataclass(frozen=True)
class ClassStatistics:
    """How many images each class has.

    Attributes:
        kind: "classification" or "detection".
        classes: Class names.
        images: Images of each class; of a detection dataset, images with at least one box of it.
        boxes: Boxes of each class; empty for classification.
        total: All images.
    """

    kind: str
    classes: tuple[str, ...]
    images: tuple[int, ...]
    boxes: tuple[int, ...]
    total: int

    @property
    def ratio(self) -> float:
        """Images of the most frequent class to those of the rarest that has any; 1: all are equal."""
        present = [count for count in self.images if count]
        return max(present) / min(present) if present else 1.0

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without an image."""
        return tuple(name for name, count in zip(self.classes, self.images, strict=True) if not count)

    @property
    def evenness(self) -> float:
        """Entropy of the classes' shares over its maximum, 0..1 (Pielou 1966); 1: all are equal."""
        shares = np.array(self.images, np.float64)
        shares = shares[shares > 0] / max(1.0, shares.sum())
        most = math.log(len(self.classes)) if len(self.classes) > 1 else 0.0
        return float(-(shares * np.log(shares)).sum() / most) if most and len(shares) else 1.0

    def effective(self, beta: float = BETA) -> tuple[float, ...]:
        """Returns each class's effective number of samples, (1 - beta^n) / (1 - beta) (Cui et al. 2019, eq. 2)."""
        return tuple((1 - beta**count) / (1 - beta) for count in self.images)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        rows = zip(self.classes, self.images, self.effective(), strict=True)
        per_class: dict[str, dict[str, Any]] = {
            name: {"images": images, "share": images / max(1, self.total), "effective_number": effective}
            for name, images, effective in rows
        }
        for name, count in zip(self.classes, self.boxes, strict=False):
            per_class[name]["boxes"] = count
        return {
            "kind": self.kind,
            "n": self.total,
            "ratio": self.ratio,
            "evenness": self.evenness,
            "absent": list(self.absent),
            "effective_number_beta": BETA,
            "per_class": per_class,
            "origin": "measured",
        }


def class_statistics(split: ImageSplit | DetectionSplit, classes: tuple[str, ...]) -> ClassStatistics:
    """Counts the classes of a split; no image is decoded."""
    if isinstance(split, Streamed) and not isinstance(split, BoxedImages):
        return _streamed_statistics(split, classes)
    if not isinstance(split, BoxedImages):
        images = np.bincount(split.labels, minlength=len(classes))
        return ClassStatistics("classification", classes, tuple(images.tolist()), (), len(split))
    images, boxes = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    for i in range(len(split)):
        counts = np.bincount(split.boxes(i).class_ids, minlength=len(classes))
        boxes += counts
        images += counts > 0
    return ClassStatistics("detection", classes, tuple(images.tolist()), tuple(boxes.tolist()), len(split))


def _streamed_statistics(split: Streamed, classes: tuple[str, ...]) -> ClassStatistics:
    """Returns the statistics that an index of shards holds; of images with boxes they count the rarest class only."""
    found = split.label_counts()
    counts = tuple(found.get(number, 0) for number in range(len(classes)))
    return ClassStatistics("classification", classes, counts, (), sum(found.values()))


def _check_streamed(split: Streamed, method: str) -> None:
    if isinstance(split, BoxedImages) or method not in _FOR_STREAMS:
        raise BadInput(
            f"data.balance={method} would read the images of a stream at random",
            "use data.balance=none" + ("" if isinstance(split, BoxedImages) else ", class_weights or focal"),
        )


def recommend(statistics: ClassStatistics) -> tuple[Method, str]:
    """Returns what ``data.balance=auto`` does, and why.

    Up to 2 times as many images in the largest class as in the smallest: nothing. Classification: up to 10 times,
    weights in the loss, which cost nothing; beyond, a class-balanced sampler, because most batches would hold no image
    of the rarest class and a large weight would only make its few gradients jump (An et al. 2021, arXiv 2009.13447).
    Detection: repeat-factor sampling.
    """
    ratio = statistics.ratio
    told = f"the largest class has {ratio:.3g} times the images of the smallest"
    if ratio <= EVEN:
        return "none", f"{told}, which is at most {EVEN:g}"
    if statistics.kind == "detection":
        return "oversample", f"{told}, more than {EVEN:g}: images of rare classes are repeated"
    if ratio <= STEEP:
        return "class_weights", f"{told}, more than {EVEN:g} and at most {STEEP:g}: weights in the loss suffice"
    return "balanced_sampler", f"{told}, more than {STEEP:g}: many batches would hold none of the smallest"


@dataclass(frozen=True)
class Balance:
    """What is done about unequal classes in a training.

    Attributes:
        asked: What the config says.
        method: What is done.
        reason: Why.
        statistics: Of the training split.
        order: The order of an epoch's images; None: each once.
        class_weights: Factors of the loss by class; empty: none.
        focal_gamma: Exponent of the focal loss; 0: none.
    """

    asked: str
    method: Method
    reason: str
    statistics: ClassStatistics
    order: EpochOrder | None = None
    class_weights: tuple[float, ...] = ()
    focal_gamma: float = 0.0

    @property
    def active(self) -> bool:
        """Whether anything is done."""
        return self.method != "none"

    def line(self) -> str:
        """Returns what is done, in words."""
        done = {
            "none": "nothing is done",
            "oversample": f"rare images are repeated, {self._length} images an epoch",
            "undersample": f"each class as often as the rarest, {self._length} images an epoch, others in every epoch",
            "class_weights": f"the loss is weighted, {self._span}",
            "focal": f"focal loss with gamma {self.focal_gamma:g}",
            "balanced_sampler": f"each class equally often, {self._length} images an epoch",
        }
        return f"balance: {self.method} ({self.reason}): {done[self.method]}"

    @property
    def _length(self) -> int:
        return self.statistics.total if self.order is None else len(self.order)

    @property
    def _span(self) -> str:
        weights = [w for w, count in zip(self.class_weights, self.statistics.images, strict=False) if count]
        return f"from {min(weights, default=1):.3g} to {max(weights, default=1):.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        statistics = self.statistics
        return {
            "asked": self.asked,
            "method": self.method,
            "reason": self.reason,
            "ratio": statistics.ratio,
            "images": dict(zip(statistics.classes, statistics.images, strict=True)),
            "images_per_epoch": self._length,
            "class_weights": dict(zip(statistics.classes, self.class_weights, strict=False)),
            "focal_gamma": self.focal_gamma,
        }


def recommend_for(split: ImageSplit | DetectionSplit, statistics: ClassStatistics) -> tuple[Method, str]:
    """As ``recommend``; of a stream, what can be done without reading its images at random."""
    method, reason = recommend(statistics)
    if method == "none" or not isinstance(split, Streamed):
        return method, reason
    if isinstance(split, BoxedImages):
        return "none", f"{reason}, which a stream of images with boxes does not allow"
    return "class_weights", reason if method == "class_weights" else f"{reason}; of a stream only the loss is weighted"


def plan_balance(
    split: ImageSplit | DetectionSplit,
    classes: tuple[str, ...],
    asked: str,
    *,
    weighting: Weighting = "effective",
    gamma: float = 2.0,
    threshold: float | None = None,
) -> Balance:
    """Decides what is done about unequal classes.

    Args:
        split: The training split.
        classes: Class names.
        asked: "auto", see ``recommend_for``, or one of ``METHODS``.
        weighting: How class weights follow from the counts, see ``class_weights``.
        gamma: Exponent of the focal loss (Lin et al. 2017, arXiv 1708.02002), above 0.
        threshold: Share of images below which a class's images are repeated, see ``repeat_factors``.

    Raises:
        BadInput: The method is not for detection, or not for a stream.
    """
    statistics = (
        _streamed_statistics(split, classes) if isinstance(split, Streamed) else class_statistics(split, classes)
    )
    method, reason = recommend_for(split, statistics) if asked == "auto" else (_known(asked), f"data.balance={asked}")
    if statistics.kind == "detection" and method not in _FOR_BOXES:
        raise BadInput(
            f"data.balance={method} is for classification: an image with boxes has no one class",
            "use data.balance=oversample (repeat-factor sampling), balanced_sampler or auto",
        )
    if isinstance(split, Streamed) and method != "none":
        _check_streamed(split, method)
    order = _order(split, statistics, method, threshold)
    weights = class_weights(statistics.images, weighting) if method == "class_weights" else ()
    return Balance(asked, method, reason, statistics, order, weights, gamma if method == "focal" else 0.0)


def _known(asked: str) -> Method:
    for method in METHODS:
        if method == asked:
            return method
    raise ValueError(f"unknown method {asked!r}")


def _order(
    split: ImageSplit | DetectionSplit, statistics: ClassStatistics, method: Method, threshold: float | None
) -> EpochOrder | None:
    if isinstance(split, DetectionSplit) and method == "oversample":
        return RepeatOrder(repeat_factors(split, statistics, threshold))
    if method not in ("oversample", "undersample", "balanced_sampler"):
        return None
    labels = split.labels
    found, counts = np.unique(labels, return_counts=True)
    sizes = dict(zip(found.tolist(), counts.tolist(), strict=True))
    background = sizes.pop(_BACKGROUND, 0)  # images without boxes keep their share
    wanted = _wanted(sizes, method, len(labels) - background)
    return ClassOrder(labels, wanted | ({_BACKGROUND: background} if background else {}))


def _wanted(sizes: Mapping[int, int], method: Method, total: int) -> dict[int, int]:
    if method == "oversample":
        return dict.fromkeys(sizes, max(sizes.values()))
    if method == "undersample":
        return dict.fromkeys(sizes, min(sizes.values()))
    each, more = divmod(total, len(sizes))
    return {label: each + (place < more) for place, label in enumerate(sizes)}


def class_weights(images: tuple[int, ...], weighting: Weighting) -> tuple[float, ...]:
    """Returns a factor of the loss for each class, scaled so that its mean over the images is 1.

    "inverse": 1 / n. "effective": 1 / the effective number of samples (Cui et al. 2019, arXiv 1901.05555, eq. 3). There
    the weights sum to the number of classes; with unequal classes that would shrink the loss, and with it the learning
    rate, by as much as the classes are unequal. A class without images gets 0.

    Args:
        images: Images of each class.
        weighting: The formula.
    """
    counts = np.array(images, np.float64)
    amounts = counts if weighting == "inverse" else (1 - BETA**counts) / (1 - BETA)
    raw = np.divide(1.0, amounts, out=np.zeros_like(counts), where=counts > 0)
    mean = float((raw * counts).sum() / max(1.0, counts.sum()))
    return tuple((raw / mean).tolist()) if mean else tuple(raw.tolist())


def repeat_factors(split: DetectionSplit, statistics: ClassStatistics, threshold: float | None) -> np.ndarray:
    """Returns how often each image is shown in an epoch, float64 (n,), at least 1.

    r(image) = max over its classes of max(1, sqrt(t / f)), with f the share of images that have the class (Gupta et al.
    2019, arXiv 1908.03195, section 4.1). The published t is 0.001, for 1,203 classes in 57,000 images; None takes the
    median class's share, which says the same of any dataset: rarer than the middle is repeated.

    Args:
        split: The images.
        statistics: Of the split.
        threshold: t, above 0 and at most 1; None: the median of f over the classes that occur.
    """
    shares = np.array(statistics.images, np.float64) / max(1, statistics.total)
    present = shares > 0
    t = float(np.median(shares[present])) if threshold is None and present.any() else (threshold or 0.0)
    factors = np.ones(len(shares))
    factors[present] = np.maximum(1.0, np.sqrt(t / shares[present]))
    return np.array(
        [factors[ids].max() if len(ids := split.boxes(i).class_ids) else 1.0 for i in range(len(split))], np.float64
    )
