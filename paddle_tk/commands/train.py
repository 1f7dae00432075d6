"""``tools/train.py``: one config in, a trained, measured, usable model out."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from paddle_tk.cli import EXIT_BAD_INPUT, EXIT_CRASH, EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.config.load import LoadedConfig, load_config
from paddle_tk.errors import PaddleTkError
from paddle_tk.files import write_json
from paddle_tk.training.run_folder import (
    CONFIG,
    ENVIRONMENT,
    MODEL,
    Run,
    discard_unstarted,
    locked,
    open_run,
    read_result,
    require_run,
)

_DESCRIPTION = """Train a classifier from one config.

  python tools/train.py                                     ResNet-18 on the embedded digits
  python tools/train.py -c configs/resnet18.yaml data=cifar10 trainer.max_epochs=3
  python tools/train.py -c configs/resnet18.yaml --resume auto

Exit codes: 0 done, 1 training diverged, 2 bad input, 70 crashed,
130 / 143 stopped by Ctrl-C / SIGTERM after the state was saved."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/train.py", _DESCRIPTION, config=True)
    parser.add_argument("--run-dir", type=Path, help="run folder (default: runs/<config name>, then -2, -3, ...)")
    parser.add_argument("--resume", metavar="auto|DIR", help="go on from the newest run of this config, or from DIR")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.worker is not None:
        return _work(arguments.worker, output)
    loaded = _load(arguments)
    run = open_run(loaded, arguments.run_dir, arguments.resume)
    if run.finished:
        output.say(f"{run.folder} is already finished")
        _print_result(run.folder, output)
        return EXIT_OK
    code = EXIT_CRASH
    try:
        code = _train(run, loaded, arguments, output)
    except PaddleTkError as error:
        code = error.exit_code
        raise
    finally:
        if code == EXIT_BAD_INPUT and run.fresh:
            discard_unstarted(run.folder)
    return code


def _load(arguments: argparse.Namespace) -> LoadedConfig:
    path = arguments.config
    if path is None and arguments.resume not in (None, "auto"):
        path = require_run(Path(arguments.resume)) / CONFIG
    return load_config(path, all_overrides(arguments))


def _train(run: Run, loaded: LoadedConfig, arguments: argparse.Namespace, output: Output) -> int:
    trainer = loaded.config.trainer
    if trainer.max_retries == 0 or trainer.fast_dev_run:
        return _work(run.folder, output)
    from paddle_tk.training.supervise import supervise

    flags = [flag for flag in ("--quiet", "--debug") if getattr(arguments, flag[2:])]
    command = [sys.executable, "-m", "paddle_tk.commands.train", "--worker", str(run.folder), *flags]
    return supervise(command, max_retries=trainer.max_retries, retry_delay=trainer.retry_delay, output=output)


def _work(folder: Path, output: Output) -> int:
    """Trains in this process, from the folder's newest checkpoint where there is one."""
    loaded = load_config(folder / CONFIG)
    from paddle_tk.environment.start import start_paddle
    from paddle_tk.training.supervise import die_with_parent

    die_with_parent()
    start_paddle(loaded.config.trainer.cpu_threads)
    from paddle_tk.environment.devices import resolve_device
    from paddle_tk.environment.versions import environment_report
    from paddle_tk.training.build import build_trainer

    with locked(folder):
        device = resolve_device(loaded.config.trainer.accelerator, loaded.config.trainer.devices)
        write_json(folder / ENVIRONMENT, environment_report())
        trainer = build_trainer(loaded.config, folder, loaded.sha256, device, output)
        result = trainer.run()
    if result is None:
        number = trainer.model.stop_signal or signal.SIGINT
        output.errors.print(
            f"stopped after update {trainer.model.progress.updates}; everything is saved. "
            f"Go on with: python tools/train.py --resume {folder}"
        )
        return 128 + number
    _print_result(folder, output)
    return EXIT_OK


def _print_result(folder: Path, output: Output) -> None:
    result = read_result(folder)
    final = dict(result["final"])  # type: ignore[call-overload]
    figures = ", ".join(f"{k} {final[k]:.4f}" for k in ("top1", "top5", "map50_95", "map50", "loss") if k in final)
    output.result(
        f"test {figures} (n={final['n']}), {result['seconds']:.1f} s, "
        f"{result['images_per_second']:.0f} training images/s -> {folder / MODEL}"
    )


if __name__ == "__main__":
    sys.exit(main())
