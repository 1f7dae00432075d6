"""``tools/decide.py``: what is needed and what was measured -> a decision, a technical specification, a project."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from paddle_tk.cli import EXIT_OK, Output, all_overrides, make_parser, run_command
from paddle_tk.commands.shared import require_replaceable
from paddle_tk.config.load import load_config
from paddle_tk.errors import BadInput
from paddle_tk.files import atomic_folder, write_bytes_atomic

if TYPE_CHECKING:
    from paddle_tk.config.schema import Config
    from paddle_tk.decide.requirements import Requirements
    from paddle_tk.decide.spec import Spec
    from paddle_tk.pipelines.decide_spec import Weighing
    from paddle_tk.types import Decision

_DESCRIPTION = """Reads what is needed (CREATE.md), what is planned (PLANNING.md) and what was measured, and writes the
decision and the technical specification INITIAL.md.

  python tools/decide.py --init
  python tools/decide.py --create CREATE.md --planning PLANNING.md --output outputs/decision
  python tools/decide.py --create CREATE.md --planning PLANNING.md --output outputs/decision \\
      --measurements outputs/compare/measurements.json --scaffold ../my-project
  python tools/decide.py --initial outputs/decision/INITIAL.md --scaffold ../my-project

Weights and threshold: an override on the command line, else PLANNING.md, else the config.
Exit codes: 0 done (also where the evidence allows no choice), 2 bad input: everything missing is listed."""
_STYLE = {"pass": "green", "fail": "bold red", "not measured": "yellow"}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = make_parser("tools/decide.py", _DESCRIPTION, config=True)
    parser.add_argument("--create", type=Path, metavar="F", help="what is needed (with --init: CREATE.md)")
    parser.add_argument("--planning", type=Path, metavar="F", help="what is planned (with --init: PLANNING.md)")
    parser.add_argument("--measurements", type=Path, metavar="F", help="measurements.json of tools/compare.py")
    parser.add_argument("--output", type=Path, metavar="D", help="folder for INITIAL.md, decision.json and the report")
    parser.add_argument("--scaffold", type=Path, metavar="DIR", help="also write a project for the choice, into DIR")
    parser.add_argument(
        "--initial", type=Path, metavar="F", help="with --scaffold: from this INITIAL.md, deciding nothing"
    )
    parser.add_argument("--init", action="store_true", help="write templates to fill in; nothing is overwritten")
    parser.add_argument("--language", choices=("en", "zh"), help="of the report (default: report.language)")
    parser.add_argument("--json", type=Path, metavar="F", help="also write choice, sums and checklist as JSON")
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.init:
        return _init(arguments, output)
    if arguments.initial is not None:
        return _from_initial(arguments, output)
    given = {"--create": arguments.create, "--planning": arguments.planning, "--output": arguments.output}
    missing = [flag for flag, value in given.items() if value is None]
    if missing:
        raise BadInput(
            f"{', '.join(missing)} is missing",
            "give --create CREATE.md --planning PLANNING.md --output DIR, or --init for templates",
        )
    return _decide(arguments, output)


def _init(arguments: argparse.Namespace, output: Output) -> int:
    from paddle_tk.decide.templates import template

    targets = {"CREATE.md": arguments.create, "PLANNING.md": arguments.planning}
    paths = {name: path or Path(name) for name, path in targets.items()}
    new = {name: path for name, path in paths.items() if not path.exists()}
    if not new:
        raise BadInput(
            f"{' and '.join(str(path) for path in paths.values())} exist, nothing is overwritten",
            "fill them in, or give other names with --create and --planning",
        )
    for name, path in new.items():
        write_bytes_atomic(path, template(name).encode())
    kept = "".join(f", kept {path}" for path in paths.values() if path not in new.values())
    output.result(f"wrote {', '.join(str(path) for path in new.values())}{kept}")
    return EXIT_OK


def _from_initial(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.scaffold is None:
        raise BadInput("--initial is given without --scaffold", "give --scaffold DIR")
    others = ("create", "planning", "measurements", "output")
    also = [f"--{name}" for name in others if getattr(arguments, name) is not None]
    if also:
        raise BadInput(f"--initial decides nothing, {', '.join(also)} was given too", "leave one of them out")
    output.json(arguments.json, _scaffold(arguments.initial, arguments.scaffold, output))
    return EXIT_OK


def _scaffold(initial: Path, folder: Path, output: Output) -> dict[str, Any]:
    from paddle_tk.decide.project import read_project
    from paddle_tk.decide.scaffold import write_scaffold

    spec = read_project(initial)
    files = write_scaffold(folder.expanduser().resolve(), spec)
    output.result(f"{spec.framework} project, {len(files)} files -> {folder}")
    return {"framework": spec.framework, "project": str(folder), "files": len(files)}


def _decide(arguments: argparse.Namespace, output: Output) -> int:
    loaded = load_config(arguments.config, all_overrides(arguments))
    target = arguments.output.expanduser().resolve()
    replaced = require_replaceable(target, _earlier_files(target), "decision")
    from paddle_tk.pipelines.decide_spec import read_measured, write_decision

    requirements = _requirements(arguments, output)
    measured = read_measured(arguments.measurements) if arguments.measurements is not None else None
    with atomic_folder(target) as folder:
        decision, spec = write_decision(
            folder,
            requirements,
            measured,
            _weighing(loaded.config, requirements, all_overrides(arguments)),
            language=arguments.language or loaded.config.report.language,
            title=loaded.config.report.title,
            commands=_commands(arguments),
        )
    _tell(decision, spec, output)
    told = _json(decision, spec)
    output.result(
        f"choice: {decision.choice or 'none'}. {decision.reason} -> {arguments.output / 'INITIAL.md'}"
        + (" (an earlier decision was replaced)" if replaced else "")
    )
    if arguments.scaffold is not None:
        told["scaffold"] = _scaffold(target / "INITIAL.md", arguments.scaffold, output)
    output.json(arguments.json, told)
    return EXIT_OK


def _requirements(arguments: argparse.Namespace, output: Output) -> Requirements:
    from paddle_tk.decide.requirements import RequirementsError, read_requirements

    try:
        return read_requirements(arguments.create, arguments.planning)
    except RequirementsError as error:
        for item in error.items:
            output.errors.print(f"- {item}")
        output.json(arguments.json, {"problems": list(error.items)})
        count = "1 answer is" if len(error.items) == 1 else f"{len(error.items)} answers are"
        raise BadInput(f"{count} missing or wrong, as listed", error.fix) from error


def _weighing(config: Config, requirements: Requirements, overrides: Sequence[str]) -> Weighing:
    from paddle_tk.pipelines.decide_spec import Weighing

    said, planning = config.decide, requirements.planning
    keys = [item.partition("=")[0] for item in overrides]
    own_weights = any(key.startswith("decide.weights") for key in keys) or planning.weights is None
    own_threshold = "decide.threshold" in keys or planning.threshold is None
    return Weighing(
        weights=said.weights if own_weights or planning.weights is None else planning.weights,
        threshold=said.threshold if own_threshold or planning.threshold is None else planning.threshold,
        familiarity=said.familiarity,
        community_file=Path(said.community_file) if said.community_file is not None else None,
        samples=said.samples,
        seed=said.seed,
        margin=said.margin,
    )


def _commands(arguments: argparse.Namespace) -> list[str]:
    """Returns what repeats it, with the names of the files and not their places."""
    import shlex

    parts = ["python", "tools/decide.py", "--create", arguments.create.name, "--planning", arguments.planning.name]
    parts += ["--measurements", arguments.measurements.name] if arguments.measurements is not None else []
    parts += ["-c", arguments.config.name] if arguments.config is not None else []
    parts += ["--language", arguments.language] if arguments.language else []
    repeat = shlex.join([*parts, "--output", "DIR", *all_overrides(arguments)])
    build = "python tools/decide.py --initial DIR/INITIAL.md --scaffold PROJECT"
    return [" ".join(repeat.replace("`", "").split()), build]


def _tell(decision: Decision, spec: Spec, output: Output) -> None:
    table = Table("requirement", "wanted", "found", "", box=None, pad_edge=False)
    for check in spec.checks:
        table.add_row(check.requirement, check.wanted, check.found, Text(check.status, style=_STYLE[check.status]))
    output.say(table)
    for option in decision.options:
        shown = f"{option.score:.3f}" if option.score is not None else f"{option.low:.3f} to {option.high:.3f}"
        output.say(f"{option.label}: {shown} of 5")


def _json(decision: Decision, spec: Spec) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "choice": decision.choice,
        "reason": decision.reason,
        "options": [asdict(option) for option in decision.options],
        "checks": [asdict(check) for check in spec.checks],
    }


def _earlier_files(folder: Path) -> Collection[str] | None:
    from paddle_tk.decide.project import INITIAL
    from paddle_tk.pipelines.decide_spec import DECISION, FILES

    if not (folder / INITIAL).is_file() or not (folder / DECISION).is_file():
        return None
    return [*FILES, *(f"plots/{file.name}" for file in folder.glob("plots/*.svg"))]


if __name__ == "__main__":
    sys.exit(main())
