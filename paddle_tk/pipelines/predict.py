"""Image files -> pictures with labels or boxes, and predictions.json."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddle_tk.data.bundle import read_image
from paddle_tk.data.formats.image_folder import SUFFIXES
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.environment.threads import available_cores
from paddle_tk.errors import BadInput, DataError
from paddle_tk.files import write_json
from paddle_tk.pipelines.box_picture import box_picture
from paddle_tk.pipelines.label_picture import label_picture
from paddle_tk.processing import decode_detections, softmax, top_k
from paddle_tk.runtime.base import Array, Predictor, require_finite
from paddle_tk.types import ModelArtifact

PREDICTIONS = "predictions.json"
MADE_BY = "paddle_tk predict"
_JPEG = (".jpg", ".jpeg")
_MAGIC = "*?["


def find_images(arguments: Sequence[str], output: Path) -> list[Path]:
    """Collects image files, in the order given, folders sorted, each file once.

    Args:
        arguments: Files, folders (searched with all their subfolders for .jpg, .jpeg, .png, .bmp and .webp) and glob
            patterns, "**" included.
        output: Files below it are results of earlier predictions and left out of folders and patterns.

    Raises:
        BadInput: A file that does not exist, a folder or pattern without images, a file inside ``output``.
    """
    found: dict[Path, Path] = {}
    inside = output.resolve()
    for text in arguments:
        path = Path(text).expanduser()
        named = path.is_file()
        candidates = [path] if named else _expand(path, text)
        kept = [file for file in candidates if inside not in file.resolve().parents]
        if named and not kept:
            raise BadInput(f"{path} lies in the output folder {output}", "choose another --output")
        if not kept:
            raise BadInput(f"no images in {text}", f"expected files ending in {', '.join(sorted(SUFFIXES))}")
        for file in kept:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _expand(path: Path, text: str) -> list[Path]:
    if path.is_dir():
        return _images_below(path)
    if not any(letter in text for letter in _MAGIC):
        raise BadInput(f"no image or folder at {text}", "check the path; quote patterns such as 'photos/*.jpg'")
    files: list[Path] = []
    for match in sorted(glob.glob(str(path), recursive=True)):
        below = Path(match)
        if below.is_dir():
            files.extend(_images_below(below))
        elif below.suffix.lower() in SUFFIXES:
            files.append(below)
    return files


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def predict_images(
    predictor: Predictor,
    paths: Sequence[Path],
    folder: Path,
    *,
    top: int = 5,
    least_score: float = 0.25,
    batch_size: int = 32,
    skip_unreadable: bool = False,
    pictures: bool = True,
    facts: dict[str, Any] | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Predicts images and writes pictures and predictions.json into an existing folder.

    Args:
        predictor: The model; images are prepared as its manifest says.
        paths: Image files.
        folder: Where to write.
        top: How many classes a classifier lists for each image.
        least_score: Lowest score of a detection that is listed and drawn.
        batch_size: Images per batch.
        skip_unreadable: Go on without images that cannot be decoded; they are listed under "skipped".
        pictures: Also write the images with their class.
        facts: Further entries of predictions.json, such as the model's hash.
        advance: Called with the number of images done since the last call.

    Returns:
        What predictions.json holds: "images", a list of {"image", "picture", "predictions": [{"class", "class_id",
        "score"}]} with scores in 0..1, largest first, a detector's with "box" [x1, y1, x2, y2] in pixels of the image;
        and "task", "skipped", "n", "seconds", "device" besides ``facts``.

    Raises:
        DataError: An image cannot be decoded, or none could.
    """
    began = time.perf_counter()
    names, describe = PictureNames(), _describer(predictor.artifact, top, least_score)
    entries: list[dict[str, Any]] = []
    skipped: list[str] = []
    for batch, images, inputs in _batches(predictor, paths, batch_size, skip_unreadable, skipped):
        advance(batch)
        if not inputs:
            continue
        outputs = predictor.predict(np.stack(inputs))
        require_finite(outputs, predictor.artifact)
        for (path, image), output in zip(images, zip(*outputs, strict=True), strict=True):
            found = describe.predictions(output, image)
            picture = _write_picture(folder, names(path), describe.draw(image, found)) if pictures else None
            entries.append({"image": str(path), "picture": picture, "predictions": found})
    if not entries:
        raise DataError(f"none of the {len(paths)} images can be decoded: {skipped[0]}", "give readable images")
    done = {"n": len(entries), "seconds": time.perf_counter() - began, "device": predictor.device}
    report = {"made_by": MADE_BY, **(facts or {}), "task": predictor.artifact.task.kind, **done}
    report.update(skipped=skipped, images=entries)
    write_json(folder / PREDICTIONS, report)
    return report


