"""The table of datasets and the one function that reads any of them."""

from __future__ import annotations

from dataclasses import replace

from paddle_tk.data.bundle import DatasetBundle, fingerprint
from paddle_tk.data.splits import stratified_subset
from paddle_tk.errors import BadInput
from paddle_tk.registry import Registry

DATASETS = Registry("dataset")
DATASETS.add("digits", "paddle_tk.data.formats.digits:load_digits")
DATASETS.add("cifar10", "paddle_tk.data.formats.cifar:load_cifar10")
DATASETS.add("image_folder", "paddle_tk.data.formats.image_folder:load_image_folder")
DATASETS.add("imagenet1k", "paddle_tk.data.formats.image_folder:load_imagenet1k")
DATASETS.add("digits_detection", "paddle_tk.data.formats.digits_detection:load_digits_detection")
DATASETS.add("coco", "paddle_tk.data.formats.coco:load_coco")
DATASETS.add("voc", "paddle_tk.data.formats.voc:load_voc")
DATASETS.add("yolo", "paddle_tk.data.formats.yolo:load_yolo")
DATASETS.add("coco128", "paddle_tk.data.formats.coco128:load_coco128")
DATASETS.add("coco2017", "paddle_tk.data.formats.coco:load_coco2017")
DATASETS.add("shards", "paddle_tk.data.formats.shards:load_shards")


def load_dataset(
    name: str,
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
    max_samples: int | None = None,
) -> DatasetBundle:
    """Reads and splits a dataset.

    Args:
        name: A registered dataset.
        root: Folder or archive; None: ``$PADDLE_TK_HOME/datasets/<name>``, or nothing for an embedded
            dataset.
        val_fraction: Share of the training images that become "val", where no such split is published.
        test_fraction: Share of all images that become "test", where no such split is published.
        split_seed: Seed of the splits and of the subset.
        skip_unreadable: Go on without images that cannot be decoded; the bundle lists them.
        max_samples: Keep a stratified subset of this many training images; "val" and "test" stay whole.

    Raises:
        BadInput: The name is unknown.
        DataError: The dataset is missing, damaged or laid out in another way.
    """
    if name == "auto":  # resolved before a training begins; see pipelines.auto_data
        raise BadInput("data=auto is for tools/train.py and tools/validate.py", "name the dataset: data=NAME")
    bundle: DatasetBundle = DATASETS.load(name)(
        root=root,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        skip_unreadable=skip_unreadable,
    )
    if max_samples is None or max_samples >= len(bundle.splits["train"]):
        return bundle
    train = bundle.splits["train"]
    kept = train.subset(stratified_subset(train.labels, max_samples, seed=split_seed))
    return replace(
        bundle,
        splits={**bundle.splits, "train": kept},
        fingerprint=fingerprint(bundle.fingerprint, max_samples=max_samples),
    )
