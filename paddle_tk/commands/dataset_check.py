"""``tools/dataset.py validate``: is a dataset whole and sound, and what can be put aside?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from paddle_tk.cli import EXIT_NO, EXIT_OK, Output, make_parser, run_command
from paddle_tk.commands.dataset_shared import add_source
from paddle_tk.data.check import FORMATS, check_dataset, checked_folder
from paddle_tk.data.checks.findings import FAULTS, Report
from paddle_tk.data.checks.quarantine import put_aside, put_back
from paddle_tk.data.checks.sheet import write_sheet
from paddle_tk.errors import BadInput

_DESCRIPTION = """Check a dataset: layout, counts, every image decoded, annotations and what they refer to, boxes,
duplicates and leakage between splits. Exit code 1 where anything is wrong.

  python tools/dataset.py validate --data coco128 --root coco128.zip
  python tools/dataset.py validate --from yolo --root my_yolo --json faults.json --sheet faults.png
  python tools/dataset.py validate --from coco --root my_coco --fix
  python tools/dataset.py validate --from coco --root my_coco --undo-fix"""
_MOST_ROWS = 50


def validate_action(argv: Sequence[str]) -> int:
    """``validate``: checks a dataset; returns the exit code."""
    parser = make_parser("tools/dataset.py validate", _DESCRIPTION)
    add_source(parser, FORMATS, registered="a registered dataset", own="the format of your own images")
    fix = parser.add_mutually_exclusive_group()
    fix.add_argument(
        "--fix", action="store_true", help="move samples at fault to quarantine/ beside the dataset; delete nothing"
    )
    fix.add_argument("--undo-fix", action="store_true", help="put back what --fix moved")
    parser.add_argument("--json", type=Path, metavar="F", help="also write everything that was found as JSON")
    parser.add_argument("--sheet", type=Path, metavar="F.png", help="also draw the images at fault")
    return run_command(parser, _validate, argv)


def _validate(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.undo_fix:
        back = put_back(checked_folder(arguments.data, arguments.root))
        output.result(f"{arguments.data}: {len(back)} file(s) are back in their places")
        return EXIT_OK
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != ".png":
        raise BadInput(f"--sheet {arguments.sheet} is no PNG file by name", "name a file that ends with .png")
    report = _checked(arguments, output)
    _show(report, output)
    if arguments.sheet is not None and report.findings:
        output.say(f"wrote {arguments.sheet} with {write_sheet(report, arguments.sheet)} image(s)")
    said: dict[str, Any] = report.to_dict()
    left = report
    if arguments.fix and report.findings:
        done = put_aside(report)
        left = _checked(arguments, output)
        said["fix"] = {
            "quarantine": str(done.folder),
            "moved": list(done.moved),
            "rewritten": list(done.rewritten),
            "faults_left": len(left.findings),
        }
        output.say(f"moved {len(done.moved)} file(s) to {done.folder}, rewrote {len(done.rewritten)} list(s)")
        if left.findings:
            _show(left, output)
    output.json(arguments.json, said)
    output.result(_verdict(report, left))
    return EXIT_NO if left.findings else EXIT_OK


def _checked(arguments: argparse.Namespace, output: Output) -> Report:
    with output.progress(f"checking {arguments.data}", 0) as advance:
        return check_dataset(arguments.data, arguments.root, advance=advance)


def _show(report: Report, output: Output) -> None:
    for remark in report.remarks[:_MOST_ROWS]:
        output.say(f"note: {remark}")
    if not report.findings:
        return
    table = Table("fault", "file", "entry", "what is wrong", box=None, pad_edge=False)
    for finding in report.findings[:_MOST_ROWS]:
        table.add_row(finding.kind, report.relative(finding.file), finding.entry, finding.problem)
    output.say(table)
    if len(report.findings) > _MOST_ROWS:
        output.say(f"... and {len(report.findings) - _MOST_ROWS} more; --json F has them all")
    for kind, count in report.counts.items():
        output.say(f"{count} x {kind}: {FAULTS[kind]}")


def _verdict(report: Report, left: Report) -> str:
    looked = f"{report.images} images, {report.boxes} boxes, {report.seconds:.1f} s"
    if not report.findings:
        return f"{report.dataset}: no fault found ({looked})"
    if report is left:
        return f"{report.dataset}: {len(report.findings)} fault(s) found ({looked})"
    rest = f"{len(left.findings)} left" if left.findings else "none left"
    return f"{report.dataset}: {len(report.findings)} fault(s) found, {rest} after --fix ({looked})"
