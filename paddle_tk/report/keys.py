"""Who is compared: one look for every option, the same in every plot and table."""

from __future__ import annotations

from dataclasses import dataclass

from paddle_tk.evidence import Evidence
from paddle_tk.types import Decision


@dataclass(frozen=True)
class Key:
    """An option as the report shows it.

    Attributes:
        name: As the data call it.
        label: As people say it.
        series: Number of its colour, dashes and marker.
    """

    name: str
    label: str
    series: int


class Keys:
    """The options in a fixed order: as measured, then those that only the decision knows."""

    def __init__(self, evidence: Evidence | None, decision: Decision | None) -> None:
        labels = {o.name: o.label for o in evidence.options} if evidence else {}
        if decision:
            labels |= {o.name: o.label for o in decision.options if o.name not in labels}
        self.all = tuple(Key(name, label or name, n) for n, (name, label) in enumerate(labels.items()))
        self._by_name = {key.name: key for key in self.all}

    def __getitem__(self, name: str) -> Key:
        """Returns an option; one that nobody introduced is called by its name."""
        return self._by_name.get(name) or Key(name, name, len(self.all))

    def label(self, name: str) -> str:
        """Returns what an option is called."""
        return self[name].label
