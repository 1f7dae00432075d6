from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from paddle_tk.data.made_once import made_once
from paddle_tk.errors import BadInput


def test_made_once_fills_the_folder_the_first_time_only(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "made"
    assert made_once(target, lambda folder: (folder / "a").mkdir()) == target
    made_once(target, lambda folder: (folder / "b").mkdir())
    assert [path.name for path in target.iterdir()] == ["a"]


def test_made_once_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "made", fail)
    assert list(tmp_path.iterdir()) == []


def test_made_once_keeps_what_another_process_made_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "made"

    def slow(folder: Path) -> None:
        made_once(target, lambda other: (other / "first").mkdir())
        (folder / "second").mkdir()

    assert made_once(target, slow) == target
    assert [path.name for path in target.iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_made_once_removes_old_leftovers_and_leaves_young_ones(tmp_path: Path) -> None:
    old, young, foreign = (tmp_path / name for name in (".tmp-made-1", ".tmp-.tmp-made-2-3", ".tmp-other-1"))
    for folder in (old, young, foreign):
        folder.mkdir()
    for folder in (old, foreign):
        os.utime(folder, (time.time() - 7200,) * 2)
    made_once(tmp_path / "made", lambda folder: None)
    assert {path.name for path in tmp_path.iterdir()} == {"made", young.name, foreign.name}


def test_made_once_says_so_when_the_place_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("in the way")
    with pytest.raises(BadInput, match="made cannot be written"):
        made_once(tmp_path / "made", lambda folder: (folder / "a").mkdir())
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
