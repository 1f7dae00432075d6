from __future__ import annotations

import os
import pickle
from itertools import pairwise

import numpy as np
import pytest

from paddle_tk.data.tables import Paths, Texts, as_paths, taken

NAMES = ["a.jpg", "", "größe 1.png", os.fsdecode(b"\xff\xfe.png"), "日本.jpg", "a.jpg"]


def paths() -> Paths:
    return Paths(["/data/cat", "dog", ""], np.array([0, 0, 1, 1, 2, 2], np.int32), Texts.of(NAMES))


def whole() -> list[str]:
    return [os.path.join(("/data/cat", "dog", "")[number // 2], name) for number, name in enumerate(NAMES)]


def test_texts_give_back_what_they_were_made_of() -> None:
    texts = Texts.of(NAMES)
    assert list(texts) == NAMES == [texts[i] for i in range(len(NAMES))]
    assert (texts[-2], texts[1:4], len(texts)) == (NAMES[-2], NAMES[1:4], 6)
    assert list(Texts.from_columns(texts.columns("n"), "n")) == NAMES
    assert list(Texts.of([])) == []
    for index in (6, -7):
        with pytest.raises(IndexError):
            texts[index]


def test_texts_refuse_half_a_surrogate_pair() -> None:
    with pytest.raises(UnicodeEncodeError):
        Texts.of(["ok", "\ud800"])


@pytest.mark.parametrize("cuts", [(0, 2, 6), (0, 0, 6), (0, 6, 6), (0,)])
def test_texts_join_as_lists_do(cuts: tuple[int, ...]) -> None:
    parts = [NAMES[a:b] for a, b in pairwise(cuts)]
    assert list(Texts.joined([Texts.of(part) for part in parts])) == [name for part in parts for name in part]


def test_paths_are_those_of_folder_and_name() -> None:
    assert list(paths()) == whole() == [paths()[i] for i in range(6)]
    assert paths()[-1] == "a.jpg"
    assert list(paths()[::-2]) == whole()[::-2]
    assert whole()[3] in paths()
    with pytest.raises(IndexError):
        paths()[6]


def test_paths_take_rows_in_any_order_and_again_of_what_was_taken() -> None:
    first = paths().take(np.array([5, 1, 4, 0]))
    assert list(first) == [whole()[i] for i in (5, 1, 4, 0)]
    assert list(first.take(np.array([2, 0]))) == [whole()[4], whole()[5]]
    assert list(first[1:3]) == [whole()[1], whole()[4]]
    assert list(pickle.loads(pickle.dumps(first))) == list(first)
    assert len(first.take(np.array([], np.int64))) == 0


def test_paths_refuse_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="3 folders' numbers for 6 names"):
        Paths(["a"], np.zeros(3, np.int32), Texts.of(NAMES))


def test_lists_stay_lists_and_columns_stay_columns() -> None:
    columns = paths()
    assert as_paths(columns) is columns
    assert as_paths(["a", "b"]) == ["a", "b"]
    assert taken(["a", "b", "c"], np.array([2, 0])) == ["c", "a"]
    assert isinstance(taken(columns, np.array([2, 0])), Paths)
