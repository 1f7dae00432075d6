from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.data.boxes import Boxes, BoxTable, DetectionSplit


def images(seed: int = 0, count: int = 40) -> list[Boxes]:
    rng = np.random.default_rng(seed)
    made = []
    for n in rng.integers(0, 4, count).tolist():
        corner = rng.random((n, 2)) * 10
        boxes = np.hstack([corner, corner + 1 + rng.random((n, 2))])
        made.append(Boxes.make(boxes, rng.integers(0, 6, n), crowd=rng.random(n) < 0.5, areas=rng.random(n)))
    return made


def same(one: Boxes, other: Boxes) -> bool:
    return all(
        getattr(one, name).dtype == getattr(other, name).dtype
        and np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("xyxy", "class_ids", "crowd", "difficult", "areas")
    )


def rarest(every: list[Boxes]) -> list[int]:
    """The labels as they are defined: per image the class that is rarest in the split, the lower id among equals."""
    counts = np.bincount(np.concatenate([boxes.class_ids for boxes in every]), minlength=6).tolist()
    return [min(b.class_ids.tolist(), key=lambda i: (counts[i], i)) if len(b) else -1 for b in every]


def test_box_table_gives_back_the_boxes_of_each_image() -> None:
    made = images()
    table = BoxTable.of(made)
    assert len(table) == 40
    assert all(same(table[i], made[i]) for i in range(40))
    assert all(same(one, other) for one, other in zip(table, made, strict=True))
    assert same(table[-1], made[-1])
    assert table.counts().tolist() == [len(boxes) for boxes in made]
    assert np.shares_memory(table[3].xyxy, table.every.xyxy) or not len(table[3])
    with pytest.raises(IndexError):
        table[40]


def test_box_table_takes_images_in_any_order_without_copying_boxes() -> None:
    made = images()
    order = np.random.default_rng(1).permutation(40)[:25]
    part = BoxTable.of(made).take(order)
    assert all(same(part[i], made[order[i]]) for i in range(25))
    assert same(part.merged(), BoxTable.of([made[i] for i in order]).every)
    assert part.counts().tolist() == [len(made[i]) for i in order]
    again = part.take(np.array([3, 3, 0]))
    assert [same(again[i], made[order[j]]) for i, j in enumerate((3, 3, 0))] == [True] * 3
    assert same(part[2:4].merged(), BoxTable.of([made[order[2]], made[order[3]]]).every)
    assert len(part.take(np.array([], np.int64)).merged()) == 0


def test_box_table_holds_when_there_are_no_images_or_no_boxes() -> None:
    assert len(BoxTable.of([])) == 0
    empty = BoxTable.of([Boxes.make([], [])] * 3)
    assert empty.counts().tolist() == [0, 0, 0]
    assert empty[1].xyxy.shape == (0, 4)


@pytest.mark.parametrize("starts", [np.array([0, 3]), np.array([0, 2], np.int32), np.array([], np.int64)])
def test_box_table_refuses_starts_that_do_not_fit(starts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="starts must be int64"):
        BoxTable(Boxes.make([[0, 0, 1, 1]] * 2, [0, 0]), starts)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_the_rarest_class_of_each_image_in_the_split_or_a_part_of_it(seed: int) -> None:
    made = images(seed)
    split = DetectionSplit([f"{i}.png" for i in range(40)], np.ones((40, 2)), made)
    assert split.labels.tolist() == rarest(made)
    order = np.random.default_rng(seed).permutation(40)[:15]
    part = split.subset(order)
    assert part.labels.tolist() == rarest([made[i] for i in order])
    assert part.labels.dtype == np.int64
    assert list(part.paths) == [f"{i}.png" for i in order]


def test_labels_are_minus_one_when_nothing_is_annotated() -> None:
    split = DetectionSplit(["a", "b"], np.ones((2, 2)), [Boxes.make([], [])] * 2)
    assert split.labels.tolist() == [-1, -1]
