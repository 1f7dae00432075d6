"""Name -> ``"module:attribute"``, imported on use, so that a listed plug-in costs nothing until it is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from typing import Any

from paddle_tk.errors import BadInput


def closest(name: str, known: list[str]) -> str | None:
    """Returns the known name nearest to ``name``, or None when nothing is near."""
    found = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else None


class Registry:
    """A table of plug-ins of one kind.

    Args:
        kind: What the entries are ("dataset", "model"), used in messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._targets: dict[str, str] = {}

    def add(self, name: str, target: str) -> None:
        """Registers ``target`` ("package.module:attribute") under ``name``.

        Raises:
            ValueError: The name is taken or the target has another form.
        """
        if name in self._targets:
            raise ValueError(f"duplicate {self.kind} name {name!r}: {self._targets[name]} and {target}")
        if target.count(":") != 1:
            raise ValueError(f"target of {self.kind} {name!r} must read 'module:attribute', got {target!r}")
        self._targets[name] = target

    def names(self) -> list[str]:
        """Returns all registered names, sorted."""
        return sorted(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def load(self, name: str) -> Any:
        """Imports and returns what is registered under ``name``.

        Raises:
            BadInput: The name is unknown; the message lists the known ones.
        """
        if name not in self._targets:
            near = closest(name, self.names())
            hint = f"did you mean '{near}'? " if near else ""
            raise BadInput(f"unknown {self.kind} '{name}'", f"{hint}known: {', '.join(self.names())}")
        module, attribute = self._targets[name].split(":")
        return getattr(importlib.import_module(module), attribute)
