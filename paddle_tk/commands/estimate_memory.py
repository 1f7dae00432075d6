"""``tools/estimate_memory.py``: what a training or an inference will take, before anyone rents a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.shared import at_least_one, image_size
from paddle_tk.errors import BadInput

if TYPE_CHECKING:
    from paddle_tk.pipelines.memory_report import Report

_DESCRIPTION = """Tells how much memory a training takes, part by part, and what fits which GPU.

  python tools/estimate_memory.py --model resnet50 --batch-size 64 --input-size 224x224 --optimizer adamw
  python tools/estimate_memory.py -c configs/yolov10n.yaml --batch-size 16 --gb 12
  python tools/estimate_memory.py --model yolov10x --input-size 640x640 --precision bf16 --device gpu --recompute

A few small steps are run on the CPU; no GPU is needed, nor the memory that is told. MB are 2^20 bytes."""
_WHOLE = "all"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/estimate_memory.py", _DESCRIPTION, config=True)
    parser.add_argument("--model", metavar="NAME", help="a network (paddle-tk doctor --models lists them)")
    parser.add_argument("--batch-size", type=at_least_one, metavar="N", help="images of a step (default: 32)")
    parser.add_argument(
        "--input-size", type=image_size, metavar="HxW", help="pixels (default: 224x224, detectors 640x640)"
    )
    parser.add_argument(
        "--optimizer", choices=("sgd", "momentum", "adam", "adamw"), help="sgd: without momentum (default: momentum)"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: fp32")
    parser.add_argument("--amp-level", choices=("O1", "O2"), help="of bf16 and fp16 (default: O1)")
    parser.add_argument("--num-classes", type=at_least_one, metavar="N", help="default: 1000, detectors 80")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: gpu for bf16 and fp16, else cpu"
    )
    parser.add_argument("--stem", choices=("auto", "imagenet", "small"), help="default: imagenet, the published one")
    parser.add_argument("--activation", metavar="A", help="detectors: silu, hardswish, relu or relu6")
    parser.add_argument(
        "--boxes", type=at_least_one, metavar="N", help="detectors: most boxes of an image (default: 20)"
    )
    parser.add_argument("--ema", action="store_true", help="with averaged weights")
    parser.add_argument("--clip", action="store_true", help="with gradient clipping")
    parser.add_argument("--accumulate", type=at_least_one, metavar="N", help="steps of an update (default: 1)")
    parser.add_argument(
        "--recompute", nargs="?", const=_WHOLE, metavar="LAYERS", help="give up activations; of all blocks, or of A,B"
    )
    parser.add_argument("--inference", action="store_true", help="of a forward pass without gradients instead")
    parser.add_argument("--gb", type=_gigabytes, metavar="X", help="also the largest batch for so many GB (2^30 bytes)")
    parser.add_argument(
        "--framework", choices=("paddle", "torch", "both"), default="paddle", help="torch: its twin of the network"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="also write the figures as JSON")
    return run_command(parser, _body, argv)


def _gigabytes(text: str) -> float:
    try:
        value = float(text.lower().removesuffix("gb"))
    except ValueError:
        value = 0.0
    if not 0 < value < 2**20:
        raise argparse.ArgumentTypeError(f"must be a number of GB above 0, such as 12, got '{text}'")
    return value


def _body(arguments: argparse.Namespace, output: Output) -> int:
    overrides = all_overrides(arguments)
    if arguments.config is None and arguments.model is None:
        raise BadInput("which network?", "give --model NAME, or -c CONFIG")
    if arguments.config is None and overrides:
        raise BadInput(f"{overrides[0]} is a setting of a config", "give -c CONFIG, or an option instead")
    from paddle_tk.pipelines.memory_report import Asked, report

    names = ("model", "batch_size", "num_classes", "stem", "activation", "boxes", "optimizer", "precision", "amp_level",
             "accumulate")  # fmt: skip
    asked = Asked(
        config=arguments.config,
        overrides=tuple(overrides),
        size=arguments.input_size,
        recompute=_recompute(arguments.recompute),
        device=None if arguments.device == "auto" else arguments.device,
        ema=True if arguments.ema else None,
        clip=True if arguments.clip else None,
        inference=arguments.inference,
        gigabytes=arguments.gb,
        **{name: getattr(arguments, name) for name in names},
    )
    frameworks = ("paddle", "torch") if arguments.framework == "both" else (arguments.framework,)
    reports = [report(asked, framework, output) for framework in frameworks]
    output.say(_parts(reports))
    output.say(_gpus(reports))
    for note in dict.fromkeys(note for one in reports for note in one.estimate.notes):
        output.say(f"note: {note}")
    first, *others = reports
    output.json(arguments.json, {**first.to_dict(), **{other.framework: other.to_dict() for other in others}})
    for one in reports:
        output.result(one.line())
    return EXIT_OK


def _recompute(given: str | None) -> bool | tuple[str, ...] | None:
    if given is None:
        return None
    return True if given == _WHOLE else tuple(part.strip() for part in given.split(",") if part.strip())


_PARTS = (
    ("parameters", "parameters_mb", "with batch-norm statistics"),
    ("gradients", "gradients_mb", ""),
    ("optimizer state", "optimizer_mb", "with averaged and master weights"),
    ("activations", "activations_mb", "with the input batch"),
    ("workspace", "workspace_mb", "buffers of operators, gradients of activations"),
    ("peak", "peak_mb", "of the allocator, in a step"),
    ("data cache", "data_cache_mb", "batches that the loader has ready, host memory"),
    ("safety margin", "safety_margin_mb", "50 %, to stay free"),
    ("total", "total_mb", ""),
    ("GPU besides", "device_overhead_mb", "CUDA context, largest cuDNN workspace (cited)"),
)


def _parts(reports: Sequence[Report]) -> Table:
    table = Table("memory", *(f"{one.framework}, MB" for one in reports), "", box=None, pad_edge=False)
    for name, key, remark in _PARTS:
        values: list[Any] = [getattr(one.estimate, key) for one in reports]
        if key == "device_overhead_mb" and not any(values):
            continue
        style = "bold" if key in ("peak_mb", "total_mb") else None
        table.add_row(name, *(f"{value:,.1f}" for value in values), remark, style=style)
    return table


def _gpus(reports: Sequence[Report]) -> Table:
    columns = [column for one in reports for column in (f"{one.framework}: fits", "largest batch")]
    table = Table("GPU", *columns, "", box=None, pad_edge=False)
    for name, gpu in reports[0].gpus.items():
        cells = []
        for one in reports:
            cells += ["yes" if one.gpus[name].fits else "no", str(one.gpus[name].largest_batch)]
        table.add_row(gpu.title, *cells, "shares the machine's RAM" if gpu.shared else "")
    return table
