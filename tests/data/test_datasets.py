import numpy as np
import pytest

from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import DATASETS, load_dataset
from paddle_tk.errors import BadInput


def digits(max_samples: int | None, split_seed: int = 0) -> DatasetBundle:
    return load_dataset(
        "digits",
        root=None,
        val_fraction=0.1,
        test_fraction=0.2,
        split_seed=split_seed,
        max_samples=max_samples,
    )


def test_load_dataset_lists_the_known_names_when_the_name_is_unknown() -> None:
    with pytest.raises(BadInput, match="unknown dataset 'cifar11'") as caught:
        load_dataset("cifar11", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    assert caught.value.fix.startswith("did you mean 'cifar10'? known: cifar10, coco, ")


def test_datasets_can_all_be_imported_when_listed() -> None:
    classification = {"cifar10", "digits", "image_folder", "imagenet1k"}
    detection = {"coco", "coco128", "coco2017", "digits_detection", "voc", "yolo"}
    either = {"shards"}
    assert set(DATASETS.names()) == classification | detection | either
    assert all(callable(DATASETS.load(name)) for name in DATASETS)


def test_load_dataset_says_where_auto_is_understood_when_it_was_not_resolved() -> None:
    with pytest.raises(BadInput, match=r"data=auto is for tools/train\.py"):
        load_dataset("auto", root=None, val_fraction=0.1, test_fraction=0.1, split_seed=0)


def test_load_dataset_keeps_a_stratified_subset_of_train_only_when_max_samples_is_given() -> None:
    whole, part = digits(None), digits(200)
    assert len(part.splits["train"]) == 200
    assert np.abs(np.bincount(part.splits["train"].labels) - 20).max() <= 1
    for name in ("val", "test"):
        np.testing.assert_array_equal(part.splits[name].labels, whole.splits[name].labels)
    train = {whole.splits["train"].name(i) for i in range(len(whole.splits["train"]))}
    kept = {part.splits["train"].name(i) for i in range(200)}
    assert len(kept) == 200
    assert kept < train
    assert len({whole.fingerprint, part.fingerprint, digits(201).fingerprint}) == 3
    assert part.fingerprint == digits(200).fingerprint


def test_load_dataset_changes_nothing_when_max_samples_is_not_reached() -> None:
    assert digits(10_000).fingerprint == digits(None).fingerprint
