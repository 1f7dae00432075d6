"""Shared inputs of a few small batches, made once per test session."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from paddle_tk.compare.inputs import SharedInputs
from paddle_tk.compare.shared_inputs import build_shared_inputs
from paddle_tk.config.load import load_config
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from tests.tiny_detection import write_coco

CLASSIFIER = [
    *("model=resnet18", "data=digits", "data.image_size=16", "data.batch_size=16", "data.num_workers=0"),
    *("trainer.fast_dev_run=true", "trainer.weight_decay=0.0005", "trainer.label_smoothing=0.05"),
]
DETECTOR = [
    *("model=yolov10n", "data=coco", "data.image_size=64", "data.batch_size=4", "data.num_workers=0", "data.flip=0.5"),
    *("trainer=detection", "trainer.ema_decay=0", "trainer.fast_dev_run=true"),
]
EPOCHS = 2


def config(*overrides: str) -> Config:
    return load_config(None, overrides).config


@lru_cache(maxsize=4)
def _made(folder: Path, *overrides: str) -> SharedInputs:
    return build_shared_inputs(config(*overrides), folder, epochs=EPOCHS, output=Output(quiet=True))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> SharedInputs:
    """Two epochs of two batches of 16 digits; read only."""
    return _made(tmp_path_factory.getbasetemp() / "compare-digits", *CLASSIFIER)


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> SharedInputs:
    """Two epochs of two batches of 4 pictures with rectangles; read only."""
    base = tmp_path_factory.getbasetemp()
    if not (base / "compare-coco").exists():
        write_coco(base / "compare-coco", counts={"train": 8, "val": 4, "test": 4})
    return _made(base / "compare-boxes", *DETECTOR, f"data.root={base / 'compare-coco'}")
