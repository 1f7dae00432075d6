from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddle_tk.data.balance import (
    ClassStatistics,
    class_statistics,
    class_weights,
    plan_balance,
    recommend,
    recommend_for,
    repeat_factors,
)
from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import ArraySplit
from paddle_tk.errors import BadInput
from tests.data.shard_sets import load_shards, numbered, sharded

CLASSES = ("a", "b", "c", "d")


def _labelled(*counts: int) -> ArraySplit:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return ArraySplit(np.zeros((len(labels), 2, 2, 3), np.uint8), labels, [""] * len(labels))


def _boxed(*ids: tuple[int, ...]) -> DetectionSplit:
    boxes = [Boxes.make([[0, 0, 4, 4]] * len(own), own) for own in ids]
    return DetectionSplit([Path(f"{i}.png") for i in range(len(ids))], np.full((len(ids), 2), 8), boxes)


def test_statistics_count_images_of_each_class() -> None:
    found = class_statistics(_labelled(60, 30, 0, 10), CLASSES)
    assert (found.images, found.boxes, found.total, found.absent) == ((60, 30, 0, 10), (), 100, ("c",))
    assert found.ratio == 6
    shares = np.array([0.6, 0.3, 0.1])
    assert found.evenness == pytest.approx(-(shares * np.log(shares)).sum() / np.log(4))
    said = found.to_dict()
    assert said["per_class"]["b"] == {
        "images": 30,
        "share": 0.3,
        "effective_number": pytest.approx((1 - 0.999**30) / 0.001),
    }


def test_statistics_count_images_and_boxes_when_there_are_boxes() -> None:
    found = class_statistics(_boxed((0, 0, 1), (0,), (), (3,)), CLASSES)
    assert (found.images, found.boxes, found.total) == ((2, 1, 0, 1), (3, 1, 0, 1), 4)
    assert found.to_dict()["per_class"]["a"]["boxes"] == 3


@pytest.mark.parametrize(
    ("kind", "images", "wanted"),
    [
        ("classification", (100, 50), "none"),
        ("classification", (101, 50), "class_weights"),
        ("classification", (500, 50, 0), "class_weights"),
        ("classification", (501, 50), "balanced_sampler"),
        ("detection", (100, 50), "none"),
        ("detection", (5000, 50), "oversample"),
        ("classification", (0, 0), "none"),
    ],
)
def test_auto_decides_by_the_ratio_of_the_classes(kind: str, images: tuple[int, ...], wanted: str) -> None:
    method, reason = recommend(ClassStatistics(kind, CLASSES[: len(images)], images, (), sum(images)))
    assert method == wanted
    assert "times the images of the smallest" in reason


@pytest.mark.parametrize(
    ("method", "wanted"),
    [("oversample", [95, 95, 95]), ("undersample", [2, 2, 2]), ("balanced_sampler", [34, 33, 33])],
)
def test_sampling_shows_classes_equally_often(method: str, wanted: list[int]) -> None:
    split = _labelled(95, 2, 3)
    plan = plan_balance(split, CLASSES[:3], method)
    assert plan.order is not None
    images = plan.order.draws(0, 0) % len(split)
    assert np.bincount(split.labels[images]).tolist() == wanted
    assert (plan.class_weights, plan.focal_gamma) == ((), 0.0)
    assert plan.to_dict()["images_per_epoch"] == sum(wanted)
    assert plan.line().startswith(f"balance: {method} (data.balance={method}): ")


def test_auto_says_what_it_did() -> None:
    plan = plan_balance(_labelled(95, 2, 3), CLASSES[:3], "auto")
    assert (plan.asked, plan.method, plan.active) == ("auto", "balanced_sampler", True)
    assert "47.5 times" in plan.line()
    assert plan.to_dict()["images"] == {"a": 95, "b": 2, "c": 3}
    even = plan_balance(_labelled(5, 5), CLASSES[:2], "auto")
    assert (even.method, even.active, even.order) == ("none", False, None)


