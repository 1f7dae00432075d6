"""``tools/export.py``: a trained model as an ONNX file that is proven to compute the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.shared import (
    add_data_options,
    add_model_option,
    at_least_one,
    earlier_files,
    image_size,
    images_to_compare,
    require_replaceable,
    start,
)
from paddle_tk.files import MIB, atomic_folder

if TYPE_CHECKING:
    from paddle_tk.export.onnx import OnnxModel
    from paddle_tk.runtime.load import ModelSource

_DESCRIPTION = """Export a Paddle model to ONNX and prove on real images that both compute the same.

  python tools/export.py --model runs/resnet18 --output exported
  python tools/export.py --model runs/resnet18 --output exported --opset 13 --dynamic-batch
  python tools/export.py --model runs/resnet18 --output exported --target-device jetson-nano

Batch norms and constants are folded. --output gets model.onnx (classes and preprocessing inside), manifest.json,
parity.json and the training's config.
Exit code 1, and nothing written, where ONNX Runtime and Paddle disagree."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/export.py", _DESCRIPTION)
    add_model_option(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="folder to write")
    parser.add_argument(
        "--target-device", metavar="NAME", help="write what this device's engine takes, for instance jetson-nano"
    )
    parser.add_argument(
        "--opset", type=int, metavar="N", help="ONNX operator set, 9 to 21 (default: 17, or the device's newest below)"
    )
    parser.add_argument("--ir-version", type=int, metavar="N", help="ONNX file format (default: that of the opset)")
    parser.add_argument("--input-size", type=image_size, metavar="HxW", help="pixels (default: the training's)")
    parser.add_argument(
        "--allow-unvalidated",
        action="store_true",
        help="another --input-size than the trained one is for latency only, and the manifest says so",
    )
    parser.add_argument("--dynamic-batch", action="store_true", help="any batch size (default: 1, fixed)")
    parser.add_argument("--samples", type=at_least_one, default=64, metavar="N", help="images to compare (default: 64)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        metavar="T",
        help="largest difference of a logit that passes, as a share of the largest logit (default: 1e-4)",
    )
    add_data_options(parser)
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    _, threads = start("cpu")
    from paddle_tk.runtime.load import open_model

    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, _earlier_files(target), "export")
    from paddle_tk.export.target import resolve_target
    from paddle_tk.pipelines.export_model import export_model, refuse_onnx, require_paddle

    wanted = resolve_target(arguments.target_device, arguments.opset, arguments.ir_version)
    if arguments.model.is_file() and arguments.model.suffix == ".onnx":
        refuse_onnx(arguments.model)
    source = open_model(arguments.model)
    require_paddle(source)
    split, name = images_to_compare(source, arguments, output, "compared on noise, not on images")
    count = min(arguments.samples, len(split)) if split is not None else arguments.samples
    with atomic_folder(target) as folder, output.progress("comparing", count) as advance:
        model, parity = export_model(
            source,
            folder,
            split=split,
            split_name=name,
            count=count,
            input_size=arguments.input_size,
            target=wanted,
            dynamic_batch=arguments.dynamic_batch,
            latency_only=arguments.allow_unvalidated,
            tolerance=arguments.tolerance,
            threads=threads,
            debug=arguments.debug,
            advance=advance,
        )
        size_mib = model.file.stat().st_size / MIB
    if model.opset != wanted.opset:
        output.warn(f"the network needs opset {model.opset}, {wanted.opset} was asked for")
    _tell_size(source, model.artifact.preprocessing.size, arguments.allow_unvalidated, output)
    output.say(f"parity: {parity.line()}")
    output.result(
        f"{_form(model)}, {size_mib:.1f} MiB -> {arguments.output}"
        + (" (an earlier export was replaced)" if replaced else "")
    )
    return EXIT_OK


def _form(model: OnnxModel) -> str:
    form, shape = model.form, list(model.artifact.inputs[0].shape)
    return f"ONNX opset {form['opset']}, IR version {form['ir_version']}, {form['nodes']} nodes, input {shape}"


def _tell_size(source: ModelSource, size: tuple[int, int], latency_only: bool, output: Output) -> None:
    trained = source.artifact.preprocessing.size
    if size != trained and latency_only:
        output.say(f"for latency only: trained at {trained[0]}x{trained[1]} px, exported at {size[0]}x{size[1]}")
    elif size != trained:
        output.warn(
            f"the model was trained at {trained[0]}x{trained[1]} px and exported at {size[0]}x{size[1]}: its accuracy "
            "there may be far lower; measure it with tools/eval.py before it is used"
        )


def _earlier_files(folder: Path) -> Collection[str] | None:
    from paddle_tk.export.onnx import MADE_BY
    from paddle_tk.pipelines.export_model import FILES

    return earlier_files(folder, MADE_BY, FILES)


if __name__ == "__main__":
    sys.exit(main())
