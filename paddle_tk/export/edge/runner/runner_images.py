"""Images -> predictions: decoding, the network's input, labels or boxes, pictures and JSON."""

import json
import os
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from processing import decode_detections, preprocess, softmax, top_k
from runner_bundle import Bundle, RunnerError

PREDICTIONS, MADE_BY = "predictions.json", "paddle_tk edge runner"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_JPEG = (".jpg", ".jpeg")
_GREEN, _WHITE, _BLACK = (0, 200, 0), (255, 255, 255), (0, 0, 0)


def find_images(image: "str | None", folder: "str | None") -> "list[str]":
    """Returns the image given, or those in the folder, sorted.

    Raises:
        RunnerError: There is none.
    """
    if image is not None:
        if not os.path.isfile(image):
            raise RunnerError(f"no image at {image}", "check the path")
        return [image]
    if folder is None or not os.path.isdir(folder):
        raise RunnerError(f"no folder at {folder}", "check the path")
    names = sorted(name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in SUFFIXES)
    if not names:
        raise RunnerError(f"no images in {folder}", "expected files ending in {}".format(", ".join(SUFFIXES)))
    return [os.path.join(folder, name) for name in names]


def read_image(path: str) -> "np.ndarray":
    """Returns an image file as uint8 RGB, (H, W, 3), turned as its EXIF says.

    Raises:
        RunnerError: It cannot be decoded.
    """
    try:
        payload = np.fromfile(path, np.uint8)
        decoded = cv2.imdecode(payload, cv2.IMREAD_COLOR) if payload.size else None
    except (OSError, cv2.error):
        decoded = None
    if decoded is None:
        raise RunnerError(f"{path} cannot be decoded as an image", "repair or remove the file")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def describe(
    bundle: "Bundle", outputs: "list[np.ndarray]", size: "tuple[int, int]", top: int, least_score: float
) -> "list[dict[str, Any]]":
    """Turns the network's outputs for one image into predictions.

    Args:
        bundle: Says what the outputs mean.
        outputs: Of one image, without the batch dimension: logits (C,), or boxes (N, 4) and scores (N, C).
        size: (height, width) of the image in pixels.
        top: How many classes a classifier lists.
        least_score: Lowest score that a detector lists.

    Returns:
        [{"class", "class_id", "score"}], best first; a detector's with "box" [x1, y1, x2, y2] in pixels of the image.
    """
    manifest = bundle.manifest
    classes = manifest["task"]["classes"]
    if manifest["task"]["kind"] == "classification":
        ids, scores = top_k(softmax(outputs[0]), top)
        boxes = None
    else:
        after = dict(manifest["postprocessing"])
        after["score_threshold"] = max(least_score, float(after["score_threshold"]))
        boxes, scores, ids = decode_detections(outputs[0], outputs[1], size, manifest["preprocessing"], after)
    found = []
    for place, class_id in enumerate(ids.tolist()):
        entry = {"class": classes[class_id], "class_id": class_id, "score": float(scores[place])}  # type: dict[str, Any]
        if boxes is not None:
            entry["box"] = [round(float(side), 2) for side in boxes[place]]
        found.append(entry)
    return found


def predict(
    bundle: "Bundle",
    engine: "Any",
    paths: "list[str]",
    output: "str | None",
    in_flight: int = 1,
    top: int = 5,
    least_score: float = 0.25,
) -> "dict[str, Any]":
    """Predicts images, a batch at a time, ``in_flight`` batches at the same time.

    Args:
        bundle: A verified bundle.
        engine: From ``open_engine``.
        paths: Image files.
        output: Folder for pictures and predictions.json; None: neither.
        in_flight: Batches worked on at once.
        top: How many classes a classifier lists.
        least_score: Lowest score that a detector lists.

    Returns:
        What predictions.json holds.

    Raises:
        RunnerError: An image that cannot be decoded, or a folder that holds something else.
    """
    before = _prepare(output) if output is not None else []
    batch = bundle.manifest["input"]["shape"][0]
    parts = [paths[start : start + batch] for start in range(0, len(paths), batch)]
    slots = queue.Queue()  # type: queue.Queue[Any]
    for _ in range(in_flight):
        slots.put(engine.slot())

    def work(part: "list[str]") -> "list[Any]":
        slot = slots.get()
        try:
            return _predict_batch(bundle, slot, part, top, least_score)
        finally:
            slots.put(slot)

    began = time.perf_counter()
    entries, names = [], _Names()
    with ThreadPoolExecutor(in_flight) as pool:
        for done in pool.map(work, parts):
            for path, image, found in done:
                picture = _write_picture(output, names(path), image, found) if output is not None else None
                entries.append({"image": path, "picture": picture, "predictions": found})
    report = {"made_by": MADE_BY, "device": bundle.manifest["device"], "engine_version": engine.version}
    report.update(n=len(entries), seconds=time.perf_counter() - began, images=entries)
    if output is not None:
        _finish(output, report, before)
    return report


