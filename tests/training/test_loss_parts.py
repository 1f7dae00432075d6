from __future__ import annotations

import math

import pytest

from paddle_tk.training.loss_parts import LossParts


def test_accumulate_weights_batches_by_their_images() -> None:
    parts = LossParts(("box", "cls"))
    parts.update({"box": 1.0, "cls": 3.0}, 3)
    parts.update({"box": 5.0, "cls": 7.0}, 1)
    assert parts.name() == ["box", "cls"]
    assert parts.accumulate() == [2.0, 4.0]


def test_accumulate_is_nan_when_nothing_was_counted() -> None:
    parts = LossParts(("box",))
    parts.update({"box": 1.0}, 2)
    parts.reset()
    assert math.isnan(parts.accumulate()[0])


def test_load_goes_on_where_state_was_taken() -> None:
    one, other = LossParts(("box",)), LossParts(("box",))
    one.update({"box": 1.0}, 2)
    other.load(one.state())
    for parts in (one, other):
        parts.update({"box": 4.0}, 1)
    assert one.accumulate() == other.accumulate() == [2.0]


def test_load_refuses_when_the_parts_are_others() -> None:
    with pytest.raises(ValueError, match="expected \\['cls'\\]"):
        LossParts(("cls",)).load(LossParts(("box",)).state())


def test_numbers_of_two_add_up_when_each_has_counted_other_images() -> None:
    one, other, whole = LossParts(("box", "cls")), LossParts(("box", "cls")), LossParts(("box", "cls"))
    one.update({"box": 1.0, "cls": 3.0}, 3)
    other.update({"box": 5.0, "cls": 7.0}, 1)
    whole.take(one.numbers() + other.numbers())
    assert whole.accumulate() == [2.0, 4.0]
    assert whole.state()["samples"] == 4
