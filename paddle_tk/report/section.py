"""Facts that the report's caller adds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """Facts of the caller's that the report shows after the verdict, such as an acceptance checklist.

    Attributes:
        title: Its heading.
        paragraphs: Of plain text.
        columns: Heads of a table; empty: none.
        rows: Of the table, each as long as ``columns``.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"rows of {self.title!r} need {len(self.columns)} cells, got {wrong[0]}")
