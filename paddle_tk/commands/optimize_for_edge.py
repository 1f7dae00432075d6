"""``tools/optimize_for_edge.py``: a bundle for one device: models it can run, a runner, a build script, a self-test."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.limits import add_limit_options, limits_of
from paddle_tk.commands.shared import (
    add_data_options,
    add_foreign_options,
    at_least_one,
    image_size,
    images_to_compare,
    open_any_model,
    require_replaceable,
    start,
)
from paddle_tk.errors import BadInput
from paddle_tk.files import MIB, atomic_folder
from paddle_tk.manifest import NAME as MANIFEST

if TYPE_CHECKING:
    from paddle_tk.export.edge.devices import Device
    from paddle_tk.pipelines.edge_bundle import EdgeBundle
    from paddle_tk.runtime.load import ModelSource

_DESCRIPTION = """Make a folder that is copied onto an edge device and runs there without Paddle; or, with a limit such
as --target-latency, find the best model inside it on this machine.

  python tools/optimize_for_edge.py --target-device jetson-nano --model-path runs/resnet18 --output nano
  python tools/optimize_for_edge.py --target-device raspberry-pi-5 --model-path runs/picodet --quantization int8 \\
      --input-size 320x320 --output pi5
  python tools/optimize_for_edge.py --target-device x86-cpu --model-path other.onnx --task classification \\
      --classes names.txt --quantization fp32 --output x86
  python tools/optimize_for_edge.py --target-latency 50ms --model-path runs/resnet18 --output fast

