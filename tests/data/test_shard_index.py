from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.data.shard_index import INDEX, block_arrays, parse_index
from paddle_tk.errors import DataError
from paddle_tk.files import canonical_json, sha256_bytes
from tests.data.shard_sets import sharded


def signed(raw: dict[str, Any]) -> bytes:
    body = {key: value for key, value in raw.items() if key != "sha256"}
    return json.dumps({**body, "sha256": sha256_bytes(canonical_json(body))}).encode()


def test_parse_index_gives_back_what_was_written(tmp_path: Path) -> None:
    index = sharded(tmp_path / "s")
    assert parse_index((tmp_path / "s" / INDEX).read_bytes(), "here") == index
    starts, owners = block_arrays(index.splits["train"])
    assert (starts[0], starts[-1], owners[-1]) == (0, 400, 2)
    assert len(owners) == len(starts) - 1


def test_parse_index_refuses_what_does_not_match_its_checksum(tmp_path: Path) -> None:
    sharded(tmp_path / "s")
    raw = json.loads((tmp_path / "s" / INDEX).read_text())
    raw["classes"][0] = "other"
    with pytest.raises(DataError, match="here does not match its own checksum"):
        parse_index(json.dumps(raw).encode(), "here")


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"sha256": "0", "made_by": "somebody"}', b"\xff"])
def test_parse_index_says_so_when_it_is_another_file(payload: bytes) -> None:
    with pytest.raises(DataError, match="here is no index of shards"):
        parse_index(payload, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(version=2), "is of version 2, this release reads 1"),
        (lambda raw: raw["splits"].pop("val"), "its splits are"),
        (lambda raw: raw["splits"]["val"][0].update(file="../up.parquet"), "is no name of a shard"),
        (lambda raw: raw["splits"]["val"][0].update(rows=8), "do not make its 8 rows"),
        (lambda raw: raw["splits"]["val"][0].pop("groups"), "KeyError"),
    ],
)
def test_parse_index_refuses_what_contradicts_itself(tmp_path: Path, change: Any, message: str) -> None:
    sharded(tmp_path / "s")
    raw = json.loads((tmp_path / "s" / INDEX).read_text())
    change(raw)
    with pytest.raises(DataError, match=message):
        parse_index(signed(raw), "here")
