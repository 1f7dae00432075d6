"""``tools/train.py``: one config in, a trained, measured, usable model out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from paddle_tk.cli import EXIT_BAD_INPUT, EXIT_CRASH, EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.config.load import LoadedConfig, load_config
from paddle_tk.environment.devices import memory_bytes, process_count, require_room
from paddle_tk.environment.ranks import own_rank
from paddle_tk.errors import PaddleTkError
from paddle_tk.training.run_folder import CONFIG, MODEL, Run, discard_unstarted, open_run, read_result, require_run

_DESCRIPTION = """Train a classifier or a detector from one config.

  python tools/train.py                                     ResNet-18 on the embedded digits
  python tools/train.py -c configs/resnet18.yaml data=cifar10 trainer.max_epochs=3
  python tools/train.py -c configs/resnet18.yaml --resume auto
  python tools/train.py -c configs/resnet18.yaml trainer.devices=2      two processes (docs/distributed.md)
  python -m paddle.distributed.launch --nproc_per_node 2 tools/train.py -c configs/resnet18.yaml

Exit codes: 0 done, 1 training diverged or memory ran out, 2 bad input, 70 crashed or a process of the job was lost,
130 / 143 stopped by Ctrl-C / SIGTERM after the state was saved."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/train.py", _DESCRIPTION, config=True)
    parser.add_argument("--run-dir", type=Path, help="run folder (default: runs/<config name>, then -2, -3, ...)")
    parser.add_argument("--resume", metavar="auto|DIR", help="go on from the newest run of this config, or from DIR")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    rank = own_rank()
    if arguments.worker is not None:
        from paddle_tk.pipelines.train_run import train_worker

        train_worker(arguments.worker, rank, output)
        return _done(arguments.worker, output)
    loaded = _load(arguments, output)
    opened: list[Run] = []

    def open_folder() -> Run:
        opened.append(open_run(loaded, arguments.run_dir, arguments.resume))
        return opened[0]

    code = EXIT_CRASH
    try:
        if rank is not None:
            from paddle_tk.pipelines.train_run import train_launched

            run = train_launched(loaded, rank, open_folder, output)
            code = _done(run.folder, output, already=run.finished) if rank.rank == 0 else EXIT_OK
        else:
            run = open_folder()
            code = _done(run.folder, output, already=True) if run.finished else _start(run, loaded, arguments, output)
    except PaddleTkError as error:
        code = error.exit_code
        raise
    finally:
        if code == EXIT_BAD_INPUT and opened and opened[0].fresh:
            discard_unstarted(opened[0].folder)
    return code


def _load(arguments: argparse.Namespace, output: Output) -> LoadedConfig:
    path = arguments.config
    if path is None and arguments.resume not in (None, "auto"):
        path = require_run(Path(arguments.resume)) / CONFIG
    loaded = load_config(path, all_overrides(arguments))
    if loaded.config.data.name != "auto":
        return loaded
    from paddle_tk.pipelines.auto_data import resolve_auto

    # Processes that a launcher has started would all download at once.
    return resolve_auto(loaded, path, all_overrides(arguments), output, may_fetch=own_rank() is None)


def _start(run: Run, loaded: LoadedConfig, arguments: argparse.Namespace, output: Output) -> int:
    """Trains in this process, or in others that this one watches."""
    from paddle_tk.pipelines.train_run import rank_threads, train_worker

    trainer = loaded.config.trainer
    processes = process_count(trainer.devices)
    require_room(processes, memory_bytes())
    flags = [flag for flag in ("--quiet", "--debug") if getattr(arguments, flag[2:])]
    command = [sys.executable, "-m", "paddle_tk.commands.train", "--worker", str(run.folder), *flags]
    if processes > 1:
        from paddle_tk.training.launch import run_job

        threads = rank_threads(loaded.config, processes)
        return run_job(command, processes, run.folder, threads=threads, output=output)
    once = trainer.max_retries == 0 or trainer.fast_dev_run
    if once and loaded.config.data.batch_size != "auto":  # which may ask to be started again
        train_worker(run.folder, None, output)
        return _done(run.folder, output)
    from paddle_tk.training.supervise import supervise

    retries = 0 if once else trainer.max_retries
    return supervise(command, max_retries=retries, retry_delay=trainer.retry_delay, output=output)


def _done(folder: Path, output: Output, *, already: bool = False) -> int:
    if already:
        output.say(f"{folder} is already finished")
    result = read_result(folder)
    final = dict(result["final"])  # type: ignore[call-overload]
    figures = ", ".join(f"{k} {final[k]:.4f}" for k in ("top1", "top5", "map50_95", "map50", "loss") if k in final)
    output.result(
        f"test {figures} (n={final['n']}), {result['seconds']:.1f} s, "
        f"{result['images_per_second']:.0f} training images/s -> {folder / MODEL}"
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
