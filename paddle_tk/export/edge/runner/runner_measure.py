"""The self-test, and times measured on this device."""

import queue
import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from processing import normalize, preprocess, resize_image
from runner_bundle import Bundle
from runner_images import describe, read_image

_MIB = 2**20
_MOST_LEVELS = 8  # grey levels by which two builds of OpenCV may scale an image differently
_SELFTEST_TOP = 5


def self_test(bundle: "Bundle", run: "dict[str, Any]", engine: "Any") -> "dict[str, Any]":
    """Compares this device with what the toolkit computed.

    Two things are compared: the scaled picture with the stored one, in grey levels; and the outputs for the stored
    picture with the stored outputs, as a share of the largest one (for boxes: of the input's longer side).

    Returns:
        "passed" and the figures, beside the predictions for the self-test picture.
    """
    manifest = bundle.manifest
    test, before = manifest["selftest"], manifest["preprocessing"]
    image, stored = read_image(bundle.path(test["image"])), read_image(bundle.path(test["input"]))
    scaled = resize_image(image, before["size"], before["resize"], before["crop_ratio"], before["pad_value"])
    levels = int(np.abs(scaled.astype(np.int16) - stored.astype(np.int16)).max())
    slot = engine.slot()
    slot.input[:] = normalize(stored, before["mean"], before["std"])
    found = [output.copy() for output in slot.run()]
    expected = _expected(bundle, run)
    differences, same = _differences(manifest, expected, found)
    allowed = _allowed(test["tolerance"], run)
    slot.input[:] = preprocess(image, before)
    size = (int(image.shape[0]), int(image.shape[1]))
    predictions = describe(bundle, [o[0] for o in slot.run()], size, _SELFTEST_TOP, float(test["score"]))
    passed = levels <= _MOST_LEVELS and same and max(differences) <= allowed
    return {
        "passed": passed,
        "engine": run["engine"],
        "engine_version": engine.version,
        "precision": run["precision"],
        "picture_difference_levels": levels,
        "picture_difference_allowed": _MOST_LEVELS,
        "output_differences": differences,
        "output_difference_allowed": allowed,
        "same_best": same,
        "predictions": predictions[:_SELFTEST_TOP],
        "origin": "measured",
    }


def _allowed(tolerance: "dict[str, float]", run: "dict[str, Any]") -> float:
    """Returns the largest difference that passes: that of the precision, or of the engine's own arithmetic."""
    return max(float(tolerance[run["precision"]]), float(tolerance.get(run["engine"], 0.0)))


def _expected(bundle: "Bundle", run: "dict[str, Any]") -> "list[np.ndarray]":
    reference = "int8" if run["precision"] == "int8" else "fp32"
    with np.load(bundle.path(bundle.manifest["selftest"]["expected"]), allow_pickle=False) as stored:
        return [stored[f"{reference}_{i}"] for i in range(len(bundle.manifest["outputs"]))]


def _differences(
    manifest: "dict[str, Any]", expected: "list[np.ndarray]", found: "list[np.ndarray]"
) -> "tuple[list[float], bool]":
    """Returns the largest difference of each output, as a share, and whether the best prediction is the same."""
    found = [output[:1] for output in found]
    if not all(np.isfinite(output).all() for output in found):
        return [float(np.finfo(np.float32).max)] * len(found), False
    if manifest["task"]["kind"] == "classification":
        share = np.abs(found[0] - expected[0]).max() / np.abs(expected[0]).max()
        return [float(share)], int(found[0].argmax()) == int(expected[0].argmax())
    best = expected[1].max(axis=-1)
    # Where the network sees nothing it may put its boxes anywhere.
    counted = best >= best.max() / 2
    boxes = np.abs(found[0] - expected[0])[counted].max() / max(manifest["preprocessing"]["size"])
    scores = np.abs(found[1] - expected[1]).max()
    same = bool(found[1][counted].max() > 0) and int(found[1][counted].max(axis=0).argmax()) == int(
        expected[1][counted].max(axis=0).argmax()
    )
    return [float(boxes), float(scores)], same


def benchmark(
    bundle: "Bundle",
    run: "dict[str, Any]",
    engine: "Any",
    repeats: int,
    warmup: int,
    in_flight: int,
    threads: int,
) -> "dict[str, Any]":
    """Times the network alone, and everything from the decoded picture to predictions.

    Returns:
        Milliseconds per run (p50, p95, p99, least, mean), images per second with ``in_flight`` at once, peak memory of
        this process in MiB, and under what conditions.
    """
    manifest = bundle.manifest
    image = read_image(bundle.path(manifest["selftest"]["image"]))
    slot = engine.slot()
    slot.input[:] = preprocess(image, manifest["preprocessing"])
    whole = _whole(bundle, slot, image)
    for _ in range(warmup):
        whole()
    network_ms = _times(slot.run, repeats)
    whole_ms = _times(whole, repeats)
    return {
        "engine": run["engine"],
        "engine_version": engine.version,
        "precision": run["precision"],
        "threads": threads,
        "batch": int(slot.input.shape[0]),
        "warmup": warmup,
        "in_flight": in_flight,
        "network_ms": _summary(network_ms),
        "end_to_end_ms": _summary(whole_ms),
        "images_per_second": _throughput(bundle, engine, image, repeats, in_flight),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0 / _MIB,
        "power_mode": power_mode(),
        "device": manifest["device"],
        "origin": "measured",
    }


def _whole(bundle: "Bundle", slot: "Any", image: "np.ndarray") -> "Any":
    size = (int(image.shape[0]), int(image.shape[1]))
    least = float(bundle.manifest["selftest"]["score"])

    def run() -> None:
        slot.input[:] = preprocess(image, bundle.manifest["preprocessing"])
        for outputs in zip(*slot.run()):  # noqa: B905 - 3.6
            describe(bundle, list(outputs), size, _SELFTEST_TOP, least)

    return run


def _times(work: "Any", repeats: int) -> "list[float]":
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        samples.append((time.perf_counter() - began) * 1e3)
    return samples


def _summary(samples: "list[float]") -> "dict[str, Any]":
    p50, p95, p99 = (float(value) for value in np.percentile(samples, [50, 95, 99]))
    return {
        "p50": p50, "p95": p95, "p99": p99, "least": min(samples), "mean": float(np.mean(samples)), "n": len(samples),
        "samples": [round(sample, 4) for sample in samples],
    }  # fmt: skip


def _throughput(bundle: "Bundle", engine: "Any", image: "np.ndarray", repeats: int, in_flight: int) -> float:
    """Returns images per second, end to end, with ``in_flight`` batches at once."""
    free = queue.Queue()  # type: queue.Queue[Any]
    batch = bundle.manifest["input"]["shape"][0]
    for _ in range(in_flight):
        free.put(_whole(bundle, engine.slot(), image))

    def work(_: int) -> None:
        whole = free.get()
        try:
            whole()
        finally:
            free.put(whole)

    with ThreadPoolExecutor(in_flight) as pool:
        began = time.perf_counter()
        for _ in pool.map(work, range(repeats)):
            pass
        return float(batch * repeats / (time.perf_counter() - began))


def power_mode() -> str:
    """Returns what nvpmodel says, "" where there is no such thing."""
    try:
        said = subprocess.check_output(["nvpmodel", "-q"], stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(said.decode("utf-8", "replace").split())