def _predict_batch(bundle: "Bundle", slot: "Any", paths: "list[str]", top: int, least_score: float) -> "list[Any]":
    images = [read_image(path) for path in paths]
    for place in range(len(slot.input)):
        # A last batch is filled up by repetition.
        np.copyto(slot.input[place], preprocess(images[min(place, len(images) - 1)], bundle.manifest["preprocessing"]))
    outputs = slot.run()
    done = []
    for place, image in enumerate(images):
        size = (int(image.shape[0]), int(image.shape[1]))
        found = describe(bundle, [o[place] for o in outputs], size, top, least_score)
        done.append((paths[place], image, found))
    return done


def _prepare(folder: str) -> "list[str]":
    """Makes the folder; returns the files an earlier run wrote there.

    Raises:
        RunnerError: It holds anything else.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        present = set(os.listdir(folder))
    except OSError as error:
        raise RunnerError(f"{folder} cannot be written: {error.strerror}", "choose another --output") from error
    earlier = set()  # type: set[str]
    try:
        with open(os.path.join(folder, PREDICTIONS), encoding="utf-8") as stream:
            report = json.load(stream)
        if report["made_by"] == MADE_BY:
            earlier = {PREDICTIONS} | {entry["picture"] for entry in report["images"] if entry["picture"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    foreign = sorted(present - earlier)
    if foreign:
        raise RunnerError(f"{folder} holds what is no earlier result: {foreign[0]}", "choose another --output")
    return sorted(earlier & present)


def _finish(folder: str, report: "dict[str, Any]", before: "list[str]") -> None:
    path = os.path.join(folder, PREDICTIONS)
    with open(path + ".part", "w", encoding="utf-8") as stream:
        json.dump(report, stream, indent=2)
        stream.write("\n")
    os.replace(path + ".part", path)
    kept = {PREDICTIONS} | {entry["picture"] for entry in report["images"]}
    for name in before:
        if name not in kept:
            os.remove(os.path.join(folder, name))


class _Names:
    """File names for pictures, each given once."""

    def __init__(self) -> None:
        self._taken = {PREDICTIONS}

    def __call__(self, path: str) -> str:
        stem, suffix = os.path.splitext(os.path.basename(path))
        suffix = suffix.lower() if suffix.lower() in _JPEG else ".png"
        name, number = stem + suffix, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.lower())
        return name


def _write_picture(folder: str, name: str, image: "np.ndarray", found: "list[dict[str, Any]]") -> str:
    picture = cv2.cvtColor(draw(image, found), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(os.path.splitext(name)[1], picture)
    if not done:
        raise RunnerError(f"{name} cannot be encoded", "rename the image to .png")
    try:
        encoded.tofile(os.path.join(folder, name))
    except OSError as error:
        raise RunnerError(f"{name} cannot be written: {error}", "choose another --output") from error
    return name


def draw(image: "np.ndarray", found: "list[dict[str, Any]]") -> "np.ndarray":
    """Returns a copy of an image, uint8 RGB, with boxes and names, the best on top, or with the best class."""
    picture = image.copy()
    scale = max(0.4, max(picture.shape[:2]) / 1200.0)
    line = max(1, round(2 * scale))
    for entry in reversed(found if "box" in (found[0] if found else {}) else found[:1]):
        # cv2's font has ASCII only.
        name = entry["class"] if all(ord(c) < 128 for c in entry["class"]) else "class {}".format(entry["class_id"])
        text = "{} {:.2f}".format(name, entry["score"])
        left, top = 0, 0
        if "box" in entry:
            left, top, right, bottom = (round(side) for side in entry["box"])
            cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _GREEN, line)
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, line)
        base = max(top, height + below)
        cv2.rectangle(picture, (left, base - height - below), (left + width, base), _GREEN, -1)
        cv2.putText(picture, text, (left, base - below // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, _BLACK, line)
    return picture
