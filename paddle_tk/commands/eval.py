"""``tools/eval.py``: how good a trained model is on images it has not seen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.shared import (
    add_data_options,
    add_device_option,
    add_engine_option,
    add_foreign_options,
    add_model_option,
    at_least_one,
    load_with_engine,
    open_any_model,
    start,
    where,
)

if TYPE_CHECKING:
    from paddle_tk.evaluate.classification import ClassificationEvaluation
    from paddle_tk.evaluate.detection import DetectionEvaluation

_DESCRIPTION = """Evaluate a model on the held-out images of its own run, or on another dataset with the same classes.

  python tools/eval.py --model runs/resnet18
  python tools/eval.py --model exported/model.onnx --json result.json
  python tools/eval.py --model exported/model.onnx --engine auto
  python tools/eval.py --model other.onnx --task classification --classes names.txt --data image_folder data.root=photos
  python tools/eval.py --model runs/flowers --data image_folder data.root=~/other_flowers --split test"""
_MAX_ROWS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/eval.py", _DESCRIPTION)
    add_model_option(parser)
    add_data_options(parser)
    parser.add_argument("--split", choices=("test", "val", "train"), default="test", help="default: test")
    parser.add_argument("--batch-size", type=at_least_one, metavar="N", help="images per batch (default: the config's)")
    add_device_option(parser)
    add_engine_option(parser)
    parser.add_argument("--json", type=Path, metavar="F", help="also write the figures as JSON")
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="D",
        help="also draw the confusion matrix and a detector's precision and recall",
    )
    add_foreign_options(parser)
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    source = open_any_model(arguments.model, arguments)
    for note in source.notes:
        output.warn(note)
    device, threads = start(arguments.device)
    from paddle_tk.evaluate.classes import check_classes
    from paddle_tk.evaluate.classification import ClassificationEvaluation
    from paddle_tk.evaluate.task import evaluate
    from paddle_tk.pipelines.model_data import load_model_data

    data = load_model_data(source, arguments.data, all_overrides(arguments))
    check_classes(source.artifact, data.bundle)
    if not data.own and arguments.split == "test":
        output.say(f"it is not known whether the model was trained on some of these images of {data.bundle.name}")
    split = data.bundle.splits[arguments.split]
    predictor, engine = load_with_engine(source, arguments.engine, device=device, threads=threads, output=output)
    workers, prefetch = data.workers(split)
    with output.progress(f"{data.bundle.name} {arguments.split}", len(split)) as advance:
        found = evaluate(
            predictor,
            split,
            batch_size=arguments.batch_size or data.config.data.plain_batch_size,
            label_smoothing=data.label_smoothing,
            num_workers=workers,
            prefetch_factor=prefetch,
            advance=advance,
        )
    output.say(_top1_table(found) if isinstance(found, ClassificationEvaluation) else _precision_table(found))
    if arguments.plots is not None:
        _write_plots(found, arguments.plots)
    output.json(
        arguments.json,
        {
            **found.to_dict(),
            "model": str(arguments.model),
            "model_sha256": source.sha256,
            "format": source.artifact.format,
            **engine,
            "dataset": data.bundle.name,
            "dataset_fingerprint": data.bundle.fingerprint,
            "split": arguments.split,
        },
    )
    figures = ", ".join(f"{name} {value:.4f}" for name, value in found.figures.items())
    loss = f", loss {found.loss:.4f}" if isinstance(found, ClassificationEvaluation) else ""
    output.result(
        f"{data.bundle.name} {arguments.split}: {figures}{loss} (n={found.n}), "
        f"{found.images_per_second:.0f} images/s on {where(predictor)}"
    )
    return EXIT_OK


def _precision_table(found: DetectionEvaluation) -> Table:
    table = Table("class", "AP50-95", "AP50", "boxes", box=None, pad_edge=False)
    said = found.coco.to_dict()
    rows = list(said["per_class"].items())
    if len(rows) > _MAX_ROWS:
        rows = sorted(rows, key=lambda row: 2.0 if row[1]["ap50_95"] is None else row[1]["ap50_95"])[:_MAX_ROWS]
        table.title = f"the {_MAX_ROWS} worst of {len(found.classes)} classes"
    for name, figures in rows:
        table.add_row(name, _share(figures["ap50_95"]), _share(figures["ap50"]), str(figures["n"]))
    table.add_section()
    for name in ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "ar100"):
        table.add_row(f"all, {name}", _share(said[name]))
    return table


def _share(value: float | None) -> str:
    return "no boxes" if value is None else f"{value:.4f}"


def _write_plots(found: ClassificationEvaluation | DetectionEvaluation, folder: Path) -> None:
    from paddle_tk.pipelines.evaluation_plots import write_plots

    write_plots(found, folder)


def _top1_table(found: ClassificationEvaluation) -> Table:
    table = Table("class", "top-1", "n", box=None, pad_edge=False)
    rows = list(found.per_class().items())
    if len(rows) > _MAX_ROWS:  # of many classes, those that are worst
        rows = sorted(rows, key=lambda row: 2.0 if row[1]["top1"] is None else row[1]["top1"])[:_MAX_ROWS]
        table.title = f"the {_MAX_ROWS} worst of {len(found.classes)} classes"
    for name, figures in rows:
        share = figures["top1"]
        table.add_row(name, "no images" if share is None else f"{share:.4f}", str(figures["n"]))
    table.add_section()
    for name, value in found.accuracy.items():
        table.add_row(f"all, {name.replace('top', 'top-')}", f"{value:.4f}", str(found.n))
    table.add_row("all, macro recall", f"{found.macro_recall:.4f}", str(found.n))
    return table


if __name__ == "__main__":
    sys.exit(main())
