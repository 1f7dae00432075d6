from __future__ import annotations

from pathlib import Path

import pytest

from paddle_tk import files


def test_atomic_folder_leaves_nothing_when_the_block_fails(tmp_path: Path) -> None:
    def write() -> None:
        with files.atomic_folder(tmp_path / "out") as staging:
            (staging / "a").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_atomic_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with files.atomic_folder(tmp_path / "out") as staging:
            (staging / text).write_text(text)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_write_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"x": float("nan")})
    assert path.read_text() == '{\n  "x": 1\n}\n'


def test_next_free_folder_counts_up_when_names_are_taken(tmp_path: Path) -> None:
    assert files.next_free_folder(tmp_path / "run").name == "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert files.next_free_folder(tmp_path / "run").name == "run-3"


def test_canonical_json_is_one_spelling_whatever_the_order() -> None:
    assert files.canonical_json({"b": 1, "a": [2.5, "ä"]}) == files.canonical_json({"a": [2.5, "ä"], "b": 1})


def test_sha256_file_equals_the_hash_of_its_bytes(tmp_path: Path) -> None:
    payload = bytes(range(256)) * 9000
    (tmp_path / "f").write_bytes(payload)
    assert files.sha256_file(tmp_path / "f") == files.sha256_bytes(payload)
