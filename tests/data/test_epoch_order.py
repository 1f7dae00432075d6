from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.data.epoch_order import ClassOrder, EpochOrder, PlainOrder, RepeatOrder
from tests.data.test_loader import array_split, contents, loader

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


def test_repeated_images_of_an_epoch_are_augmented_each_in_their_own_way() -> None:
    split = array_split(4)
    order = ClassOrder(np.zeros(4, np.int64), {0: 12})
    loaded = loader(split, order=order, batch_size=5)
    assert (loaded.batches_per_epoch, [loaded.batch_samples(i) for i in range(3)]) == (3, [5, 5, 2])
    loaded.start(2)
    batches = list(loaded)
    images = np.concatenate([batch[0].numpy() for batch in batches])
    labels = np.concatenate([batch[1].numpy() for batch in batches])
    assert np.bincount(labels).tolist() == [3, 3, 3, 3]
    assert len({image.tobytes() for image in images}) == 12
    plain = loader(split, batch_size=4)
    plain.start(2)
    first = {image.tobytes() for batch in plain for image in batch[0].numpy()}
    assert first < {image.tobytes() for image in images}  # the first showing is what it is without repetition


def test_an_order_resumes_in_mid_epoch_and_does_not_depend_on_workers() -> None:
    order = ClassOrder(np.arange(45) % 3, {0: 30, 1: 30, 2: 1})
    whole = loader(order=order)
    whole.start(1)
    expected = contents(whole)
    rest = loader(workers=2, order=order)
    rest.start(1, 3)
    assert contents(rest) == expected[3:]
