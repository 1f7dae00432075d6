"""``tools/doctor.py``: checks the installation, or lists what is registered."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from paddle_tk.cli import EXIT_NO, EXIT_OK, Output, make_parser, run_command
from paddle_tk.environment.doctor import Check, examine

_STYLE = {"ok": "green", "failed": "bold red", "warning": "yellow", "info": "cyan"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 1 when a required check failed."""
    parser = make_parser("tools/doctor.py", "Checks the installation and says how to mend what is wrong.")
    parser.add_argument(
        "--stage",
        choices=("venv", "docker"),
        default="venv",
        help="docker: the GPU image, where a GPU is required (default: venv)",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are written (default: runs)")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the findings as JSON")
    parser.add_argument("--models", action="store_true", help="list the registered networks instead")
    parser.add_argument("--datasets", action="store_true", help="list the registered datasets instead")
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.models or arguments.datasets:
        return _list(arguments, output)
    checks = examine(arguments.stage, arguments.runs)
    output.say(_table(checks))
    failed = [check for check in checks if check.status == "failed"]
    output.json(
        arguments.json,
        {
            "stage": arguments.stage,
            "passed": not failed,
            "checks": [check.to_dict() for check in checks],
        },
    )
    output.result(_verdict(failed, len(checks)))
    return EXIT_NO if failed else EXIT_OK


def _table(checks: Sequence[Check]) -> Table:
    table = Table("check", "", "found", "fix", box=None, pad_edge=False)
    for check in checks:
        table.add_row(check.name, Text(check.status, style=_STYLE[check.status]), check.found, check.fix)
    return table


def _verdict(failed: Sequence[Check], total: int) -> str:
    if not failed:
        return f"{total} checks, none failed"
    return f"{len(failed)} of {total} checks failed: {', '.join(check.name for check in failed)}"


def _list(arguments: argparse.Namespace, output: Output) -> int:
    found: dict[str, list[str]] = {}
    for kind, wanted in (("models", arguments.models), ("datasets", arguments.datasets)):
        if wanted:
            found[kind] = _names(kind)
            output.result(f"{kind}: {', '.join(found[kind])}")
    output.json(arguments.json, found)
    return EXIT_OK


def _names(kind: str) -> list[str]:
    if kind == "models":
        from paddle_tk.models.detectors import network_names

        return network_names()
    from paddle_tk.data.datasets import DATASETS

    return DATASETS.names()
