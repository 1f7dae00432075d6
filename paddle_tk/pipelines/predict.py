"""Image files -> labelled pictures and predictions.json."""

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
from paddle_tk.processing import softmax, top_k
from paddle_tk.runtime.base import Array, Predictor, require_finite

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
        top: How many classes to list for each image.
        batch_size: Images per batch.
        skip_unreadable: Go on without images that cannot be decoded; they are listed under "skipped".
        pictures: Also write the images with their class.
        facts: Further entries of predictions.json, such as the model's hash.
        advance: Called with the number of images done since the last call.

    Returns:
        What predictions.json holds: "images", a list of {"image", "picture", "predictions": [{"class", "class_id",
        "score"}]} with scores in 0..1, largest first, and "skipped", "n", "seconds", "device" besides ``facts``.

    Raises:
        DataError: An image cannot be decoded, or none could.
    """
    began = time.perf_counter()
    classes, names = predictor.artifact.task.classes, PictureNames()
    entries: list[dict[str, Any]] = []
    skipped: list[str] = []
    for batch, images, inputs in _batches(predictor, paths, batch_size, skip_unreadable, skipped):
        advance(batch)
        if not inputs:
            continue
        logits = predictor.predict(np.stack(inputs))
        require_finite(logits, predictor.artifact)
        for (path, image), ranked in zip(images, _ranked(logits, classes, top), strict=True):
            picture = _write_picture(folder, names(path), image, ranked[0]) if pictures else None
            entries.append({"image": str(path), "picture": picture, "predictions": ranked})
    if not entries:
        raise DataError(f"none of the {len(paths)} images can be decoded: {skipped[0]}", "give readable images")
    report = {
        "made_by": MADE_BY,
        **(facts or {}),
        "n": len(entries),
        "seconds": time.perf_counter() - began,
        "device": predictor.device,
        "skipped": skipped,
        "images": entries,
    }
    write_json(folder / PREDICTIONS, report)
    return report


def _ranked(logits: Array, classes: Sequence[str], top: int) -> list[list[dict[str, Any]]]:
    ids, scores = top_k(softmax(logits), top)
    return [
        [{"class": classes[i], "class_id": i, "score": score} for i, score in zip(row, values, strict=True)]
        for row, values in zip(ids.tolist(), scores.tolist(), strict=True)
    ]


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


def _write_picture(folder: Path, name: str, image: Array, best: dict[str, Any]) -> str:
    from paddle_tk.pipelines.label_picture import label_picture

    picture = label_picture(image, str(best["class"]), int(best["class_id"]), float(best["score"]))
    done, encoded = cv2.imencode(os.path.splitext(name)[1], cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"the picture {name} cannot be encoded", "use --no-pictures")
    (folder / name).write_bytes(encoded.tobytes())
    return name
