from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paddle_tk.data.shard_check import ShardReport, check_shards
from paddle_tk.data.shard_index import INDEX, Shard
from paddle_tk.data.shards import ShardSettings
from paddle_tk.files import canonical_json, sha256_bytes, sha256_file
from tests.data.detection_sets import coco_root, load
from tests.data.shard_sets import sharded

Change = Callable[[pa.Table], pa.Table]


def told(report: ShardReport) -> list[str]:
    return [problem for _, problem in report.problems]


def rewrite(root: Path, shard: Shard, change: Change) -> None:
    """Writes a shard with other content and signs it anew, as a careless tool would."""
    path = root / shard.file
    pq.write_table(change(pq.read_table(path)), path, compression="snappy", row_group_size=shard.rows,
                   use_dictionary=False)  # fmt: skip
    raw = json.loads((root / INDEX).read_text())
    entry = next(one for one in raw["splits"]["train"] if one["file"] == shard.file)
    entry.update(sha256=sha256_file(path), bytes=path.stat().st_size)
    body = {key: value for key, value in raw.items() if key != "sha256"}
    (root / INDEX).write_text(json.dumps({**body, "sha256": sha256_bytes(canonical_json(body))}))


def replaced(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    return table.set_column(table.column_names.index(column), field, pa.array(values, field.type))


def test_check_shards_finds_nothing_when_shards_are_whole(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    report = check_shards(str(tmp_path / "s"))
    assert report.good
    assert (report.shards, report.rows, report.decoded) == (5, 421, 421)
    assert report.size_bytes == sum((tmp_path / "s" / file).stat().st_size for file in index.files[2:])


def test_check_shards_finds_files_that_are_cut_changed_missing_or_unknown(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    first, second, third = (tmp_path / "s" / shard.file for shard in index.splits["train"])
    first.write_bytes(first.read_bytes()[:-9])
    content = bytearray(second.read_bytes())
    content[index.splits["train"][1].groups[0][1] + 300] ^= 1
    second.write_bytes(content)
    third.unlink()
    (tmp_path / "s" / "train-00003-of-00003.parquet").write_bytes(b"left over")
    report = check_shards(str(tmp_path / "s"))
    found = {path.name: [p for file, p in report.problems if file == path.name] for path in (first, second, third)}
    assert found[first.name][0].startswith(f"it has {first.stat().st_size} bytes, the index says")
    assert "cannot be read as Parquet" in found[first.name][1]
    assert found[second.name][0] == "its SHA-256 is not the index's"
    assert "cannot be read: No such file" in found[third.name][0]
    assert report.extra == ("train-00003-of-00003.parquet",)
    assert not report.good


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: replaced(t, "image", 2, b"no image"), "the image cannot be decoded"),
        (lambda t: replaced(t, "height", 2, 9), "the image is 8x8 px, its row says 8x9"),
        (lambda t: replaced(t, "label", 2, 400), "label 400, but there are 400 classes"),
        (lambda t: t.slice(1), "it has 99 rows, the index says 100"),
        (lambda t: t.drop_columns(["name"]), "its columns are image, label, height, width, not those of"),
    ],
)
def test_check_shards_finds_rows_that_are_wrong_under_a_right_checksum(
    tmp_path: Path, change: Change, problem: str
) -> None:
    index = sharded(tmp_path / "s")
    rewrite(tmp_path / "s", index.splits["train"][2], change)
    assert any(problem in line for line in told(check_shards(str(tmp_path / "s"))))


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("xyxy", [1.0, 2.0, 1.0, 9.0], "1 box(es) are not inside the image, or have no area"),
        ("xyxy", [1.0, 2.0, float("nan"), 9.0], "1 box(es) are not inside the image, or have no area"),
        ("xyxy", [1.0, 2.0, 99.0, 9.0], "1 box(es) are not inside the image, or have no area"),
        ("class_ids", [2], "a box of class 2, but there are 2 classes"),
        ("class_ids", [0, 1], "its boxes are not whole: class_ids must be int64 (1,), got int64 (2,)"),
        ("class_ids", [0, 1], "it has 9 boxes, the index says 8"),
    ],
)
def test_check_shards_finds_boxes_that_are_wrong(tmp_path: Path, column: str, value: object, problem: str) -> None:
    bundle = load("coco", coco_root(tmp_path / "coco"))
    assert len(bundle.splits["train"]) == 7
    index = sharded(tmp_path / "s", bundle, ShardSettings())
    assert check_shards(str(tmp_path / "s")).good
    boxes = index.splits["train"][0].boxes
    rewrite(tmp_path / "s", index.splits["train"][0], lambda table: replaced(table, column, 2, value))
    wanted = problem.replace("9 boxes", f"{boxes + 1} boxes").replace("says 8", f"says {boxes}")
    assert any(wanted in line for line in told(check_shards(str(tmp_path / "s"))))


def test_check_shards_finds_labels_that_are_not_those_of_the_index(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    raw = json.loads((tmp_path / "s" / INDEX).read_text())
    raw["labels"]["train"]["3"] += 1
    body = {key: value for key, value in raw.items() if key != "sha256"}
    (tmp_path / "s" / INDEX).write_text(json.dumps({**body, "sha256": sha256_bytes(canonical_json(body))}))
    report = check_shards(str(tmp_path / "s"))
    assert report.problems == ((INDEX, "its counts of the labels of train are not those of the shards"),)


def test_check_shards_tells_the_first_problems_and_counts_the_rest(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")

    def broken(table: pa.Table) -> pa.Table:
        field = table.schema.field("image")
        return table.set_column(0, field, pa.array([b"x"] * len(table), field.type))

    rewrite(tmp_path / "s", index.splits["train"][0], broken)
    found = told(check_shards(str(tmp_path / "s")))
    assert len(found) == 21
    assert found[-1].startswith("and 13")
