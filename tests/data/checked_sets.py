"""Small datasets in which nothing is wrong, one in each format."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tests.data.detection_sets import coco_part, picture, voc_root, yolo_file, yolo_root


def vary(folder: Path) -> None:
    """Gives every picture of a synthetic set pixels of its own, so that none repeats another."""
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg"))):
        noise = np.random.default_rng(number).integers(0, 255, (30, 40, 3), np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, noise)[1].tobytes())


def sound_yolo(root: Path) -> Path:
    yolo_root(root, 8, "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for i in range(3):
        yolo_file(root, "val", f"v{i}", ["1 0.5 0.5 0.5 0.5"])
    vary(root)
    return root


def sound_coco(root: Path) -> Path:
    coco_part(root, "train", 8)
    coco_part(root, "val", 3)
    vary(root)
    return root


def sound_voc(root: Path) -> Path:
    voc_root(root, 8)
    for name, stems in (("train", range(5)), ("val", range(5, 8))):
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{i:06d}\n" for i in stems))
    (root / "labels.txt").write_text("cat\ndog\n")
    vary(root)
    return root


def sound_folder(root: Path) -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                picture(root / split / name / f"{split}{i}.png")
    vary(root)
    return root


MAKERS = {"yolo": sound_yolo, "coco": sound_coco, "voc": sound_voc, "image_folder": sound_folder}
