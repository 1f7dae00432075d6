"""The ids of a COCO file as a column: numbers nearly always, but the format's users write texts as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from paddle_tk.data.formats.detection_boxes import first_repeated
from paddle_tk.data.tables import Texts

Id = int | str | None
# Ids that are spread over more than so many times their number are looked up by name, not in a table by number.
_SPARSE = 64


class Ids:
    """Ids in the order of the file.

    Args:
        column: int64, or texts in JSON where not all of them are whole numbers of 64 bits.
    """

    def __init__(self, column: np.ndarray | Texts) -> None:
        self._column = column

    @classmethod
    def of(cls, values: Sequence[Id]) -> Ids:
        """Takes ids as they were decoded."""
        if set(map(type, values)) <= {int}:
            try:
                return cls(np.array(values, np.int64))
            except OverflowError:
                pass
        return cls(Texts.of([msgspec.json.encode(value).decode() for value in values]))

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], name: str) -> Ids:
        """Takes what ``columns`` returned."""
        return cls(columns[name] if name in columns else Texts.from_columns(columns, name))

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """Returns the arrays under names of their own."""
        return self._column.columns(name) if isinstance(self._column, Texts) else {name: self._column}

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> Id:
        if isinstance(self._column, Texts):
            value: Id = msgspec.json.decode(self._column[index], type=int | str | None)
            return value
        return int(self._column[index])

    def values(self) -> list[Id]:
        """Returns all of them."""
        if isinstance(self._column, Texts):
            return [self[i] for i in range(len(self))]
        return list(self._column.tolist())

    def repeated(self) -> Id:
        """Returns the first id that occurred before, None where all differ; ids that are not given do not count."""
        if not isinstance(self._column, Texts) and len(np.unique(self._column)) == len(self._column):
            return None
        given = [value for value in self.values() if value is not None]
        position = first_repeated(given)
        return None if position is None else given[position]

    def among(self, wanted: frozenset[int]) -> np.ndarray:
        """Returns bool (n,): which of them are in a set."""
        if isinstance(self._column, Texts):
            return np.array([value in wanted for value in self.values()], np.bool_)
        return np.isin(self._column, np.array(sorted(wanted), np.int64))

    def places_in(self, known: Ids) -> np.ndarray:
        """Returns int64 (n,): where each of them is in ``known``, the last place where it repeats, -1: nowhere."""
        if isinstance(self._column, Texts) or isinstance(known._column, Texts) or not len(known):
            return self._places_by_name(known)
        low, high = int(known._column.min()), int(known._column.max())
        if high - low >= _SPARSE * (len(known) + len(self)):
            return self._places_by_name(known)
        table = np.full(high - low + 1, -1, np.int64)
        table[known._column - low] = np.arange(len(known))
        inside = (self._column >= low) & (self._column <= high)
        return np.where(inside, table[np.where(inside, self._column, low) - low], -1)

    def _places_by_name(self, known: Ids) -> np.ndarray:
        places = {value: place for place, value in enumerate(known.values())}
        return np.array([places.get(value, -1) for value in self.values()], np.int64)
