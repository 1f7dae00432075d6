"""Which images a model is calibrated, chosen and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.datasets import DATASETS
from paddle_tk.errors import BadInput
from paddle_tk.pipelines.int8_calibration import CalibrationImages
from paddle_tk.pipelines.model_data import ModelData, load_model_data
from paddle_tk.pipelines.quantize_model import Images
from paddle_tk.quantize.images import FolderImages, choose_calibration
from paddle_tk.runtime.load import ModelSource

_UNLABELLED = 64  # images that two models are compared on where nobody knows what is in them
_CHOICE = 2000  # images at most that layers are left in float by


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes:
        data: A registered dataset; None: that of the model's own run.
        overrides: "data.KEY=VALUE" items.
        calibration: A folder of images or a registered dataset; None: the dataset's training images.
        samples: Images to calibrate on, at most.
        batch_size: Of the calibration.
        seed: Of the choice of images.
        validated: False: the input size is not the trained one and accuracy is not measured.
    """

    data: str | None
    overrides: Sequence[str]
    calibration: str | None
    samples: int
    batch_size: int
    seed: int = 0
    validated: bool = True


def load_images(source: ModelSource, wanted: Wanted, *, calibrate: bool = True) -> Images:
    """Loads all images that a quantization needs.

    Args:
        source: The float model.
        wanted: What the user asked for.
        calibrate: False: a calibration is at hand.

    Raises:
        BadInput: No dataset is known and no calibration folder given; an unknown dataset; an empty folder.
        DataError: The dataset is missing or damaged.
    """
    known = source.config is not None or wanted.data is not None
    if not known and wanted.calibration is None:
        raise BadInput(
            f"there are no images to calibrate {source.file} on: the dataset it was trained with is not known",
            "give a folder of images with --calibration, or a dataset with --data",
        )
    data = load_model_data(source, wanted.data, wanted.overrides) if known else None
    calibration = _calibration(source, wanted, data)
    if data is None or not wanted.validated:
        few = _spread(calibration.split, _UNLABELLED)
        return Images(calibration if calibrate else None, None, few, False, calibration.origin)
    splits = data.bundle.splits
    return Images(
        calibration if calibrate else None, _spread(splits["val"], _CHOICE), splits["test"], True,
        f"{data.bundle.name} test images",
    )  # fmt: skip


def _calibration(source: ModelSource, wanted: Wanted, data: ModelData | None) -> CalibrationImages:
    if wanted.calibration is not None and wanted.calibration not in DATASETS:
        folder = FolderImages(Path(wanted.calibration).expanduser(), source.artifact.preprocessing)
        chosen = folder.split.subset(folder.choose(wanted.samples, wanted.seed))
        return CalibrationImages(chosen, f"images of {wanted.calibration}", wanted.batch_size)
    if wanted.calibration is not None:
        data = load_model_data(source, wanted.calibration, wanted.overrides)
    assert data is not None
    train = data.bundle.splits["train"]
    picked = train.subset(choose_calibration(train, wanted.samples, wanted.seed))
    return CalibrationImages(picked, f"{data.bundle.name} training images", wanted.batch_size)


def _spread(split: ImageSplit, count: int) -> ImageSplit:
    if len(split) <= count:
        return split
    return split.subset(np.unique(np.linspace(0, len(split) - 1, count).round().astype(int)))
