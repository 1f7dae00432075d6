"""The latency mode of ``tools/optimize_for_edge.py``: the best model inside given limits on the machine at hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.limits import add_limit_options, limits_of
from paddle_tk.commands.shared import add_data_options, require_replaceable, start
from paddle_tk.errors import BadInput
from paddle_tk.files import atomic_folder

_DESCRIPTION = """Find the best model inside limits on this machine.

  python tools/optimize_for_edge.py --target-latency 50ms --model-path runs/resnet18 --output fast
  python tools/optimize_for_edge.py --min-fps 100 --max-memory 1GB --model-path runs/picodet --output fast

--output gets model/, which --model takes everywhere, and latency.json: the settings, every figure, every candidate and
why it lost. Exit code 1, and nothing written, where nothing keeps all limits."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the mode by itself; returns the exit code."""
    parser = make_parser("tools/optimize_for_edge.py", _DESCRIPTION)
    parser.add_argument(
        "--model-path", type=Path, required=True, metavar="M", help="a run folder, a model folder or an ONNX file"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="folder to write")
    parser.add_argument("--quantization", choices=("auto", "fp32", "int8"), default="auto", help="auto: both (default)")
    parser.add_argument("--int8-model", type=Path, metavar="X", help="an INT8 model of the same weights")
    parser.add_argument("--calibration", metavar="X", help="for an INT8 model made here, as in tools/quantize.py")
    add_limit_options(parser)
    add_data_options(parser)
    return run_command(parser, run_latency_mode, argv)


def run_latency_mode(arguments: argparse.Namespace, output: Output) -> int:
    """Runs the mode for a command line with ``add_limit_options`` and those of ``main``; returns the exit code.

    Raises:
        BadInput: No limit, a folder that is not free, an option that cannot be.
        CheckFailed: Nothing keeps all limits.
    """
    limits = limits_of(arguments)
    if limits is None:
        raise BadInput("no limit was given", "give --target-latency, --min-fps, --max-memory or --max-cpu")
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, earlier_files(target), "result of the latency mode")
    _, threads = start("cpu")
    from paddle_tk.config.load import load_config
    from paddle_tk.pipelines.latency_search import search_latency
    from paddle_tk.runtime.load import open_model

    source = open_model(arguments.model_path)
    items = all_overrides(arguments)
    own = [item for item in items if item.startswith("quantize.")]
    with atomic_folder(target) as folder:
        found = search_latency(
            source, folder, limits,
            sizes=arguments.input_sizes,
            engines=arguments.engines,
            precisions=("fp32", "int8") if arguments.quantization == "auto" else (arguments.quantization,),
            int8_model=None if arguments.int8_model is None else open_model(arguments.int8_model),
            calibration=arguments.calibration,
            data=arguments.data,
            overrides=[item for item in items if item not in own],
            quantization=load_config(source.config, own).config.quantize,
            threads=threads,
            debug=arguments.debug,
            output=output,
        )  # fmt: skip
        told = found.settings.told()
    judged = found.said["judged"]
    output.result(
        f"{told}: p{limits.percentile} {judged['latency_ms']:.2f} ms (n={judged['n']}), "
        f"{judged['images_per_second']:.0f} images/s, {judged['peak_mib']:.0f} MiB -> {arguments.output}"
        + (" (an earlier result was replaced)" if replaced else "")
    )
    return EXIT_OK


def earlier_files(folder: Path) -> frozenset[str] | None:
    """Returns the files an earlier run of the mode wrote into a folder, None where there was none."""
    try:
        said = json.loads((folder / "latency.json").read_text(encoding="utf-8"))
        return frozenset(["latency.json", *said["files"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
