from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from paddle_tk.data.boxes import DetectionSplit
from paddle_tk.data.bundle import DatasetBundle, FileSplit
from paddle_tk.data.shard_index import INDEX, SUMS
from paddle_tk.data.shard_split import ShardBoxSplit
from paddle_tk.data.shards import ShardSettings, write_shards
from paddle_tk.errors import BadInput, DataError
from tests.data.detection_sets import coco_root, load, picture
from tests.data.shard_sets import SMALL, load_shards, numbered, sharded


def folder_bundle(root: Path, count: int = 6) -> DatasetBundle:
    paths = [picture(root / "pics" / "ab"[i % 2] / f"{i}.jpg", level=20 * i + 5) for i in range(count)]
    split = FileSplit(paths, np.arange(count, dtype=np.int64) % 2)
    return DatasetBundle("pics", "classification", dict.fromkeys(("train", "val", "test"), split), ("a", "b"), "s", "l",
                         "0")  # fmt: skip


def test_write_shards_keeps_pixels_labels_and_names_when_images_are_in_memory(tmp_path: Path) -> None:
    bundle = numbered()
    index = sharded(tmp_path / "s", bundle)
    assert [shard.rows for shard in index.splits["train"]] == [150, 150, 100]
    assert all(len(shard.groups) > 1 for shard in index.splits["train"])
    found = load_shards(tmp_path / "s")
    for name, split in found.splits.items():
        own = bundle.splits[name]
        for row in range(len(split)):
            index_there = split.labels[row] - own.labels[0]
            assert split.name(row) == own.name(index_there)
            np.testing.assert_array_equal(split.image(row), own.image(index_there))
    assert np.array_equal(found.splits["val"].labels, bundle.splits["val"].labels)
    assert (found.classes, found.kind, found.licence) == (bundle.classes, "classification", "none")


def test_write_shards_keeps_image_files_byte_for_byte_and_names_without_their_place(tmp_path: Path) -> None:
    bundle = folder_bundle(tmp_path)
    sharded(tmp_path / "s", bundle, ShardSettings(order="given"))
    split = load_shards(tmp_path / "s").splits["train"]
    for row in range(len(split)):
        assert split.payload(row).tobytes() == Path(bundle.splits["train"].name(row)).read_bytes()
    assert [split.name(row) for row in range(3)] == ["a/0.jpg", "b/1.jpg", "a/2.jpg"]
    assert str(tmp_path).encode() not in (tmp_path / "s" / "train-00000-of-00001.parquet").read_bytes()


def test_write_shards_keeps_every_annotation_when_images_have_boxes(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco"))
    sharded(tmp_path / "s", bundle, ShardSettings(order="given", compression="zstd"))
    found = load_shards(tmp_path / "s")
    for name, split in found.splits.items():
        own = bundle.splits[name]
        assert isinstance(own, DetectionSplit)
        assert isinstance(split, ShardBoxSplit)
        assert np.array_equal(split.labels, own.labels)
        assert np.array_equal(split.sizes, own.sizes)
        for row in range(len(split)):
            for field, value in vars(own.boxes(row)).items():
                np.testing.assert_array_equal(getattr(split.boxes(row), field), value)


def test_write_shards_gives_equal_bytes_when_it_runs_again_in_another_place(tmp_path: Path) -> None:
    first, second = sharded(tmp_path / "one" / "s"), sharded(tmp_path / "two" / "s")
    assert first == second
    for file in first.files:
        assert (tmp_path / "one" / "s" / file).read_bytes() == (tmp_path / "two" / "s" / file).read_bytes()
    other = sharded(tmp_path / "three", settings=ShardSettings(rows_per_shard=150, group_mb=0.02, seed=1))
    assert other.content_sha256 != first.content_sha256


def test_write_shards_writes_what_other_tools_read(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path / "s", capture_output=True, check=False)
    assert done.returncode == 0
    table = pq.read_table(tmp_path / "s" / index.splits["train"][0].file)
    assert table.column_names == ["image", "label", "name", "height", "width"]
    assert table["height"].to_pylist() == [8] * 150
    said = json.loads(table.schema.metadata[b"paddle_tk"])
    assert (said["dataset"], said["task"], said["split"], said["source"]) == (
        "numbered",
        "classification",
        "train",
        "made here",
    )
    assert json.loads((tmp_path / "s" / INDEX).read_text())["order"]["train"] == "shuffled, seed 0"


def test_write_shards_shuffles_train_only_and_keeps_the_order_when_asked(tmp_path: Path) -> None:
    shuffled, given = tmp_path / "shuffled", tmp_path / "given"
    sharded(shuffled)
    sharded(given, settings=ShardSettings(order="given"))
    assert load_shards(given).splits["train"].labels.tolist() == list(range(400))
    labels = load_shards(shuffled).splits["train"].labels.tolist()
    assert labels != sorted(labels)
    assert sorted(labels) == list(range(400))
    assert load_shards(shuffled).splits["test"].labels.tolist() == list(range(7, 21))


def test_write_shards_cuts_anew_when_it_reads_shards(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    sharded(tmp_path / "t", load_shards(tmp_path / "s"), ShardSettings(rows_per_shard=64, order="given"))
    before, after = load_shards(tmp_path / "s").splits["train"], load_shards(tmp_path / "t").splits["train"]
    assert np.array_equal(before.labels, after.labels)
    assert all(before.payload(row).tobytes() == after.payload(row).tobytes() for row in range(0, 400, 37))


def test_write_shards_names_the_image_when_it_cannot_be_read(tmp_path: Path) -> None:
    bundle = folder_bundle(tmp_path)
    Path(bundle.splits["train"].name(3)).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.jpg cannot be decoded"):
        sharded(tmp_path / "s", bundle)
    Path(bundle.splits["train"].name(3)).unlink()
    with pytest.raises(DataError, match=r"3\.jpg cannot be read"):
        write_shards(bundle, tmp_path / "s", SMALL)


def test_write_shards_refuses_an_annotation_of_another_size(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco"))
    picture(Path(bundle.splits["train"].name(0)), width=50)
    with pytest.raises(DataError, match=r"says 40x30 px, but .* is 50x30 px"):
        sharded(tmp_path / "s", bundle)


@pytest.mark.parametrize("wrong", [{"shard_mb": 0}, {"group_mb": -1}, {"rows_per_shard": 0}])
def test_shard_settings_refuse_what_cuts_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        ShardSettings(**wrong)  # type: ignore[arg-type]
