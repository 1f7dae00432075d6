"""Options and checks that several commands share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle_tk.cli import Output, add_overrides, all_overrides
from paddle_tk.errors import ArtifactError, BadInput, some
from paddle_tk.manifest import load_manifest

if TYPE_CHECKING:
    from paddle_tk.data.bundle import ImageSplit
    from paddle_tk.runtime.base import Predictor
    from paddle_tk.runtime.load import ModelSource

_LEAST_SIDE, _MOST_SIDE = 8, 4096  # pixels
_NO_NMS = "none"
# What only a file that says nothing of itself needs; --input-size has other uses too.
_FOREIGN = ("task", "classes", "mean", "std", "resize", "score_threshold", "nms_iou", "max_detections")
_DETECTIONS = ("score_threshold", "nms_iou", "max_detections")
_NAME_FILES = (".txt", ".names", ".lst")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``."""
    parser.add_argument(
        "--model", type=Path, required=True, metavar="X", help="a run folder, a model folder or an ONNX file"
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (default: auto)")


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--engine``; ``load_with_engine`` uses it."""
    parser.add_argument(
        "--engine",
        type=_engine,
        metavar="NAME",
        help="paddle, paddle-inference, onnxruntime, openvino, tensorrt, or auto: the quickest for this model on this "
        "machine, found by a short measurement that is remembered (default: the format's own)",
    )


def _engine(text: str) -> str:
    from paddle_tk.runtime.engines import check_engine

    check_engine(text)
    return text


def load_with_engine(
    source: ModelSource, engine: str | None, *, device: str, threads: int, output: Output
) -> tuple[Predictor, dict[str, Any]]:
    """Loads a model into the engine that was asked for, and says which one "auto" took.

    Args:
        source: The model.
        engine: What ``--engine`` says; None: the format's own.
        device: Paddle's.
        threads: CPU threads.
        output: Told the choice.

    Returns:
        The predictor, and for JSON: "engine", "arithmetic" and, of "auto", "engine_choice".

    Raises:
        BadInput: The engine is not installed or does not run the format.
        ArtifactError: The model cannot be loaded.
    """
    from paddle_tk.runtime.choose import choose_engine
    from paddle_tk.runtime.engines import AUTO
    from paddle_tk.runtime.load import load_predictor

    facts: dict[str, Any] = {}
    if engine == AUTO:
        choice = choose_engine(source.artifact, source.file, device=device, threads=threads)
        output.say(choice.line())
        engine, facts["engine_choice"] = choice.name, asdict(choice)
    predictor = load_predictor(source, device=device, threads=threads, engine=engine)
    return predictor, {"engine": predictor.engine, "arithmetic": predictor.arithmetic, **facts}


def where(predictor: Predictor) -> str:
    """Returns where and by what a predictor computes, for a result line."""
    arithmetic = "" if predictor.arithmetic == "fp32" else f" in {predictor.arithmetic}"
    return f"{predictor.device} by {predictor.engine}{arithmetic}"


def add_foreign_options(parser: argparse.ArgumentParser) -> None:
    """Adds what an ONNX file of another tool does not say of itself; ``open_any_model`` reads it.

    A command's own ``--input-size`` is kept where it was added before.
    """
    group = parser.add_argument_group(
        "an ONNX file of another tool",
        "One float32 input (B, 3, H, W). A classifier's output is (B, C), best as logits; a detector's are two:\n"
        "boxes (B, N, 4), x1 y1 x2 y2 in pixels of the input, and scores (B, N, C) in 0..1.",
    )
    group.add_argument("--task", choices=("classification", "detection"), help="what it is for")
    group.add_argument("--classes", metavar="FILE|A,B", help="class names in order: a file with one a line, or a list")
    parser.set_defaults(own_input_size=True)
    with suppress(argparse.ArgumentError):
        group.add_argument("--input-size", type=image_size, metavar="HxW", help="pixels, where the file takes any")
        parser.set_defaults(own_input_size=False)
    group.add_argument("--mean", type=_mean, metavar="R,G,B", help="in 0..1 (default: ImageNet's)")
    group.add_argument("--std", type=_std, metavar="R,G,B", help="in 0..1 (default: ImageNet's)")
    group.add_argument(
        "--resize",
        choices=("stretch", "center_crop", "letterbox"),
        help="how images get their size (default: stretch, for detection letterbox)",
    )
    group.add_argument("--score-threshold", type=share, metavar="S", help="lowest score kept at all (default: 0.001)")
    group.add_argument("--nms-iou", type=_nms_iou, metavar="T", help="of suppression, or 'none' (default: 0.6)")
    group.add_argument("--max-detections", type=at_least_one, metavar="N", help="in an image (default: 100)")


def open_any_model(path: Path, arguments: argparse.Namespace) -> ModelSource:
    """Opens the model that ``--model`` names, also an ONNX file of another tool.

    Args:
        path: A run folder, a model folder or an ONNX file.
        arguments: Of a parser with ``add_foreign_options``.

    Returns:
        The model; its ``notes`` are for warnings.

    Raises:
        BadInput: Nothing is there, or the options are incomplete, contradict the file or are not needed.
        ArtifactError: A damaged file, or one that does not say what it needs.
    """
    from paddle_tk.runtime.load import open_model
    from paddle_tk.runtime.onnx_metadata import GivenFacts

    said = {name: getattr(arguments, name) for name in _FOREIGN if getattr(arguments, name) is not None}
    flags = [*said, *(["input_size"] if arguments.input_size is not None and not arguments.own_input_size else [])]
    if not flags:
        return open_model(path)
    detections = {name: said.pop(name) for name in _DETECTIONS if name in said}
    if detections.get("nms_iou") == _NO_NMS:
        detections["nms_iou"] = None
    if "classes" in said:
        said["classes"] = _class_names(said["classes"])
    told = ", ".join(f"--{name.replace('_', '-')}" for name in flags)
    return open_model(path, GivenFacts(input_size=arguments.input_size, detections=detections, flags=told, **said))


def _class_names(text: str) -> tuple[str, ...]:
    path = Path(text).expanduser()
    if path.is_file():
        try:
            names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise BadInput(f"--classes {path} is no text file", "give a file with one class name a line") from error
        names = [name for name in names if name]
    elif path.suffix in _NAME_FILES:
        raise BadInput(f"no file with class names at {path}", "check the path, or list the names: --classes A,B,C")
    else:
        names = [name.strip() for name in text.split(",")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or not all(names) or twice:
        raise BadInput(
            f"--classes {text} names {f'{some(twice)} twice' if twice else 'an empty class'}",
            "name every class once, in the order of the outputs",
        )
    return tuple(names)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data``, ``-o`` and bare overrides."""
    parser.add_argument("--data", metavar="NAME", help="a registered dataset (default: that of the model's own run)")
    add_overrides(parser, "data.KEY=VALUE", "a data setting, for instance data.root=FOLDER; may be repeated")


def start(device: str) -> tuple[str, int]:
    """Starts Paddle with all threads the user allows.

    Args:
        device: "auto", "cpu", "gpu" or "gpu:N".

    Returns:
        Paddle's device string and the number of CPU threads.

    Raises:
        BadInput: A device that is not there.
    """
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle("auto")
    from paddle_tk.environment.devices import resolve_device

    accelerator, devices = (device, "auto") if device in ("auto", "cpu", "gpu") else ("auto", device)
    return resolve_device(accelerator, devices), threads


def at_least_one(text: str) -> int:
    """Parses an option's value as an integer >= 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got '{text}'")
    return value


def image_size(text: str) -> tuple[int, int]:
    """Parses "HxW", or one number for both, as (height, width) in pixels, 8 to 4096."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < _LEAST_SIDE or max(sides) > _MOST_SIDE:
        raise argparse.ArgumentTypeError(f"must be HxW, each from {_LEAST_SIDE} to {_MOST_SIDE} pixels, got '{text}'")
    return sides


def share(text: str) -> float:
    """Parses an option's value as a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got '{text}'")
    return value


def _nms_iou(text: str) -> float | str:
    if text == _NO_NMS:
        return text
    value = share(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, or '{_NO_NMS}', got '{text}'")
    return value


def _mean(text: str) -> tuple[float, float, float]:
    return _colours(text, above_zero=False)


def _std(text: str) -> tuple[float, float, float]:
    return _colours(text, above_zero=True)


def _colours(text: str, *, above_zero: bool) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be three numbers R,G,B, got '{text}'") from None
    values = (red, green, blue)
    if not all(0 <= value <= 1 for value in values) or (above_zero and min(values) == 0):
        least = "above 0" if above_zero else "from 0"
        raise argparse.ArgumentTypeError(
            f"must be {least} to 1 each (divide what is meant for 0..255 by 255), got '{text}'"
        )
    return values


def require_replaceable(folder: Path, earlier: Collection[str] | None, what: str) -> bool:
    """Allows an output folder only where nothing of the user's own would be lost.

    Args:
        folder: Where the output is to go.
        earlier: Relative paths of the files that the same command wrote there before; None: it did not.
        what: What the command writes, for the message.

    Returns:
        Whether an earlier output will be replaced.

    Raises:
        BadInput: The folder holds anything else.
    """
    if not folder.exists():
        parent = next(path for path in folder.absolute().parents if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise BadInput(f"{folder} cannot be made in {parent}", "choose another --output")
        return False
    if not folder.is_dir():
        raise BadInput(f"{folder} exists and is not a folder", "choose another --output")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    foreign = sorted(found - set(earlier or ()))
    if foreign:
        raise BadInput(
            f"{folder} is not empty and holds what is no earlier {what}: {foreign[0]}"
            + (f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""),
            "choose another --output, or remove it yourself",
        )
    return bool(found)


def earlier_files(folder: Path, made_by: str, files: Collection[str]) -> Collection[str] | None:
    """Returns ``files`` where an earlier run of a command wrote into ``folder``, None where there was none.

    Args:
        folder: Where the output is to go.
        made_by: What the command's manifests say, "paddle_tk VERSION STEP"; the version does not matter.
        files: What the command writes.
    """
    try:
        found = load_manifest(folder).made_by
    except ArtifactError:
        return None
    return files if found.split()[::2] == made_by.split()[::2] else None


def images_to_compare(
    source: ModelSource, arguments: argparse.Namespace, output: Output, instead: str, *, apart: str = ""
) -> tuple[ImageSplit | None, str]:
    """Returns test images of the model's dataset and what they are called; None where they cannot be read.

    Args:
        source: The model.
        arguments: Of a parser with ``add_data_options``.
        output: Warned with ``instead`` and the reason where there are none.
        instead: What is done then ("compared on noise").
        apart: Start of overrides that are for something else; "" for none.

    Raises:
        BadInput: The user named the dataset, and it cannot be read.
    """
    from paddle_tk.pipelines.model_data import load_model_data

    overrides = [item for item in all_overrides(arguments) if not apart or not item.startswith(apart)]
    try:
        bundle = load_model_data(source, arguments.data, overrides).bundle
    except BadInput as error:
        if arguments.data is not None or overrides:
            raise
        output.warn(f"{instead}: {error.problem}")
        return None, ""
    return bundle.splits["test"], f"{bundle.name} test images"
