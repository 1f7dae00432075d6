"""``digits``: 1,797 real hand-written digits, 8x8 grey, embedded in scikit-learn; needs no download."""

from __future__ import annotations

import numpy as np

from paddle_tk.data.bundle import ArraySplit, DatasetBundle, array_digest, fingerprint
from paddle_tk.data.catalog import shipped_entry
from paddle_tk.data.splits import TEST, VAL, stratified_split
from paddle_tk.errors import DataError

_ENTRY = shipped_entry("digits")
_HIGHEST_LEVEL = 16


def load_digits(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Returns scikit-learn's digits as uint8 RGB (grey replicated), 8x8, split by the given fractions.

    Args:
        root: Must be None.
        val_fraction: Of what remains after the test split.
        test_fraction: Of all images.
        split_seed: Seed of both splits.
        skip_unreadable: Without effect: nothing is decoded.

    Raises:
        DataError: A root was given.
    """
    if root is not None:
        raise DataError(f"digits comes with scikit-learn and reads no folder, got data.root={root}", "drop data.root")
    from sklearn.datasets import load_digits as embedded

    raw = embedded()
    grey = np.rint(raw.images * (255.0 / _HIGHEST_LEVEL)).astype(np.uint8)
    images = np.repeat(grey[..., np.newaxis], 3, axis=3)
    labels = raw.target.astype(np.int64)
    whole = ArraySplit(images, labels, [f"digit {i:04d}" for i in range(len(labels))])
    rest, test = stratified_split(labels, test_fraction, seed=split_seed, purpose=TEST)
    train, val = stratified_split(labels[rest], val_fraction, seed=split_seed, purpose=VAL)
    return DatasetBundle(
        name="digits",
        kind="classification",
        splits={
            "train": whole.subset(rest[train]),
            "val": whole.subset(rest[val]),
            "test": whole.subset(test),
        },
        classes=tuple(str(digit) for digit in raw.target_names),
        source=_ENTRY.source,
        licence=_ENTRY.licence,
        fingerprint=fingerprint(
            array_digest(images, labels),
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
        ),
    )
