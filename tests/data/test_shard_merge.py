from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from paddle_tk.data.shard_check import check_shards
from paddle_tk.data.shard_merge import merge_shards
from paddle_tk.errors import DataError
from tests.data.detection_sets import coco_root, load
from tests.data.shard_sets import load_shards, numbered, sharded


def test_merge_shards_makes_one_dataset_of_parts_that_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("b", "a"):
        sharded(tmp_path / name)
    before = (tmp_path / "a" / "index.json").read_bytes()
    merged = merge_shards(tmp_path)
    assert [shard.file.partition("/")[0] for shard in merged.splits["train"]] == ["a"] * 3 + ["b"] * 3
    assert (tmp_path / "a" / "index.json").read_bytes() == before
    whole, part = load_shards(tmp_path), load_shards(tmp_path / "a")
    assert {name: len(split) for name, split in whole.splits.items()} == {"train": 800, "val": 14, "test": 28}
    assert whole.splits["train"].labels.tolist() == part.splits["train"].labels.tolist() * 2
    assert check_shards(str(tmp_path)).good
    (tmp_path / "b" / "left.parquet").write_bytes(b"")
    assert check_shards(str(tmp_path)).extra == ("b/left.parquet",)


def test_merge_shards_is_read_from_a_url_as_well(tmp_path: Path) -> None:
    sharded(tmp_path / "a")
    index = merge_shards(tmp_path)
    system = fsspec.filesystem("memory")
    for file in index.files:
        system.pipe_file(f"/merged/{file}", (tmp_path / file).read_bytes())
    assert load_shards("memory://merged").splits["train"].name(0) == load_shards(tmp_path).splits["train"].name(0)


def test_merge_shards_refuses_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no sub-folder with shards"):
        merge_shards(tmp_path)
    sharded(tmp_path / "a")
    sharded(tmp_path / "b", numbered(401))
    with pytest.raises(DataError, match="b has other classes than"):
        merge_shards(tmp_path)
    sharded(tmp_path / "c", load("coco", coco_root(tmp_path / "in" / "coco")))
    with pytest.raises(DataError, match="c has other kind than"):
        merge_shards(tmp_path, ["a", "c"])
    assert merge_shards(tmp_path, ["b"]).kind == "classification"
