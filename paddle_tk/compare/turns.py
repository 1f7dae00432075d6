"""Processes that are timed side by side, one at a time, in short turns.

What else a machine does comes and goes in seconds. Two processes that are timed one after the other lie further apart
than that, and their ratio tells of the machine; two that take turns see the same of it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from paddle_tk.errors import CheckFailed
from paddle_tk.runtime.timing import turn_sizes, wait_until_still

TRAINING_TURN = 4  # steps of a training to the end
_BYTE = b"."


class Turns:
    """A process's side.

    Args:
        link: Descriptor of its end of the connection; None: it is alone and never waits.
        count: Turns that a series of samples is divided into.
    """

    def __init__(self, link: int | None = None, count: int = 1) -> None:
        self._link = None if link is None else socket.socket(fileno=link)
        self._count = count if link is not None else 1

    def blocks(self, samples: int) -> list[int]:
        """Returns how many samples each turn takes."""
        return turn_sizes(samples, self._count)

    def hand_over(self) -> None:
        """Lets the others have their turns and comes back when it is this process's again.

        Raises:
            CheckFailed: The process that conducts is gone.
        """
        if self._link is None:
            return
        wait_until_still()
        with contextlib.suppress(OSError):
            self._link.sendall(_BYTE)
            if self._link.recv(1):
                return
        raise CheckFailed("the comparison that this process belongs to has ended", "start it again")


def run_in_turns(
    starts: Sequence[Callable[[socket.socket], Any]], ended: Callable[[], None] = lambda: None
) -> list[Any]:
    """Runs processes of which only one works at any time.

    The first works from its start to its first ``hand_over``, then the second is started, and so on; then the turns go
    round, every other time backwards, so that a drift falls on all alike, until all have ended.

    Args:
        starts: Each runs one process, hands it the end of the connection that it is given, and returns its answer.
        ended: Called as each process ends.

    Returns:
        The answers, in the order of ``starts``.

    Raises:
        Exception: Of the first that failed; the others, which wait for their turn, end then.
    """
    links: list[socket.socket] = []
    futures: list[Future[Any]] = []
    with ThreadPoolExecutor(max(1, len(starts))) as pool:
        try:
            waiting = []
            for place, start in enumerate(starts):
                ours, theirs = socket.socketpair()
                links.append(ours)
                futures.append(pool.submit(_started, start, theirs))
                if _has_handed_over(ours, futures[place], ended):
                    waiting.append(place)
            while waiting:
                waiting = [place for place in waiting[::-1] if _one_turn(links[place], futures[place], ended)]
        finally:
            for link in links:
                link.close()
    return [future.result() for future in futures]


def _started(start: Callable[[socket.socket], Any], theirs: socket.socket) -> Any:
    with theirs:  # whatever start does with it: an end that stays open here would hide that the process has ended
        return start(theirs)


def _one_turn(link: socket.socket, future: Future[Any], ended: Callable[[], None]) -> bool:
    with contextlib.suppress(BrokenPipeError):
        link.sendall(_BYTE)
    return _has_handed_over(link, future, ended)


def _has_handed_over(link: socket.socket, future: Future[Any], ended: Callable[[], None]) -> bool:
    """Waits for the end of a turn; returns whether there will be another."""
    try:
        if link.recv(1):
            return True
    except ConnectionResetError:  # it ended with a turn unread
        pass
    future.result()
    ended()
    return False
