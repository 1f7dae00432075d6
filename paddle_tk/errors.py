"""The errors a user may see: what was wrong, the value received, how to fix it."""

from __future__ import annotations

from collections.abc import Sequence


class PaddleTkError(Exception):
    """An expected failure, shown to the user as one line and never as a traceback.

    Args:
        problem: What was wrong, with the value that was received.
        fix: What the user can do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}. Fix: {self.fix}" if self.fix else self.problem


class BadInput(PaddleTkError):
    """What the user gave cannot be used; exit code 2."""


class ConfigError(BadInput):
    """A config with one or more wrong keys or values, all of them listed."""


class DataError(BadInput):
    """A dataset, an image or an annotation that cannot be used."""


class ArtifactError(BadInput):
    """A model, manifest or checkpoint that is missing, damaged or of another kind."""


class CheckFailed(PaddleTkError):
    """A check or a gate said no; exit code 1."""

    exit_code = 1


class Stopped(PaddleTkError):
    """A signal ended the work after its state was saved; exit code 128 + the signal's number."""

    def __init__(self, problem: str, fix: str, signal_number: int) -> None:
        super().__init__(problem, fix)
        self.exit_code = 128 + signal_number


class LostProcess(PaddleTkError):
    """Another process of the same job is gone; exit code 70, as of a crash."""

    exit_code = 70


def some(names: Sequence[str], shown: int = 5) -> str:
    """Joins the first few names of a list, for a message, and counts the rest."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
