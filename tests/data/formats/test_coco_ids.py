from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paddle_tk.data.formats.coco_ids import Ids

KINDS: dict[str, list[Any]] = {
    "numbers": [7, 3, 900, 3, 12, -4],
    "far apart": [7, 10**18, 2, 7, -(10**18), 0],
    "beyond 64 bits": [7, 2**64, 2, 2**64, -5, 0],
    "texts": ["7", "a b", "ä", "7", "", '"'],
    "mixed": [7, "7", 3, None, 7, "x"],
    "none": [None, None, 4, 5, 6, None],
    "empty": [],
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def values(request: pytest.FixtureRequest) -> list[Any]:
    found: list[Any] = request.param
    return found


def test_ids_give_back_what_they_were_made_of(values: list[Any]) -> None:
    made = Ids.of(values)
    for ids in (made, Ids.from_columns(made.columns("id"), "id")):
        assert ids.values() == values == [ids[i] for i in range(len(ids))]
        assert [type(value) for value in ids.values()] == [type(value) for value in values]


def test_ids_find_the_first_that_repeats(values: list[Any]) -> None:
    given = [value for value in values if value is not None]
    repeated = [value for place, value in enumerate(given) if value in given[:place]]
    assert Ids.of(values).repeated() == (repeated[0] if repeated else None)


@pytest.mark.parametrize("others", KINDS.values(), ids=KINDS.keys())
def test_ids_are_looked_up_as_in_a_dictionary(values: list[Any], others: list[Any]) -> None:
    known = {value: place for place, value in enumerate(others)}
    places = Ids.of(values).places_in(Ids.of(others))
    assert places.tolist() == [known.get(value, -1) for value in values]
    assert places.dtype == np.int64


def test_ids_tell_which_are_in_a_set(values: list[Any]) -> None:
    for wanted in (frozenset[int](), frozenset({7, 3})):
        assert Ids.of(values).among(wanted).tolist() == [value in wanted for value in values]