--output gets the models the device can really run, runner.py, a script that builds the TensorRT engine, README.md,
manifest.json with the hash of every file, a self-test and preflight.json. Devices: jetson-nano, jetson-xavier-nx,
jetson-orin-nano, jetson-agx-orin, raspberry-pi-4, raspberry-pi-5, x86-cpu. Exit code 1, and nothing written, where the
device cannot take the model."""
_QUANTIZATIONS = ("auto", "fp32", "fp16", "int8")
_SAMPLES = 64
_QUANTIZE = "quantize."
# Options of one mode that would be ignored in the other; their default is None or empty.
_BUNDLE_ONLY = ("target_device", "allow_slow", "input_size", "batch_size", "samples", "selftest_image")
_LATENCY_ONLY = ("input_sizes", "engines")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/optimize_for_edge.py", _DESCRIPTION)
    parser.add_argument("--target-device", metavar="NAME", help="the device it will run on")
    parser.add_argument(
        "--model-path", type=Path, required=True, metavar="M", help="a run folder, a model folder or an ONNX file"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="folder to write")
    parser.add_argument(
        "--quantization", choices=_QUANTIZATIONS, default="auto", help="auto: what suits the device (default)"
    )
    parser.add_argument(
        "--int8-model", type=Path, metavar="X", help="an INT8 model of the same weights, made by tools/quantize.py "
        "(default: made here)",
    )  # fmt: skip
    parser.add_argument(
        "--calibration", metavar="X", help="for an INT8 model made here: folder of images, a dataset, or an earlier "
        "calibration.json",
    )  # fmt: skip
    parser.add_argument(
        "--allow-slow", action="store_true", help="take an INT8 model made here even where it is slower than FP32"
    )
    parser.add_argument("--input-size", type=image_size, metavar="HxW", help="pixels (default: the model's)")
    parser.add_argument("--batch-size", type=at_least_one, metavar="N", help="images per run (default: 1)")
    parser.add_argument("--samples", type=at_least_one, metavar="N", help="images to compare (default: 64)")
    parser.add_argument(
        "--selftest-image", type=Path, metavar="F", help="picture of the self-test (default: the first test image)"
    )
    add_foreign_options(parser)
    add_limit_options(parser)
    add_data_options(parser)
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    if limits_of(arguments) is not None:
        _refuse(arguments, _BUNDLE_ONLY, "is for a bundle, a limit asks for the latency mode on this machine")
        from paddle_tk.commands.latency_mode import run_latency_mode

        return run_latency_mode(arguments, output)
    _refuse(arguments, _LATENCY_ONLY, "is for the latency mode, which a limit such as --target-latency turns on")
    if arguments.target_device is None:
        raise BadInput("no device was given", "give --target-device, or a limit such as --target-latency 50ms")
    return _bundle(arguments, output)


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            raise BadInput(f"{option} {why}", f"leave out {option}, or the limit")


def _bundle(arguments: argparse.Namespace, output: Output) -> int:
    from paddle_tk.export.edge.devices import load_device

    device = load_device(arguments.target_device)
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, _earlier_files(target), "bundle")
    _, threads = start("cpu")
    from paddle_tk.data.bundle import read_image
    from paddle_tk.pipelines.edge_bundle import build_bundle

    source = open_any_model(arguments.model_path, arguments)
    for note in source.notes:
        output.warn(note)
    picture = arguments.selftest_image
    instead = "compared on noise, and a drawn self-test picture"
    split, name = images_to_compare(source, arguments, output, instead, apart=_QUANTIZE)
    with atomic_folder(target) as folder:
        bundle = build_bundle(
            source,
            folder,
            device=device,
            quantization=arguments.quantization,
            make_int8=_int8_maker(source, device, arguments, threads, output, has_data=split is not None),
            input_size=arguments.input_size,
            batch_size=arguments.batch_size or 1,
            split=split,
            split_name=name,
            samples=arguments.samples or _SAMPLES,
            picture=None if picture is None else (read_image(picture), picture.name),
            threads=threads,
            debug=arguments.debug,
        )
        size_mib = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MIB
    _tell(bundle, output)
    output.result(
        f"bundle for {device.name}, {size_mib:.1f} MiB, default {bundle.runs[0].told()} -> {arguments.output}"
        + (" (an earlier bundle was replaced)" if replaced else "")
    )
    return EXIT_OK


def _data_items(arguments: argparse.Namespace) -> list[str]:
    return [item for item in all_overrides(arguments) if not item.startswith(_QUANTIZE)]


def _int8_maker(
    source: ModelSource, device: Device, arguments: argparse.Namespace, threads: int, output: Output, *, has_data: bool
) -> Callable[[Path], ModelSource] | str:
    """Returns what opens the INT8 model that was given, or makes one, or why none can be made."""
    from paddle_tk.pipelines.edge_bundle import export_opset
    from paddle_tk.runtime.load import open_model

    def given(_: Path) -> ModelSource:
        return open_model(arguments.int8_model)

    def made(folder: Path) -> ModelSource:
        from paddle_tk.config.load import load_config
        from paddle_tk.pipelines.quantize import Request, quantize

        items = [item for item in all_overrides(arguments) if item.startswith(_QUANTIZE)]
        items += ["quantize.allow_slow=true"] if arguments.allow_slow else []
        request = Request(
            settings=load_config(source.config, items).config.quantize,
            target=device.int8_variant,
            data=arguments.data,
            overrides=_data_items(arguments),
            calibration=arguments.calibration,
            input_size=arguments.input_size,
            validated=arguments.input_size in (None, source.artifact.preprocessing.size),
            opset=export_opset(device),
            threads=threads,
            debug=arguments.debug,
        )
        output.say(f"quantizing for {device.name} ({device.int8_variant})")
        folder.mkdir()
        quantize(source, folder, request, output)
        return open_model(folder)  # with its figures, which are in the manifest

    if arguments.int8_model is not None:
        return given
    if (arguments.batch_size or 1) > 1:
        return f"one that is made here takes one image a run, --batch-size {arguments.batch_size} was asked for"
    return made if has_data or arguments.calibration is not None else "no images to calibrate one with (--calibration)"


def _tell(bundle: EdgeBundle, output: Output) -> None:
    from paddle_tk.export.edge.readme import told_memory

    for statement in bundle.statements:
        output.say(statement)
    for report in bundle.preflights:
        output.say(f"preflight: {report.line()}")
    for run, found in zip(bundle.runs, bundle.estimates, strict=True):
        if found is None:
            continue
        latency = "; ".join(entry.line() for entry in found.latency) or found.reason
        output.say(f"{run.engine} {run.precision}: {latency}; memory in MiB {told_memory(found)} (estimated)")


def _earlier_files(folder: Path) -> frozenset[str] | None:
    """Returns the files an earlier bundle consists of, None where there was none."""
    from paddle_tk.export.edge.bundle import KIND

    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return frozenset({MANIFEST, *manifest["files"]}) if manifest["kind"] == KIND else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
