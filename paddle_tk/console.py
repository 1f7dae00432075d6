"""What a command shows a human: text to stdout, warnings to stderr, progress only on a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from paddle_tk.files import write_json

_SECONDS_BETWEEN_LINES = 30.0


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

    @contextmanager
    def transfer(self, label: str) -> Iterator[Transfer]:
        """Yields what a transfer tells its bytes; shows speed and time left, in a pipe as a line now and then."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bar = Progress(*columns, TimeRemainingColumn(), console=self.errors, transient=True)
        if not self.interactive:
            yield Transfer(label, None, self.say)
            return
        with bar:
            yield Transfer(label, bar, self.say)


class Transfer:
    """Shows how far a transfer is; may be called from several threads.

    Args:
        label: What is transferred.
        bar: Where it is shown on a terminal; None: in lines.
        say: Prints a line.
    """

    def __init__(self, label: str, bar: Progress | None, say: Callable[[str], None]) -> None:
        self._label, self._bar, self._say = label, bar, say
        self._task = bar.add_task(label, total=None) if bar is not None else None
        self._lock = threading.Lock()
        self._total: int | None = None
        self._done, self._before = 0, 0
        self._began = self._said = time.monotonic()

    def expect(self, total: int | None, done: int) -> None:
        """There will be ``total`` bytes, None where nobody knows, and ``done`` of them are here already."""
        with self._lock:
            self._total, self._done, self._before, self._began = total, done, done, time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total, completed=done)

    def advance(self, count: int) -> None:
        """So many bytes more, or fewer."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)
            return
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._said < _SECONDS_BETWEEN_LINES:
                return
            self._said = now
            line = self._line(now)
        self._say(line)

    def _line(self, now: float) -> str:
        speed = max(self._done - self._before, 0) / max(now - self._began, 1e-9)
        if self._total is None:
            return f"{self._label}: {decimal(self._done)}, {decimal(int(speed))}/s"
        left = f"{(self._total - self._done) / speed:.0f} s left" if speed else "stalled"
        share = 100 * self._done / max(self._total, 1)
        return f"{self._label}: {share:.0f} % of {decimal(self._total)}, {decimal(int(speed))}/s, {left}"
