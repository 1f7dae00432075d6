"""How to download, and who is told how far it is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from paddle_tk.files import MIB

_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Patience:
    """How often and how long to try.

    Attributes:
        attempts: Failures in a row, without progress, after which an address is given up.
        first_delay: Seconds before the second attempt; doubled each time, and drawn from its upper half.
        longest_delay: Most seconds between two attempts.
        stall_seconds: Without a byte for so long, or at a drip, a connection counts as broken.
    """

    attempts: int
    first_delay: float
    longest_delay: float
    stall_seconds: float

    def delay(self, failures: int, asked: float) -> float:
        """Returns how long to wait after so many failures: exponential, with jitter, so that clients part ways."""
        most = min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 30))
        return max(_RANDOM.uniform(most / 2, most), min(asked, self.longest_delay))


@dataclass(frozen=True)
class FetchSettings:
    """How to download.

    Attributes:
        connections: Segments at once.
        segment_bytes: Size of a segment: what a killed download fetches again for each connection.
        probe_bytes: First bytes asked of every mirror; those of the chosen one are used.
        probe_seconds: How long mirrors are waited for before one is chosen.
        connect_seconds: How long to wait for a connection.
        patience: Retries of one address.
    """

    connections: int = 4
    segment_bytes: int = 8 * MIB
    probe_bytes: int = MIB // 4
    probe_seconds: float = 5.0
    connect_seconds: float = 10.0
    patience: Patience = Patience(attempts=6, first_delay=0.5, longest_delay=30.0, stall_seconds=30.0)


class Meter(Protocol):
    """What is told how far a download is."""

    def expect(self, total: int | None, done: int) -> None:
        """The file has ``total`` bytes, None where nobody knows, and ``done`` of them are here already."""

    def advance(self, count: int) -> None:
        """So many bytes more, or fewer where something has to come again."""


class Silent:
    """A meter that shows nothing."""

    def expect(self, total: int | None, done: int) -> None:
        """Does nothing."""

    def advance(self, count: int) -> None:
        """Does nothing."""
