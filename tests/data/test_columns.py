from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.data.columns import (
    Columns,
    MappedColumn,
    cached_columns,
    index_path,
    keep_columns,
    open_columns,
    write_columns,
)
from paddle_tk.data.home import cache_folder
from paddle_tk.errors import DataError

ARRAYS = {
    "numbers": np.arange(1000, dtype=np.int64),
    "boxes": np.arange(12, dtype=np.float64).reshape(3, 4),
    "flags": np.array([True, False]),
    "none": np.empty((0, 4)),
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index" / "some.columns"


def _counted(calls: list[int]) -> Callable[[], tuple[dict[str, np.ndarray], Any]]:
    def build() -> tuple[dict[str, np.ndarray], Any]:
        calls.append(1)
        return ARRAYS, {"made": len(calls)}

    return build


def _same(found: Columns) -> bool:
    return set(found.arrays) == set(ARRAYS) and all(
        found[name].dtype == array.dtype and found[name].shape == array.shape and bool((found[name] == array).all())
        for name, array in ARRAYS.items()
    )


def test_columns_are_read_only_pages_of_the_file_when_they_were_written(path: Path) -> None:
    found = keep_columns(path, {"of": "this"}, ARRAYS, {"classes": ["ä", "b"]})
    assert _same(found)
    assert found.whole()
    assert (found.key, found.meta) == ({"of": "this"}, {"classes": ["ä", "b"]})
    assert isinstance(found["numbers"], MappedColumn)
    with pytest.raises(ValueError, match="read-only"):
        found["numbers"][0] = 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_cached_columns_are_made_once_when_the_key_stays_and_again_when_it_changes(path: Path) -> None:
    calls: list[int] = []
    for key, made in (([1, "a"], 1), ([1, "a"], 1), ([1, "b"], 2), ([1, "a"], 3)):
        found = cached_columns(path, key, _counted(calls))
        assert _same(found)
        assert (found.meta["made"], len(calls)) == (made, made)


def _cut(payload: bytes) -> bytes:
    return payload[:-1]


def _flip(place: int) -> Callable[[bytes], bytes]:
    def flipped(payload: bytes) -> bytes:
        damaged = bytearray(payload)
        damaged[place] ^= 1
        return bytes(damaged)

    return flipped


@pytest.mark.parametrize(
    "damage",
    [
        lambda payload: b"",
        lambda payload: b"PTK",
        lambda payload: bytes(len(payload)),
        _cut,
        lambda payload: payload + b"\0",
        _flip(3),
        _flip(9),
        _flip(20),
        _flip(60),
        _flip(-200),
        lambda payload: payload[: len(payload) // 2] + bytes(len(payload) - len(payload) // 2),
    ],
)
def test_cached_columns_are_made_again_when_the_file_is_damaged(path: Path, damage: Callable[[bytes], bytes]) -> None:
    calls: list[int] = []
    cached_columns(path, "key", _counted(calls))
    path.write_bytes(damage(path.read_bytes()))
    assert _same(cached_columns(path, "key", _counted(calls)))
    assert len(calls) == 2
    assert _same(cached_columns(path, "key", _counted(calls)))
    assert len(calls) == 2


def test_columns_are_kept_in_memory_when_the_place_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = keep_columns(tmp_path / "file" / "x.columns", "key", ARRAYS, None)
    assert _same(found)
    assert open_columns(tmp_path / "file" / "x.columns") is None


def test_writing_leaves_nothing_behind_when_it_fails(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_columns(path, "key", ARRAYS, None)
    assert list(path.parent.iterdir()) == [path]


def test_writing_removes_what_a_killed_process_left_when_it_is_old(path: Path) -> None:
    path.parent.mkdir()
    old, young = path.with_name(".tmp-other-1"), path.with_name(".tmp-other-2")
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (1, 1))
    keep_columns(path, "key", ARRAYS, None)
    assert sorted(p.name for p in path.parent.iterdir()) == [young.name, path.name]


def test_a_column_travels_as_its_place_in_the_file_and_a_part_of_it_as_numbers(path: Path, tmp_path: Path) -> None:
    column = keep_columns(path, "key", {"numbers": np.arange(10**6)}, None)["numbers"]
    sent, part = pickle.dumps(column), pickle.dumps(column[7:9])
    assert len(sent) < 500
    assert pickle.loads(part).tolist() == [7, 8]
    (tmp_path / "sent").write_bytes(sent)
    code = "import pickle, sys; print(int(pickle.load(open(sys.argv[1], 'rb')).sum()))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "sent")], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert int(done.stdout) == 10**6 * (10**6 - 1) // 2


def test_a_column_is_refused_when_its_file_was_replaced_on_the_way(path: Path) -> None:
    sent = pickle.dumps(keep_columns(path, "one", ARRAYS, None)["numbers"])
    keep_columns(path, "two", {"numbers": np.arange(3)}, None)
    with pytest.raises(DataError, match="removed or replaced"):
        pickle.loads(sent)


def test_a_column_stays_readable_when_its_file_is_replaced(path: Path) -> None:
    found = keep_columns(path, "one", ARRAYS, None)
    keep_columns(path, "two", {"numbers": np.arange(3)}, None)
    assert _same(found)


def test_index_path_differs_when_the_source_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path))
    places = {index_path(kind, Path(source)) for kind in ("a", "b") for source in ("x", "y")}
    assert len(places) == 4
    assert {place.parent for place in places} == {cache_folder() / "index"}
