"""``tools/compare.py``: one config, several frameworks, measurements, a decision and a report."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.table import Table

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.shared import require_replaceable
from paddle_tk.config.load import LoadedConfig, load_config, to_yaml
from paddle_tk.errors import BadInput, Stopped
from paddle_tk.evidence import NAME as MEASUREMENTS
from paddle_tk.evidence import Evidence
from paddle_tk.files import atomic_folder, write_bytes_atomic
from paddle_tk.types import Decision

_DESCRIPTION = """Compares Paddle and torch on one config: the same first weights, the same batches, fresh processes in
turn; refuses where the two do not compute the same. Then weighs what was found and writes a report.

  python tools/compare.py -c configs/compare/resnet18.yaml --output outputs/compare
  python tools/compare.py -c configs/compare/resnet18.yaml --output outputs/compare --quick
  python tools/compare.py -c configs/compare/resnet18.yaml --output D decide.familiarity.torch=4 report.language=zh

Exit codes: 0 done (also where the evidence allows no choice), 1 parity failed or a process failed or took too long
(nothing is written), 2 bad input."""
_CONFIG = "config.yaml"
_FILES = (MEASUREMENTS, "decision.json", "report.html", "report.md", "report.json", _CONFIG)
_SHOWN = (
    ("training_throughput", "training, images/s"),
    ("fit_overhead", "high-level / bare step"),
    ("time_to_target", "time to target, s"),
    ("final_accuracy", "test accuracy"),
    ("inference_latency", "latency p50, ms"),
    ("onnx_latency", "in ONNX Runtime, ms"),
    ("peak_memory_training", "training memory, MiB"),
    ("cold_start", "cold start, s"),
    ("installed_size", "installed, MiB"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/compare.py", _DESCRIPTION, config=True)
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="folder for measurements and report")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, steps and epochs, no bare loop; the same checks"
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu or gpu:N (default: cpu)")
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    loaded = load_config(arguments.config, all_overrides(arguments))
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, _earlier_files(target), "comparison")
    from paddle_tk.environment.start import start_paddle

    threads = start_paddle(loaded.config.trainer.cpu_threads)
    evidence = _measure(loaded, arguments, threads, output)
    from paddle_tk.pipelines.compare_and_decide import write_comparison

    with atomic_folder(target) as folder:
        decision = write_comparison(folder, evidence, loaded.config)
        write_bytes_atomic(folder / _CONFIG, to_yaml(loaded.config).encode())
    _tell(evidence, decision, output)
    output.result(
        f"{_verdict(decision)} -> {arguments.output / 'report.html'}"
        + (" (an earlier comparison was replaced)" if replaced else "")
    )
    return EXIT_OK


def _measure(loaded: LoadedConfig, arguments: argparse.Namespace, threads: int, output: Output) -> Evidence:
    from paddle_tk.environment.devices import resolve_device
    from paddle_tk.pipelines.compare_candidates import effort_of
    from paddle_tk.pipelines.compare_options import compare_options

    given = arguments.device
    device = resolve_device("cpu" if given == "cpu" else "gpu", "auto" if given in ("cpu", "gpu") else given)
    effort = effort_of(loaded.config, threads=threads, device=device, quick=arguments.quick)
    # Beside the output, not in /tmp, which may be small: the batches of all epochs lie here.
    parent = _existing_parent(arguments.output)
    work = Path(tempfile.mkdtemp(prefix=".tmp-compare-", dir=parent))
    signal.signal(signal.SIGTERM, _stop)
    try:
        return compare_options(
            loaded.config, work, effort, command=_command(arguments), settings=_settings(loaded), output=output
        )  # fmt: skip
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _stop(number: int, frame: object) -> None:
    # An exception, so that the running process is ended and the work folder removed on the way out.
    raise Stopped("stopped by SIGTERM; nothing is written", "start the comparison anew", number)


def _existing_parent(path: Path) -> Path:
    from paddle_tk.files import existing_parent

    parent = existing_parent(path.expanduser().resolve().parent)
    if not parent.is_dir():
        raise BadInput(f"{parent} is no folder", "choose another --output")
    return parent


def _command(arguments: argparse.Namespace) -> str:
    parts = ["python", "tools/compare.py"]
    if arguments.config is not None:
        parts += ["-c", str(arguments.config)]
    parts += ["--output", "DIR", *(["--quick"] if arguments.quick else [])]
    parts += ["--device", arguments.device] if arguments.device != "cpu" else []
    return shlex.join([*parts, *all_overrides(arguments)])


def _settings(loaded: LoadedConfig) -> dict[str, object]:
    tree = loaded.config.model_dump(mode="json")
    return {"config": {key: tree[key] for key in ("model", "data", "trainer", "compare")}, "seed": loaded.config.seed}


def _tell(evidence: Evidence, decision: Decision, output: Output) -> None:
    table = Table("", *(option.label for option in evidence.options), box=None, pad_edge=False)
    for name, title in _SHOWN:
        found = [evidence.find(option.name, name) for option in evidence.options]
        table.add_row(title, *("not measured" if m is None else f"{m.value:.4g} (n={m.n})" for m in found))
    by_name = {option.name: option for option in decision.options}
    sums = [by_name[option.name] for option in evidence.options]
    shown = (f"{s.score:.3f}" if s.score is not None else f"{s.low:.2f} to {s.high:.2f}" for s in sums)
    table.add_row("weighted sum, of 5", *shown)
    output.say(table)
    for pair in evidence.comparisons:
        output.say(
            f"{pair.name}: {pair.a} / {pair.b} = {pair.ratio:.3f} ({pair.low:.3f} to {pair.high:.3f}, "
            f"n={pair.n}): {pair.verdict}"
        )


def _verdict(decision: Decision) -> str:
    return f"choice: {decision.choice or 'none'}. {decision.reason}"


def _earlier_files(folder: Path) -> Collection[str] | None:
    if not (folder / MEASUREMENTS).is_file() or not (folder / "decision.json").is_file():
        return None
    return [*_FILES, *(f"plots/{file.name}" for file in folder.glob("plots/*.svg"))]


if __name__ == "__main__":
    sys.exit(main())