class _Labels:
    """A classifier's best classes, and the picture with the best one above it."""

    def __init__(self, artifact: ModelArtifact, top: int) -> None:
        self._classes, self._top = artifact.task.classes, top

    def predictions(self, output: tuple[Array, ...], image: Array) -> list[dict[str, Any]]:
        ids, scores = top_k(softmax(output[0]), self._top)
        return [
            {"class": self._classes[i], "class_id": i, "score": score}
            for i, score in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def draw(self, image: Array, found: list[dict[str, Any]]) -> Array:
        best = found[0]
        return label_picture(image, str(best["class"]), int(best["class_id"]), float(best["score"]))


class _Boxes:
    """A detector's detections, and the picture with them."""

    def __init__(self, artifact: ModelArtifact, least_score: float) -> None:
        self._classes = artifact.task.classes
        self._before = artifact.preprocessing.to_dict()
        least = max(least_score, float(artifact.postprocessing["score_threshold"]))
        self._after = {**artifact.postprocessing, "score_threshold": least}

    def predictions(self, output: tuple[Array, ...], image: Array) -> list[dict[str, Any]]:
        size = (int(image.shape[0]), int(image.shape[1]))
        boxes, scores, ids = decode_detections(output[0], output[1], size, self._before, self._after)
        return [
            {"class": self._classes[i], "class_id": i, "score": score, "box": [round(side, 2) for side in box]}
            for box, score, i in zip(boxes.tolist(), scores.tolist(), ids.tolist(), strict=True)
        ]

    def draw(self, image: Array, found: list[dict[str, Any]]) -> Array:
        return box_picture(
            image,
            np.array([entry["box"] for entry in found], np.float32).reshape(-1, 4),
            [str(entry["class"]) for entry in found],
            np.array([entry["class_id"] for entry in found], np.int64),
            np.array([entry["score"] for entry in found], np.float32),
        )


def _describer(artifact: ModelArtifact, top: int, least_score: float) -> _Labels | _Boxes:
    return _Boxes(artifact, least_score) if artifact.task.kind == "detection" else _Labels(artifact, top)


_Loaded = tuple[int, list[tuple[Path, Array]], list[Array]]


def _batches(
    predictor: Predictor, paths: Sequence[Path], size: int, skip_unreadable: bool, skipped: list[str]
) -> Iterator[_Loaded]:
    """Yields (files looked at, [(path, image)], network inputs); decodes on all cores."""
    transform = EvalTransform(predictor.artifact.preprocessing)

    def load(path: Path) -> tuple[Array, Array] | DataError:
        try:
            image = read_image(path)
        except DataError as error:
            return error
        return image, transform(image)

    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            images, inputs = [], []
            for path, found in zip(part, pool.map(load, part), strict=True):
                if isinstance(found, DataError):
                    if not skip_unreadable:
                        raise DataError(found.problem, "repair or remove it, or go on without it: --skip-unreadable")
                    skipped.append(str(path))
                    continue
                images.append((path, found[0]))
                inputs.append(found[1])
            yield len(part), images, inputs


class PictureNames:
    """File names for pictures, each given once, also on file systems that ignore case."""

    def __init__(self) -> None:
        self._taken = {PREDICTIONS}

    def __call__(self, path: Path) -> str:
        """Returns the image's name, with "-2", "-3", ... where that is taken; .jpg stays, all else becomes .png."""
        suffix = path.suffix.lower() if path.suffix.lower() in _JPEG else ".png"
        name, number = f"{path.stem}{suffix}", 1
        while name.lower() in self._taken:
            number += 1
            name = f"{path.stem}-{number}{suffix}"
        self._taken.add(name.lower())
        return name


def _write_picture(folder: Path, name: str, picture: Array) -> str:
    done, encoded = cv2.imencode(os.path.splitext(name)[1], cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"the picture {name} cannot be encoded", "use --no-pictures")
    (folder / name).write_bytes(encoded.tobytes())
    return name
