"""The latency mode of ``tools/optimize_for_edge.py``: the best model inside given limits on the machine at hand.

Its options are in ``paddle_tk.commands.limits``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from paddle_tk.cli import EXIT_OK, Output, all_overrides
from paddle_tk.commands.limits import limits_of
from paddle_tk.commands.shared import open_any_model, require_replaceable, start
from paddle_tk.errors import BadInput
from paddle_tk.files import atomic_folder


def run_latency_mode(arguments: argparse.Namespace, output: Output) -> int:
    """Runs the mode for a command line of ``tools/optimize_for_edge.py``; returns the exit code.

    Raises:
        BadInput: No limit, a folder that is not free, an option that cannot be.
        CheckFailed: Nothing keeps all limits.
    """
    limits = limits_of(arguments)
    if limits is None:
        raise BadInput("no limit was given", "give --target-latency, --min-fps, --max-memory or --max-cpu")
    if arguments.quantization == "fp16":
        raise BadInput("--quantization fp16 is for a bundle's TensorRT engine", "use auto, fp32 or int8")
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, earlier_files(target), "result of the latency mode")
    _, threads = start("cpu")
    from paddle_tk.config.load import load_config
    from paddle_tk.pipelines.latency_search import search_latency
    from paddle_tk.runtime.load import open_model

    source = open_any_model(arguments.model_path, arguments)
    for note in source.notes:
        output.warn(note)
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
