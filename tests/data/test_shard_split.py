from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddle_tk.data.shard_index import Shard
from paddle_tk.data.shard_split import ShardSplit
from paddle_tk.data.streams import StreamOrders
from paddle_tk.errors import DataError
from tests.data.shard_sets import load_shards, sharded


def train(root: Path) -> ShardSplit:
    split = load_shards(root).splits["train"]
    assert isinstance(split, ShardSplit)
    return split


def test_shard_split_reads_each_group_once_when_rows_come_in_order(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    split = train(tmp_path / "s")
    for row in range(len(split)):
        split.image(row)
    assert split.rows.groups_read == sum(len(shard.groups) for shard in index.splits["train"])
    with pytest.raises(IndexError, match="row 400 of 400"):
        split.image(400)


def test_shard_split_holds_no_more_groups_than_it_has_room_for(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    split = train(tmp_path / "s").holding(2)
    for row in (0, 399, 200, 0, 1):
        split.image(row)
        assert len(split.rows._groups) <= 2
    assert split.rows.groups_read == 4


def test_shard_split_keeps_no_group_whose_images_have_all_been_taken(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    split = train(tmp_path / "s").holding(100)
    groups = sum(len(shard.groups) for shard in index.splits["train"])
    for row in range(len(split)):
        split.labelled(row)
        assert len(split.rows._groups) == 1, "the one that is being read"
    assert split.rows.groups_read == groups
    for row in (0, len(split) - 1, 0):
        split.image(row)  # looking does not take
    assert split.rows.groups_read == groups + 2
    assert len(split.rows._groups) == 2


def test_shard_split_subset_has_the_rows_in_the_order_asked_for(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    split = train(tmp_path / "s")
    rows = np.array([399, 3, 4, 200, 5])
    part = split.subset(rows)
    assert part.labels.tolist() == split.labels[rows].tolist() == [part.labelled(i)[1] for i in range(5)]
    again = part.subset(np.array([4, 0]))
    assert [again.name(i) for i in range(2)] == [split.name(5), split.name(399)]
    # Runs of rows of one group are its blocks; 3 and 4 lie side by side.
    assert part.block_starts.tolist() == [0, 1, 3, 4, 5]
    found = StreamOrders(part, 2, 4).draws(0, 0)
    assert sorted(found[0:5].tolist()) == [0, 1, 2, 3, 4]


def test_shard_split_partner_is_an_image_of_the_same_row_group(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    split = train(tmp_path / "s")
    block = np.searchsorted(split.block_starts, np.arange(400), side="right")
    for row in (0, 57, 399):
        found = [split.partner(row, share) for share in np.linspace(0, 1, 50)]
        assert {int(block[other]) for other in found} == {int(block[row])}
        assert len(set(found)) > 10


def damaged(root: Path, shard: Shard) -> None:
    path = root / shard.file
    content = bytearray(path.read_bytes())
    _, start, size = shard.groups[-1]
    content[start + size // 3] ^= 0x40
    path.write_bytes(content)


def test_shard_split_names_the_shard_when_a_page_is_damaged(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    damaged(tmp_path / "s", index.splits["train"][0])
    split = train(tmp_path / "s")
    split.image(0)  # another row group
    with pytest.raises(DataError, match=r"train-00000-of-00003\.parquet is damaged"):
        split.image(149)


def test_shard_split_names_the_shard_when_its_footer_is_damaged(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    path = tmp_path / "s" / index.splits["train"][0].file
    content = bytearray(path.read_bytes())
    content[-4:] = b"PAR2"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000-of-00003\.parquet is damaged"):
        train(tmp_path / "s").image(0)
