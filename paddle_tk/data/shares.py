"""Which images of a batch are whose, where several processes work on every batch together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Share:
    """One process's part of every batch.

    A batch that is not full is divided in the same proportions, as whole images allow, the first processes first.

    Attributes:
        rank: The process's number, from 0.
        sizes: Images of each process in a full batch.
    """

    rank: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.rank < len(self.sizes) or min(self.sizes) < 0 or not sum(self.sizes):
            raise ValueError(f"process {self.rank} of a batch of {self.sizes} images")

    @property
    def whole(self) -> int:
        """Images of a full batch, all processes together."""
        return sum(self.sizes)

    @property
    def own(self) -> int:
        """Images of this process in a full batch."""
        return self.sizes[self.rank]

    def bounds(self, images: int) -> tuple[int, int]:
        """Returns where this process's images begin and end in a batch of so many."""
        cuts = _cuts(images, self.sizes)
        return cuts[self.rank], cuts[self.rank + 1]


def _cuts(images: int, weights: Sequence[int]) -> list[int]:
    total, passed, cuts = sum(weights), 0, [0]
    for weight in weights:
        passed += weight
        cuts.append(-(-images * passed // total))
    return cuts


def divide(images: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Returns whole parts of ``images`` in the proportions of ``weights``, which are not all 0; they sum to it."""
    cuts = _cuts(images, weights)
    return tuple(after - before for before, after in pairwise(cuts))
