"""What a command shows a human: text to stdout, warnings to stderr, progress only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paddle_tk.files import write_json


class Output:
    """Human output of a command: text to stdout, warnings to stderr, progress only on a terminal.

    Args:
        quiet: Print nothing but warnings, errors and ``result`` lines.
        silent: Print nothing at all: another process of the job says it.
    """

    def __init__(self, quiet: bool = False, silent: bool = False) -> None:
        self.quiet = quiet or silent
        self.console = Console(highlight=False, soft_wrap=True, markup=False, quiet=silent)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, quiet=silent)

    @property
    def interactive(self) -> bool:
        """Whether a live progress bar can be shown."""
        return self.console.is_terminal and not self.quiet

    def say(self, text: Any) -> None:
        """Prints text or a rich renderable, unless quiet."""
        if not self.quiet:
            self.console.print(text)

    def result(self, text: str) -> None:
        """Prints a final line, also when quiet."""
        self.console.print(text)

    def warn(self, text: str) -> None:
        """Prints one warning line to stderr."""
        self.errors.print(f"warning: {text}", style="yellow")

    def json(self, path: Path | None, value: Any) -> None:
        """Writes the machine-readable twin of what was printed, where a path was given."""
        if path is not None:
            write_json(path, value)
            self.say(f"wrote {path}")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Yields ``advance(n)``; shows a bar on a terminal and nothing in a pipe."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.errors, transient=True, disable=not self.interactive) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.advance(task, n)
