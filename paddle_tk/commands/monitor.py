"""``tools/monitor.py``: shows the runs in a browser, with VisualDL, on this machine only."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from paddle_tk.cli import EXIT_OK, Output, make_parser, run_command
from paddle_tk.errors import BadInput
from paddle_tk.training.loggers.viewer import DEFAULT_PORT, Viewer, choose_port, is_loopback, runs_under

_LOOK_EVERY_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command until Ctrl-C or SIGTERM and returns its exit code."""
    parser = make_parser(
        "tools/monitor.py",
        "Shows figures, pictures and hyper-parameters of all runs in a browser (VisualDL, no telemetry).",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder that holds the runs, or one run")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument(
        "--port", type=int, help=f"port, 0 for any free one (default: {DEFAULT_PORT} or the next free one)"
    )
    return run_command(parser, _body, argv)


def _body(arguments: argparse.Namespace, output: Output) -> int:
    root: Path = arguments.runs
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder", "train something first, or give the folder with --runs")
    if not is_loopback(arguments.host):
        output.warn(f"{arguments.host} is reachable from the network: whoever can reach it sees all runs")
    port = choose_port(arguments.host, arguments.port)
    if arguments.port is None and port != DEFAULT_PORT:
        output.say(f"port {DEFAULT_PORT} is in use, taking {port}")
    _announce(root, output)
    viewer = Viewer(root, arguments.host, port)
    with _stop_signals() as stopped:
        try:
            viewer.start()
            output.result(f"VisualDL: {viewer.url} (Ctrl-C to stop)")
            while not stopped.wait(_LOOK_EVERY_SECONDS):
                viewer.check()
                viewer.refresh()
        finally:
            viewer.stop()
    output.say("stopped")
    return EXIT_OK


def _announce(root: Path, output: Output) -> None:
    runs = runs_under(root)
    if runs:
        output.say(f"{len(runs)} run(s) under {root}: {', '.join(runs)}")
    else:
        output.say(f"no run under {root} has logged yet; the page fills as soon as one does")


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C and SIGTERM set: for a server they are the normal end."""
    stopped = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
