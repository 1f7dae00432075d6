import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from paddle_tk.data.splits import TEST, VAL, stratified_split, stratified_subset
from paddle_tk.errors import DataError

LABELS = st.lists(st.integers(0, 5), min_size=2, max_size=120).map(lambda v: np.array(v, np.int64))
FRACTIONS = st.floats(0.01, 0.99)


@settings(deadline=None, max_examples=150)
@given(labels=LABELS, fraction=FRACTIONS, seed=st.integers(0, 2**31 - 1))
def test_stratified_split_parts_are_disjoint_and_whole_when_labels_are_any(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    sizes = np.bincount(labels)
    assume(sizes.max() >= 2)
    rest, share = stratified_split(labels, fraction, seed=seed, purpose=VAL)
    assert np.array_equal(np.sort(np.concatenate([rest, share])), np.arange(len(labels)))
    assert np.array_equal(share, np.sort(share))
    assert set(labels[rest]) == set(labels), "no class may lose its last image"
    available = len(labels) - len(np.unique(labels))
    assert len(share) == min(max(1, round(len(labels) * fraction)), available)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(20, 200), min_size=1, max_size=6),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
def test_stratified_split_keeps_proportions_when_classes_are_large(
    sizes: list[int], fraction: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    _, share = stratified_split(labels, fraction, seed=seed, purpose=VAL)
    got = np.bincount(labels[share], minlength=len(sizes))
    assert np.abs(got - np.array(sizes) * fraction).max() <= 1.5


def test_stratified_split_is_repeatable_and_differs_when_seed_or_purpose_differ() -> None:
    labels = np.repeat(np.arange(4), 50).astype(np.int64)
    first = stratified_split(labels, 0.3, seed=1, purpose=VAL)[1]
    assert np.array_equal(first, stratified_split(labels, 0.3, seed=1, purpose=VAL)[1])
    assert not np.array_equal(first, stratified_split(labels, 0.3, seed=2, purpose=VAL)[1])
    assert not np.array_equal(first, stratified_split(labels, 0.3, seed=1, purpose=TEST)[1])


def test_stratified_split_raises_when_every_class_has_one_image() -> None:
    with pytest.raises(DataError, match="3 images with at most one per class cannot be split"):
        stratified_split(np.arange(3, dtype=np.int64), 0.5, seed=0, purpose=VAL)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_stratified_split_raises_when_the_fraction_is_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must be above 0 and below 1"):
        stratified_split(np.zeros(9, np.int64), fraction, seed=0, purpose=VAL)


@settings(deadline=None, max_examples=100)
@given(labels=LABELS, count=st.integers(1, 150), seed=st.integers(0, 99))
def test_stratified_subset_has_the_asked_size_and_every_class_when_it_can(
    labels: np.ndarray, count: int, seed: int
) -> None:
    kept = stratified_subset(labels, count, seed=seed)
    assert len(kept) == len(set(kept.tolist())) == min(count, len(labels))
    if count >= len(np.unique(labels)):
        assert set(labels[kept]) == set(labels)
    assert np.array_equal(kept, stratified_subset(labels, count, seed=seed))