@pytest.mark.parametrize("weighting", ["inverse", "effective"])
def test_class_weights_keep_the_mean_of_the_loss(weighting: str) -> None:
    images = (950, 20, 30, 0)
    weights = class_weights(images, weighting)  # type: ignore[arg-type]
    assert sum(w * n for w, n in zip(weights, images, strict=True)) / 1000 == pytest.approx(1.0)
    assert weights[1] > weights[2] > weights[0] > weights[3] == 0
    amounts = [1 - 0.999**n for n in images[:3]] if weighting == "effective" else images[:3]
    assert weights[1] / weights[0] == pytest.approx(amounts[0] / amounts[1])


def test_weights_and_focus_leave_the_order_alone() -> None:
    weighted = plan_balance(_labelled(8, 2), CLASSES[:2], "class_weights", weighting="inverse")
    assert (weighted.order, weighted.class_weights) == (None, (0.625, 2.5))
    focal = plan_balance(_labelled(8, 2), CLASSES[:2], "focal", gamma=1.5)
    assert (focal.order, focal.class_weights, focal.focal_gamma) == (None, (), 1.5)
    assert plan_balance(_labelled(8, 2), CLASSES[:2], "none", gamma=1.5).focal_gamma == 0


def test_repeat_factors_follow_the_rarest_class_of_an_image() -> None:
    split = _boxed(*[(0,)] * 16, *[(0, 1)] * 3, (1, 2), ())
    found = class_statistics(split, CLASSES)
    shares = np.array([19, 4, 1]) / 21
    factors = repeat_factors(split, found, None)
    assert factors[:19].tolist() == [1.0] * 19
    assert factors[19] == pytest.approx(np.sqrt(shares[1] / shares[2]))
    assert factors[20] == 1.0
    given = repeat_factors(split, found, 0.5)
    assert given[16] == pytest.approx(np.sqrt(0.5 / shares[1]))
    plan = plan_balance(split, CLASSES, "auto")
    assert plan.order is not None
    assert (plan.method, len(plan.order)) == ("oversample", 22)


def test_balanced_sampler_keeps_the_share_of_images_without_boxes() -> None:
    split = _boxed(*[(0,)] * 12, *[(1,)] * 4, *[()] * 5)
    order = plan_balance(split, CLASSES, "balanced_sampler").order
    assert order is not None
    labels = split.labels[order.draws(0, 0) % len(split)]
    assert [int((labels == label).sum()) for label in (-1, 0, 1)] == [5, 8, 8]


@pytest.mark.parametrize("method", ["undersample", "class_weights", "focal"])
def test_detection_refuses_what_needs_one_class_per_image(method: str) -> None:
    with pytest.raises(BadInput, match=rf"data\.balance={method} is for classification"):
        plan_balance(_boxed((0,), (1,)), CLASSES, method)


def test_auto_weighs_the_loss_when_a_stream_cannot_repeat_images(tmp_path: Path) -> None:
    bundle = numbered()
    train = bundle.splits["train"]
    assert isinstance(train, ArraySplit)
    labels = np.where(np.arange(400) < 20, 1, 0)
    unequal = replace(bundle, splits={**bundle.splits, "train": ArraySplit(train.images, labels, train.names)})
    sharded(tmp_path / "s", unequal)
    loaded = load_shards(tmp_path / "s")
    streamed = loaded.splits["train"]
    statistics = class_statistics(streamed, loaded.classes)
    assert (statistics.images[:2], recommend(statistics)[0]) == ((380, 20), "balanced_sampler")
    method, reason = recommend_for(streamed, statistics)
    assert (method, "of a stream only the loss is weighted" in reason) == ("class_weights", True)
    plan = plan_balance(streamed, loaded.classes, "auto")
    assert (plan.method, plan.order) == ("class_weights", None)
    assert plan.class_weights[1] > 5 * plan.class_weights[0] > 0
    with pytest.raises(BadInput, match="balanced_sampler would read the images of a stream at random"):
        plan_balance(streamed, loaded.classes, "balanced_sampler")
