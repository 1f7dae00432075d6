"""Small pictures with bright rectangles, and one short training of each detector on them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.commands.export import main as export
from paddle_tk.commands.train import main as train

SIDE = 64
NETWORKS = ("picodet_xs", "yolov10n")
COUNTS = {"train": 24, "val": 6, "test": 8}
SETTINGS = [
    *("data=coco", f"data.image_size={SIDE}", "data.batch_size=8", "data.num_workers=0", "data.flip=0.5"),
    *("trainer=detection", "trainer.max_epochs=2", "trainer.loggers=[visualdl]", "trainer.max_retries=0"),
    *("trainer.log_every_n_steps=1", "trainer.warmup_epochs=0"),
]


def write_coco(root: Path, classes: tuple[str, ...] = ("dark", "light"), counts: dict[str, int] | None = None) -> Path:
    """Writes a COCO dataset of rectangles whose brightness tells the class; the last image of a split is empty."""
    rng = np.random.default_rng(3)
    for split, count in (counts or COUNTS).items():
        images, annotations = [], []
        (root / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture = rng.integers(100, 140, (48, SIDE, 3), dtype=np.uint8)
            name = f"{split}-{number}.png"
            images.append({"id": number, "file_name": name, "width": SIDE, "height": 48})
            for _ in range(0 if number == count - 1 else 2):
                label = int(rng.integers(len(classes)))
                x, y, w, h = (int(v) for v in (*rng.integers(2, 30, 2), *rng.integers(12, 18, 2)))
                picture[y : y + h, x : x + w] = 255 * label // max(1, len(classes) - 1)
                annotations.append(
                    {"id": len(annotations), "image_id": number, "category_id": label + 1, "bbox": [x, y, w, h],
                     "area": w * h, "iscrowd": 0}
                )  # fmt: skip
            cv2.imwrite(str(root / split / name), picture)
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(classes)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@lru_cache(maxsize=1)
def _make(base: Path) -> Path:
    write_coco(base / "data")
    for name in NETWORKS:
        settings = [*SETTINGS, f"model={name}", f"data.root={base / 'data'}"]
        assert train(["--quiet", "--run-dir", str(base / name), *settings]) == 0
        arguments = ["--model", str(base / name), "--output", str(base / f"{name}-onnx"), "--samples", "8"]
        assert export(["--quiet", *arguments]) == 0
    return base


@pytest.fixture(scope="session")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ``data``, a run of each of ``NETWORKS`` and its export ``NAME-onnx``; read only."""
    return _make(tmp_path_factory.getbasetemp() / "detectors")
