from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.data.epoch_order import ClassOrder, EpochOrder, PlainOrder, RepeatOrder

LABELS = np.array([0] * 20 + [1] * 3 + [2] * 5, np.int64)
ORDERS: list[EpochOrder] = [
    PlainOrder(28),
    ClassOrder(LABELS, {0: 10, 1: 10, 2: 10}),
    RepeatOrder(np.linspace(1, 3.3, 28)),
]


@pytest.mark.parametrize("order", ORDERS)
def test_order_is_a_function_of_seed_and_epoch_alone(order: EpochOrder) -> None:
    first = order.draws(7, 3)
    order.draws(7, 4)
    assert np.array_equal(first, order.draws(7, 3))
    assert not np.array_equal(first, order.draws(7, 4))
    assert not np.array_equal(first, order.draws(8, 3))
    assert all(len(order.draws(7, epoch)) == len(order) for epoch in range(20))
    assert len(set(first.tolist())) == len(first)  # a repetition is a draw of its own


def test_plain_order_shows_every_image_once() -> None:
    assert sorted(PlainOrder(9).draws(0, 0).tolist()) == list(range(9))
    assert np.array_equal(PlainOrder(9).draws(3, 5), np.random.default_rng((3, 5)).permutation(9))


def test_class_order_shows_each_class_as_often_as_is_wanted() -> None:
    order = ClassOrder(LABELS, {0: 5, 1: 10, 2: 0})
    seen: set[int] = set()
    for epoch in range(40):
        images = order.draws(1, epoch) % len(LABELS)
        assert np.bincount(LABELS[images], minlength=3).tolist() == [5, 10, 0]
        assert np.bincount(images[LABELS[images] == 1], minlength=23)[20:].tolist() in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
        seen |= set(images[LABELS[images] == 0].tolist())
    assert len(seen) == 20  # what is left out changes


def test_class_order_refuses_a_class_without_images() -> None:
    with pytest.raises(ValueError, match="have no images"):
        ClassOrder(LABELS, {5: 1})
    with pytest.raises(ValueError, match="negative"):
        ClassOrder(LABELS, {0: -1})


def test_repeat_order_shows_images_as_often_as_their_factors_say() -> None:
    factors = np.array([1.0, 1.25, 2.0, 2.75])
    order = RepeatOrder(factors)
    assert len(order) == 7
    epochs = 4000
    counts = sum(np.bincount(order.draws(0, epoch) % 4, minlength=4) for epoch in range(epochs))
    # Systematic sampling: the deviation of a count is below 0.5 in an epoch, 4 deviations of the mean allowed.
    assert np.abs(counts / epochs - factors).max() < 4 * 0.5 / np.sqrt(epochs)
    with pytest.raises(ValueError, match="at least 1"):
        RepeatOrder(np.array([0.5]))
