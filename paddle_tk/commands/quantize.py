"""``tools/quantize.py``: a trained model as an INT8 ONNX file that is fast, and as good as its float parent."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.shared import (
    add_data_options,
    add_foreign_options,
    add_model_option,
    at_least_one,
    earlier_files,
    image_size,
    open_any_model,
    require_replaceable,
    start,
)
from paddle_tk.files import MIB, atomic_folder

if TYPE_CHECKING:
    from paddle_tk.config.schema import QuantizeConfig
    from paddle_tk.pipelines.quantize_model import Quantized
    from paddle_tk.runtime.load import ModelSource

_DESCRIPTION = """Quantize a model to INT8, calibrated by PaddleSlim's observers; measure what it costs and brings.

  python tools/quantize.py --model runs/resnet18 --output int8
  python tools/quantize.py --model runs/resnet18 --target tensorrt --calibration int8/calibration.json --output trt
  python tools/quantize.py --model runs/mobilenet_v2 --method qat --output int8_qat
  python tools/quantize.py --model other.onnx --calibration photos/ --task classification --classes cat,dog --output q

--output gets model.int8.onnx, manifest.json, quantization.json (what was quantized, what was not and why, accuracy,
size and latency against FP32) and calibration.json. Exit code 1, and nothing written, where a limit of the section
`quantize` of the config is broken; -o quantize.KEY=VALUE changes one."""
_ALGORITHMS = ("abs_max", "hist", "avg", "kl", "mse", "emd")
_TARGETS = ("x86", "arm", "tensorrt")
_SHOWN = 8
_OVERFLOW = (
    "this processor has no VNNI: its 16-bit sums may overflow with 8-bit weights, which the accuracy measured here "
    "shows; quantize.weight_bits=7 avoids it"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/quantize.py", _DESCRIPTION)
    add_model_option(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="folder to write")
    parser.add_argument(
        "--method", choices=("ptq", "qat"), help="ptq: calibration only; qat: fine-tuning (default: ptq)"
    )
    parser.add_argument("--algorithm", choices=_ALGORITHMS, help="observer of the activations (default: abs_max)")
    parser.add_argument("--target", choices=_TARGETS, default="x86", help="whose form (default: x86)")
    parser.add_argument(
        "--calibration", metavar="X", help="folder of images, a dataset, or an earlier calibration.json (default: the "
        "model's own training images)",
    )  # fmt: skip
    parser.add_argument("--samples", type=at_least_one, metavar="N", help="calibration images (default: 512)")
    parser.add_argument(
        "--max-drop", type=_points, metavar="P", help="points of the main metric that may be lost; layers that cost "
        "more are left in float (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-float", action="append", default=[], metavar="NODE", help="a node that stays in float; may be repeated"
    )
    parser.add_argument("--allow-slow", action="store_true", help="ship it even where it is slower than FP32")
    parser.add_argument("--input-size", type=image_size, metavar="HxW", help="pixels (default: the training's)")
    parser.add_argument(
        "--allow-unvalidated", action="store_true", help="for latency only: measure no accuracy, and say so inside"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set, 13 to 21 (default: the target's)")
    parser.add_argument("--run-dir", type=Path, metavar="D", help="of the fine-tuning with --method qat")
    add_foreign_options(parser)
    add_data_options(parser)
    return run_command(parser, _body, argv)


def _points(text: str) -> float:
    """Parses accuracy points, 0 to 100, as a share."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be points from 0 to 100, got '{text}'")
    return value / 100


def _body(arguments: argparse.Namespace, output: Output) -> int:
    _, threads = start("cpu")
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, _earlier_files(target), "quantized model")
    source = open_any_model(arguments.model, arguments)
    from paddle_tk.pipelines.quantize import Request, quantize

    settings = _settings(source, arguments)
    overflows = _may_overflow(arguments.target, settings.weight_bits)
    request = Request(
        settings=settings,
        target=arguments.target,
        data=arguments.data,
        overrides=[item for item in all_overrides(arguments) if not item.startswith("quantize.")],
        calibration=arguments.calibration,
        keep=tuple(arguments.keep_float),
        input_size=arguments.input_size,
        validated=not arguments.allow_unvalidated,
        opset=arguments.opset,
        run_dir=arguments.run_dir,
        threads=threads,
        debug=arguments.debug,
        accuracy_hint=_OVERFLOW if overflows else "",
    )
    with atomic_folder(target) as folder:
        found = quantize(source, folder, request, output)
        size_mib = found.model.file.stat().st_size / MIB
    if overflows:
        output.warn(_OVERFLOW)
    _tell(found, output)
    output.result(
        f"INT8 for {arguments.target}, {size_mib:.1f} MiB: {found.gate.line()} -> {arguments.output}"
        + (" (an earlier one was replaced)" if replaced else "")
    )
    return EXIT_OK


def _settings(source: ModelSource, arguments: argparse.Namespace) -> QuantizeConfig:
    """Returns the section of the model's own config, with what the command line says instead."""
    from paddle_tk.config.load import load_config

    given = {
        "method": arguments.method,
        "algorithm": arguments.algorithm,
        "samples": arguments.samples,
        "max_drop": arguments.max_drop,
        "allow_slow": True if arguments.allow_slow else None,
    }
    items = [item for item in all_overrides(arguments) if item.startswith("quantize.")]
    items += [f"quantize.{key}={str(value).lower()}" for key, value in given.items() if value is not None]
    return load_config(source.config, items).config.quantize


def _may_overflow(target: str, weight_bits: int) -> bool:
    from paddle_tk.environment.processor import has_vnni

    return target == "x86" and weight_bits == 8 and has_vnni() is False


def _tell(found: Quantized, output: Output) -> None:
    table = Table("", "FP32", "INT8", "INT8 / FP32", box=None, pad_edge=False)
    for name, right in found.pair.fp32.items():
        table.add_row(name, f"{right:.4f}", f"{found.pair.int8[name]:.4f}", "")
    for name in ("p50", "p95"):
        if found.latency:
            times = {key: getattr(entry, f"{name}_ms") for key, entry in found.latency.items()}
            table.add_row(
                f"latency {name}, ms",
                f"{times['fp32']:.2f}",
                f"{times['int8']:.2f}",
                f"{times['int8'] / times['fp32']:.3f}",
            )
    table.add_row("file, share", "1", f"{found.figures.size_ratio:.4f}", "")
    output.say(table)
    output.say(
        f"{len(found.report.quantized)} nodes compute in integers, {len(found.report.skipped)} were left in float"
    )
    for name, why in list(found.report.skipped.items())[:_SHOWN]:
        output.say(f"  {name}: {why}")


def _earlier_files(folder: Path) -> Collection[str] | None:
    from paddle_tk.export.qdq.write import MADE_BY
    from paddle_tk.pipelines.quantize import FILES

    return earlier_files(folder, MADE_BY, FILES)


if __name__ == "__main__":
    sys.exit(main())
