"""COCO's figures of 5,000 synthetic images by our metric, against pycocotools.

Both start from the same arrays, one image at a time, and end with the twelve figures and every class's AP; what each
makes of the arrays on the way counts. Same process, one thread, interleaved.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser
from paddle_tk.metrics.detection import DetectionMetric

CLASSES = 80
FIGURES = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large",
           "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")  # fmt: skip
Image = dict[str, np.ndarray]  # the arguments of DetectionMetric.add
Figures = dict[str, float | None]


def synthetic_images(count: int, seed: int = 0) -> list[Image]:
    """Makes images with 7 objects on average and up to 100 detections, some of them with more or with none.

    Two in a hundred objects are crowds; scores have two decimals, so many tie; one image in 25 has no object and
    another one in 25 no detection.
    """
    rng = np.random.default_rng(seed)
    return [_image(rng, number) for number in range(count)]


def _image(rng: np.random.Generator, number: int) -> Image:
    objects = 0 if number % 25 == 7 else int(rng.poisson(7))
    m = 0 if number % 25 == 12 else int(rng.integers(10, 101))
    m = 300 if number % 250 == 20 else m
    true, sides = _boxes(rng, objects)
    near = min(m, 3 * objects)  # the others lie anywhere
    source = rng.integers(0, max(objects, 1), near)
    others, _ = _boxes(rng, m - near)
    boxes = np.concatenate([true[source] + rng.normal(0, 0.08, (near, 4)) * np.tile(sides[source], 2), others])
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    true_classes = rng.integers(0, CLASSES, objects)
    class_ids = rng.integers(0, CLASSES, m)
    right = np.flatnonzero(rng.random(near) < 0.7)
    class_ids[right] = true_classes[source[right]]
    scores = np.round(rng.beta(1, 6, m) + 0.2 * (np.arange(m) < near), 2)
    order = np.argsort(-scores, kind="stable")
    return {
        "true_boxes": true,
        "true_classes": true_classes,
        "crowd": rng.random(objects) < 0.02,
        "difficult": np.zeros(objects, np.bool_),
        "areas": sides.prod(axis=1) * rng.uniform(0.5, 1, objects),  # masks fill their boxes in part
        "boxes": boxes[order].astype(np.float32),
        "scores": scores[order].astype(np.float32),
        "class_ids": class_ids[order],
    }


def _boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns corners (count, 4) and sides (count, 2) of boxes of 8 to 300 px."""
    corners, sides = rng.uniform(0, 500, (count, 2)), np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
    return np.concatenate([corners, corners + sides], axis=1), sides


def ours(images: list[Image]) -> Figures:
    """Returns the twelve figures and each class's AP, by our metric."""
    metric = DetectionMetric([str(number) for number in range(CLASSES)])
    for image in images:
        metric.add(**image)
    said = metric.result().to_dict()
    return {**{name: said[name] for name in FIGURES}, **{k: v["ap50_95"] for k, v in said["per_class"].items()}}


def pycocotools(images: list[Image]) -> Figures:
    """Returns the twelve figures and each class's AP, by pycocotools."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped, unused-ignore]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped, unused-ignore]

    true, found = _entries(images)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(1, len(images) + 1)],
            "categories": [{"id": number} for number in range(CLASSES)],
            "annotations": true,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    per_class = evaluation.eval["precision"][:, :, :, 0, 2]
    averages = {str(number): float(per_class[:, :, number].mean()) for number in range(CLASSES)}
    stats = dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))
    return {name: None if value == -1 else value for name, value in {**stats, **averages}.items()}


def _entries(images: list[Image]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns objects and detections in COCO's form."""
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        objects = (image["true_classes"], _xywh(image["true_boxes"]), image["areas"], image["crowd"].astype(np.int64))
        for class_id, box, area, crowd in zip(*(o.tolist() for o in objects), strict=True):
            entry = {"id": len(true) + 1, "image_id": number, "category_id": class_id}
            true.append({**entry, "bbox": box, "area": area, "iscrowd": crowd})
        results = (image["class_ids"], _xywh(image["boxes"]), image["scores"].astype(np.float64))
        for class_id, box, score in zip(*(r.tolist() for r in results), strict=True):
            found.append({"image_id": number, "category_id": class_id, "bbox": box, "score": score})
    return true, found


def _xywh(boxes: np.ndarray) -> np.ndarray:
    wide = boxes.astype(np.float64)
    wide[:, 2:] -= wide[:, :2]
    return wide


def _timed(path: Callable[[list[Image]], Figures], images: list[Image], into: dict[str, Figures]) -> float:
    gc.collect()
    began = time.perf_counter()
    into[path.__name__] = path(images)
    return time.perf_counter() - began


def _difference(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> float:
    """Returns the greatest difference; infinite where only one side has a figure."""
    differences = [0.0]
    for name in a.keys() | b.keys():
        left, right = a.get(name), b.get(name)
        if left is not None and right is not None:
            differences.append(abs(left - right))
        elif left is not right:
            differences.append(float("inf"))
    return max(differences)


def main() -> int:
    """Measures both and compares."""
    arguments = parser(__doc__ or "", "coco_map")
    arguments.add_argument("--images", type=int, default=5000)
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    images = synthetic_images(given.images)
    detections = sum(len(image["scores"]) for image in images)
    found: dict[str, Figures] = {}
    jobs = {path.__name__: partial(_timed, path, images, found) for path in (ours, pycocotools)}
    samples = interleaved(jobs, given.repeats)
    medians = {name: float(np.median(values)) for name, values in samples.items()}
    print(
        f"{given.images} images, {detections} detections, {CLASSES} classes: {medians['pycocotools']:.1f} s by "
        f"pycocotools, {medians['ours']:.1f} s by ours (n={given.repeats})"
    )
    claims = [
        Claim(
            "coco_map: greatest difference of 12 figures and the classes' AP",
            _difference(found["ours"], found["pycocotools"]),
            "share",
            1e-9,
        ),
        Claim(
            "coco_map: pycocotools' time over ours",
            paired_ratio(samples["pycocotools"], samples["ours"]),
            "ratio",
            2.5,
            at_most=False,
        ),
    ]
    notes = {"unit": "s", "images": given.images, "detections": detections, "classes": CLASSES, "figures": found}
    return finish(claims, samples, given.json, notes)


if __name__ == "__main__":
    sys.exit(main())
