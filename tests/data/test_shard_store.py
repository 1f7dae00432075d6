from __future__ import annotations

import pickle
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from paddle_tk.data import shard_store
from paddle_tk.data.shard_index import INDEX
from paddle_tk.data.shard_store import ShardStore
from paddle_tk.errors import BadInput, DataError
from tests.data.shard_sets import load_shards, served, sharded


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once."""
    monkeypatch.setattr(shard_store, "_FIRST_WAIT_SECONDS", 0.0)


def payloads(root: Path | str) -> list[bytes]:
    split = load_shards(root).splits["train"]
    return [split.payload(row).tobytes() for row in range(len(split))]


def test_shards_are_the_same_when_they_come_from_a_folder_from_memory_and_over_http(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    local = payloads(tmp_path / "s")
    system = fsspec.filesystem("memory")
    for file in index.files:
        system.pipe_file(f"/sets/one/{file}", (tmp_path / "s" / file).read_bytes())
    assert payloads("memory://sets/one") == local
    with served(tmp_path / "s") as (url, requests):
        assert payloads(url) == local
    asked = [request for request in requests if request.startswith("/train-")]
    groups = sum(len(shard.groups) for shard in index.splits["train"])
    # One request for each row group and one for each footer: nothing is fetched twice or whole.
    assert len(asked) == groups + len(index.splits["train"])
    assert all("bytes=" in request for request in asked)
    assert load_shards(tmp_path / "s").fingerprint == load_shards("memory://sets/one").fingerprint


def test_shard_store_tries_again_when_a_server_fails_for_a_while(tmp_path: Path, quick: None) -> None:
    sharded(tmp_path / "s")
    with served(tmp_path / "s", failures=3) as (url, requests):
        assert len(load_shards(url).splits["train"]) == 400
    assert len(requests) == 4


def test_shard_store_says_so_when_a_server_gives_up_or_knows_no_ranges(tmp_path: Path, quick: None) -> None:
    sharded(tmp_path / "s")
    with served(tmp_path / "s", failures=99) as (url, _), pytest.raises(DataError, match=r"index\.json cannot be read"):
        load_shards(url)
    with served(tmp_path / "s", ranges=False) as (url, _), pytest.raises(DataError, match="for the range"):
        payloads(url)
    with served(tmp_path) as (url, requests), pytest.raises(DataError, match=r"index\.json cannot be read"):
        load_shards(url)
    assert len(requests) == 1  # what is not there is not asked for again


def test_shard_store_says_so_when_a_protocol_is_unknown() -> None:
    with pytest.raises(BadInput, match="nosuch://x cannot be opened"):
        ShardStore("nosuch://x").index()


def test_shard_store_names_the_shard_when_it_is_missing_or_cut(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    path = tmp_path / "s" / index.splits["train"][1].file
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{path.name} has {len(content) - 1} bytes, its index says {len(content)}"):
        load_shards(tmp_path / "s")
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name} cannot be read"):
        load_shards(tmp_path / "s")
    (tmp_path / "s" / INDEX).unlink()
    with pytest.raises(DataError, match=r"index\.json cannot be read.*Fix: give the folder of shards"):
        load_shards(tmp_path / "s")


def test_shard_store_lets_go_of_pages_when_a_group_was_read(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    store, shard = ShardStore(str(tmp_path / "s")), index.splits["train"][0]
    rows, start, size = shard.groups[0]
    before = bytes(store.source(shard, start, size).read(shard.size_bytes))
    store.done_with(shard, start, size)
    assert bytes(store.source(shard, start, size).read(shard.size_bytes)) == before == store.read(shard)
    assert rows > 0


def test_splits_read_on_when_they_are_copied_to_another_process_or_thread(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    split = load_shards(tmp_path / "s").splits["train"]
    first = split.image(0)
    copied = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(copied.image(0), first)
    assert len(pickle.dumps(split)) < 50_000  # its index, none of its images
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(copied.image(399)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], split.image(399))
