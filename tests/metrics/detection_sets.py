"""Sets of images for the tests of detection metrics, and what pycocotools says of them."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from paddle_tk.metrics.detection import DetectionMetric

Image = dict[str, np.ndarray]  # the arguments of DetectionMetric.add
STATS = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large",
         "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")  # fmt: skip


class VocDifficult(COCOeval):  # type: ignore[misc]
    """pycocotools, with the ordinary overlap for objects that are ignored without being crowds."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        true, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not true and not found:
            return []
        order = np.argsort([-d["score"] for d in found], kind="mergesort")[:100]
        boxes = [found[i]["bbox"] for i in order]
        return mask.iou(boxes, [t["bbox"] for t in true], [int(t["crowd"]) for t in true])


def reference(images: list[Image], classes: int) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    """What pycocotools says: the twelve figures, "precision" (T, R, C, 4, 3) and "recall" (T, C, 4, 3)."""
    true, found = [], []
    for number, image in enumerate(images):
        for row, box in enumerate(image["true_boxes"].tolist()):
            crowd, difficult = bool(image["crowd"][row]), bool(image["difficult"][row])
            entry = {"id": len(true) + 1, "image_id": number, "category_id": int(image["true_classes"][row])}
            bbox = [*box[:2], box[2] - box[0], box[3] - box[1]]
            entry.update(bbox=bbox, area=float(image["areas"][row]), iscrowd=int(crowd or difficult), crowd=crowd)
            true.append(entry)
        for row, box in enumerate(image["boxes"].tolist()):
            bbox = [*box[:2], box[2] - box[0], box[3] - box[1]]
            entry = {"image_id": number, "category_id": int(image["class_ids"][row]), "bbox": bbox}
            found.append({**entry, "score": float(image["scores"][row])})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(len(images))],
            "categories": [{"id": number} for number in range(classes)],
            "annotations": true,
        }
        coco.createIndex()
        evaluation = VocDifficult(coco, coco.loadRes(found) if found else COCO(), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [None if value == -1 else float(value) for value in evaluation.stats]
    return dict(zip(STATS, stats, strict=True)), evaluation.eval


def synthetic(seed: int, n: int, classes: int, detections: int, *, difficult: float = 0.0) -> list[Image]:
    """Images with crowds, tied scores, objects at the area borders, and some without objects or detections."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(n):
        objects = 0 if number % 7 == 3 else int(rng.integers(1, 9))
        m = 0 if number % 5 == 4 else int(rng.integers(0, detections + 1))
        sides = rng.integers(6, 160, (objects, 2))
        corners = rng.integers(0, 300, (objects, 2))
        true = np.concatenate([corners, corners + sides], axis=1).astype(np.float64)
        true_classes = rng.integers(0, classes - 1, objects)  # the last class has no truth
        near = rng.integers(0, objects, m) if objects else np.zeros(m, np.int64)
        jitter = np.round(rng.normal(0, 8, (m, 4)) * (rng.random((m, 1)) < 0.8))
        boxes = (true[near] if objects else rng.integers(0, 300, (m, 4)).astype(np.float64)) + jitter
        boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)
        class_ids = np.where(rng.random(m) < 0.7, true_classes[near] if objects else 0, rng.integers(0, classes, m))
        areas = np.where(rng.random(objects) < 0.3, rng.choice([32.0**2, 96.0**2], objects), sides.prod(1) * 0.7)
        images.append(
            {
                "true_boxes": true,
                "true_classes": true_classes,
                "crowd": rng.random(objects) < 0.15,
                "difficult": rng.random(objects) < difficult,
                "areas": areas,
                "boxes": boxes.astype(np.float32),
                "scores": rng.integers(0, 12, m).astype(np.float32) / np.float32(11),
                "class_ids": class_ids.astype(np.int64),
            }
        )
    return images


def measured(images: list[Image], classes: int) -> DetectionMetric:
    metric = DetectionMetric([f"c{number}" for number in range(classes)])
    for image in images:
        metric.add(**image)
    return metric


def one_image(
    true: list[list[float]], found: list[list[float]], scores: list[float], *, classes: Any = None, **flags: Any
) -> Image:
    """An image; class 0 unless told, no flags unless told, areas of the boxes."""
    true_boxes, n, m = np.array(true, float).reshape(-1, 4), len(true), len(found)
    image = {
        "true_boxes": true_boxes,
        "true_classes": np.zeros(n, np.int64),
        "crowd": np.zeros(n, bool),
        "difficult": np.zeros(n, bool),
        "areas": (true_boxes[:, 2:] - true_boxes[:, :2]).prod(axis=1),
        "boxes": np.array(found, float).reshape(-1, 4),
        "scores": np.array(scores, float),
        "class_ids": np.zeros(m, np.int64) if classes is None else np.array(classes),
    }
    return {**image, **{name: np.array(value) for name, value in flags.items()}}


SQUARE = [0.0, 0.0, 100.0, 100.0]
