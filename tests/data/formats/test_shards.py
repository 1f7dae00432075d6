from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddle_tk.data.balance import plan_balance
from paddle_tk.data.box_transforms import BoxedImages
from paddle_tk.data.boxes import AnnotatedSplit
from paddle_tk.data.bundle import DatasetBundle, label_range
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.shard_split import ShardSplit
from paddle_tk.data.streams import Streamed
from paddle_tk.errors import BadInput, DataError
from tests.data.detection_sets import coco_root, load
from tests.data.shard_sets import SMALL, load_shards, numbered, sharded


def test_load_shards_reads_the_index_and_no_image(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    bundle = load_shards(tmp_path / "s")
    assert (bundle.name, bundle.kind, len(bundle.classes)) == ("shards", "classification", 400)
    assert bundle.source == "made here (shards of numbered)"
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 400, "val": 7, "test": 14}
    for split in bundle.splits.values():
        assert isinstance(split, ShardSplit)
        assert isinstance(split, Streamed)
        assert not isinstance(split, BoxedImages)
        assert split.rows.groups_read == 0
        assert "labels" not in vars(split)
    assert label_range(bundle.splits["test"]) == (7, 20)


def test_load_shards_finds_boxes_when_there_are_any(tmp_path: Path) -> None:
    sharded(tmp_path / "s", load("coco", coco_root(tmp_path / "coco")))
    bundle = load_shards(tmp_path / "s")
    assert (bundle.kind, bundle.classes) == ("detection", ("cat", "dog"))
    assert isinstance(bundle.splits["train"], AnnotatedSplit)


def test_load_shards_has_one_fingerprint_for_one_content(tmp_path: Path) -> None:
    sharded(tmp_path / "one")
    sharded(tmp_path / "two", workers=2)
    sharded(tmp_path / "other", numbered(401))
    prints = [load_shards(tmp_path / name).fingerprint for name in ("one", "two", "other")]
    assert prints[0] == prints[1] != prints[2]


def test_load_shards_keeps_a_stratified_subset_of_train_when_max_samples_is_given(tmp_path: Path) -> None:
    digits = load("digits", None)
    sharded(tmp_path / "s", digits, SMALL)
    whole = load_shards(tmp_path / "s")
    part = load_dataset("shards", root=str(tmp_path / "s"), val_fraction=0.1, test_fraction=0.2, split_seed=0,
                        max_samples=100)  # fmt: skip
    assert np.abs(np.bincount(part.splits["train"].labels) - 10).max() <= 1
    assert len(part.splits["test"]) == len(whole.splits["test"])
    assert part.fingerprint != whole.fingerprint


def test_load_shards_looks_under_the_home_when_no_root_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path))
    sharded(tmp_path / "datasets" / "shards")
    bundle: DatasetBundle = load_dataset("shards", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    assert len(bundle.splits["train"]) == 400
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"datasets/shards/index\.json cannot be read"):
        load_dataset("shards", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)


def test_shards_are_balanced_by_the_counts_of_their_index_and_never_read_at_random(tmp_path: Path) -> None:
    digits = load("digits", None)
    sharded(tmp_path / "s", digits, SMALL)
    split, classes = load_shards(tmp_path / "s").splits["train"], digits.classes
    assert isinstance(split, ShardSplit)
    for asked in ("none", "class_weights", "focal"):
        there, here = plan_balance(split, classes, asked), plan_balance(digits.splits["train"], classes, asked)
        assert (there.statistics.images, there.class_weights) == (here.statistics.images, here.class_weights)
    assert "labels" not in vars(split)
    with pytest.raises(BadInput, match=r"balanced_sampler would read .* at random. Fix: .* class_weights or focal"):
        plan_balance(split, classes, "balanced_sampler")
    sharded(tmp_path / "boxes", load("coco", coco_root(tmp_path / "coco")))
    boxes = load_shards(tmp_path / "boxes").splits["train"]
    assert plan_balance(boxes, ("cat", "dog"), "none").order is None
    with pytest.raises(BadInput, match=r"use data\.balance=none$"):
        plan_balance(boxes, ("cat", "dog"), "oversample")
