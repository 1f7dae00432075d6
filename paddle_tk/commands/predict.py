"""``tools/predict.py``: what a model sees in images: pictures with labels or boxes, and predictions.json."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.shared import (
    add_device_option,
    add_engine_option,
    add_foreign_options,
    add_model_option,
    at_least_one,
    load_with_engine,
    open_any_model,
    require_replaceable,
    share,
    start,
    where,
)
from paddle_tk.files import atomic_folder

_DESCRIPTION = """Label images with a trained classifier, or find objects in them with a trained detector.

  python tools/predict.py --model runs/resnet18 photo.jpg --output labelled
  python tools/predict.py --model runs/picodet photos/ --score 0.4 --output found
  python tools/predict.py --model runs/resnet18 photos/ 'more/**/*.png' --output labelled
  python tools/predict.py --model exported/model.onnx photos/ --engine auto --output labelled
  python tools/predict.py --model other.onnx photos/ --task classification --classes cat,dog --output labelled

--output gets one picture per image, with its class above it or boxes drawn, and predictions.json. A folder that holds
anything but an earlier prediction is never touched."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/predict.py", _DESCRIPTION)
    add_model_option(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders or quoted patterns")
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="folder for pictures and JSON")
    parser.add_argument(
        "--top-k", type=at_least_one, default=5, metavar="K", help="classifier: classes to list (default: 5)"
    )
    parser.add_argument(
        "--score", type=share, default=0.25, metavar="S", help="detector: lowest score that is drawn (default: 0.25)"
    )
    parser.add_argument("--batch-size", type=at_least_one, default=32, metavar="N", help="default: 32")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without images that cannot be decoded")
    parser.add_argument("--no-pictures", action="store_true", help="write predictions.json only")
    add_device_option(parser)
    add_engine_option(parser)
    add_foreign_options(parser)
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, _earlier_files(target), "prediction")
    source = open_any_model(arguments.model, arguments)
    for note in source.notes:
        output.warn(note)
    from paddle_tk.pipelines.predict import find_images, predict_images

    paths = find_images(arguments.images, target)
    device, threads = start(arguments.device)
    predictor, engine = load_with_engine(source, arguments.engine, device=device, threads=threads, output=output)
    with atomic_folder(target) as folder, output.progress("images", len(paths)) as advance:
        report = predict_images(
            predictor,
            paths,
            folder,
            top=arguments.top_k,
            least_score=arguments.score,
            batch_size=arguments.batch_size,
            skip_unreadable=arguments.skip_unreadable,
            pictures=not arguments.no_pictures,
            facts={"model": str(arguments.model), "model_sha256": source.sha256, **engine},
            advance=advance,
        )
    for entry in report["images"]:
        output.say(f"{entry['image']}: {_told(entry['predictions'], report['task'])}")
    if report["skipped"]:
        output.warn(f"{len(report['skipped'])} unreadable image(s) left out: {', '.join(report['skipped'][:5])}")
    output.result(
        f"{report['n']} image(s) done in {report['seconds']:.1f} s on {where(predictor)} -> {arguments.output}"
        + (" (an earlier prediction was replaced)" if replaced else "")
    )
    return EXIT_OK


def _told(found: list[dict[str, Any]], task: str) -> str:
    if task == "classification":
        return f"{found[0]['class']} {found[0]['score']:.2f}"
    counts = Counter(entry["class"] for entry in found)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"


def _earlier_files(folder: Path) -> set[str] | None:
    """Returns the files that an earlier prediction wrote into ``folder``, None where there was none."""
    from paddle_tk.pipelines.predict import MADE_BY, PREDICTIONS

    try:
        report = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))
        if report["made_by"] != MADE_BY:
            return None
        return {PREDICTIONS} | {entry["picture"] for entry in report["images"] if entry["picture"] is not None}
    except (OSError, ValueError, KeyError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
