import numpy as np
import pytest

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.errors import DataError


def digits(
    split_seed: int = 0, val_fraction: float = 0.1, test_fraction: float = 0.2, root: str | None = None
) -> DatasetBundle:
    return load_dataset(
        "digits", root=root, val_fraction=val_fraction, test_fraction=test_fraction, split_seed=split_seed
    )


def test_digits_has_all_images_once_when_split() -> None:
    bundle = digits()
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 1294, "val": 144, "test": 359}
    names = [split.name(i) for split in bundle.splits.values() for i in range(len(split))]
    assert len(set(names)) == 1797
    assert bundle.classes == tuple("0123456789")
    for split in bundle.splits.values():
        shares = np.bincount(split.labels, minlength=10) / len(split)
        assert np.abs(shares - 0.1).max() < 0.02


def test_digits_images_are_scaled_grey_when_read() -> None:
    from sklearn.datasets import load_digits

    split = digits().splits["test"]
    raw = load_digits()
    for i in range(20):
        number = int(split.name(i).split()[1])
        image = split.image(i)
        assert image.shape == (8, 8, 3)
        assert (image == image[..., :1]).all()
        np.testing.assert_array_equal(image[..., 0], np.rint(raw.images[number] * 255 / 16))
        assert split.labels[i] == raw.target[number]


def test_digits_fingerprint_is_stable_and_follows_the_split_when_parameters_change() -> None:
    same = digits()
    assert same.fingerprint == digits().fingerprint
    prints = {
        digits(split_seed=1).fingerprint,
        digits(val_fraction=0.2).fingerprint,
        digits(test_fraction=0.3).fingerprint,
        same.fingerprint,
    }
    assert len(prints) == 4


def test_digits_raises_when_a_root_is_given() -> None:
    with pytest.raises(DataError, match=r"reads no folder, got data\.root=/somewhere"):
        digits(root="/somewhere")
