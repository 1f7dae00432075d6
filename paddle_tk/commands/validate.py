"""``tools/validate.py``: tries the whole chain and prints a checklist."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from paddle_tk.cli import EXIT_NO, EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.shared import require_replaceable
from paddle_tk.config.load import config_sha256, load_config

if TYPE_CHECKING:
    from paddle_tk.config.schema import Config
    from paddle_tk.pipelines.validate import Step

_DESCRIPTION = """Try the whole chain: environment, data, train, resume, eval, export to ONNX, parity.

  python tools/validate.py --stage debug                      two batches of everything, seconds on the digits
  python tools/validate.py --stage debug --dataset cifar10 data.root=cifar-10-python.tar.gz
  python tools/validate.py --stage production -c configs/resnet18.yaml --keep validated    the config in full

Exit code 1 where a step failed. Nothing is kept without --keep."""
_STYLE = {"pass": "green", "fail": "bold red", "skipped": "yellow"}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/validate.py", _DESCRIPTION, config=True)
    parser.add_argument("--stage", choices=("debug", "production"), default="debug", help="default: debug")
    parser.add_argument("--dataset", metavar="NAME", help="the same as data=NAME")
    parser.add_argument("--keep", type=Path, metavar="D", help="keep run, resumed run and export in this folder")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the checklist as JSON")
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    dataset = [f"data={arguments.dataset}"] if arguments.dataset is not None else []
    overrides = [*dataset, *all_overrides(arguments)]
    loaded = load_config(arguments.config, overrides)
    if loaded.config.data.name == "auto":
        from paddle_tk.pipelines.auto_data import resolve_auto

        loaded = resolve_auto(loaded, arguments.config, overrides, output, may_fetch=True)
    config = loaded.config
    if arguments.keep is not None:
        require_replaceable(arguments.keep, None, "validation")
    began = time.perf_counter()
    device, threads = _start(config)
    with _folder(arguments.keep) as folder:
        steps = _run(config, arguments, folder, output, device=device, threads=threads)
    failed = [step.name for step in steps if step.status == "fail"]
    seconds = time.perf_counter() - began
    report = {
        "stage": arguments.stage,
        "model": config.model.name,
        "dataset": config.data.name,
        "passed": not failed,
        "seconds": round(seconds, 3),
        "steps": [step.to_dict() for step in steps],
    }
    output.json(arguments.json, report)
    counts = {status: sum(step.status == status for step in steps) for status in _STYLE}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    output.result(
        f"{config.model.name} on {config.data.name}, {arguments.stage}: {told} in {seconds:.0f} s"
        + (f" (failed: {', '.join(failed)})" if failed else "")
    )
    return EXIT_NO if failed else EXIT_OK


def _start(config: Config) -> tuple[str, int]:
    """Starts Paddle and refuses what cannot be at all; whether the rest works is what the steps find out."""
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle(config.trainer.cpu_threads)
    from paddle_tk.data.datasets import DATASETS
    from paddle_tk.environment.devices import resolve_device
    from paddle_tk.models.detectors import check_network_size

    DATASETS.load(config.data.name)
    check_network_size(config.model.name, config.model.stem, config.data.size)
    return resolve_device(config.trainer.accelerator, config.trainer.devices), threads


def _run(
    config: Config, arguments: argparse.Namespace, folder: Path, output: Output, *, device: str, threads: int
) -> list[Step]:
    from paddle_tk.pipelines.validate import Chain, debug_config, validate

    tried = debug_config(config) if arguments.stage == "debug" else config
    chain = Chain(arguments.stage, tried, config_sha256(tried), device, threads, folder, debug=arguments.debug)
    return validate(chain, lambda step: _tell(step, output))


def _tell(step: Step, output: Output) -> None:
    line = Text(f"{step.status:8}", style=_STYLE[step.status])
    line.append(f"{step.name:12}{step.seconds:6.1f} s  ", "default")
    output.say(line.append(step.found + (f". Fix: {step.fix}" if step.fix else ""), "default"))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="paddle_tk-validate-") as name:
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
