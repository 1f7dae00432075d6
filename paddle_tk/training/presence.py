"""Whether the other processes of a job are still there, and when all of them have come to the same place.

Paddle's gloo gives up a collective after 30 s, which cannot be set (3.3.1), so nobody may enter one before everybody is
about to: one process may be writing a checkpoint for a minute. And what waits in a collective for a process that is
gone may wait for half an hour (nccl), or until the next one begins. Both are settled by one TCP connection from every
process to the first: a byte each way says "here", the kernel tells when the other end is gone. A process that is merely
slow is waited for; one that is stopped (Ctrl-Z) within an exchange is taken for lost by gloo after its 30 s.
"""

from __future__ import annotations

import hmac
import os
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from paddle_tk.errors import LostProcess

GRACE_SECONDS = 5.0
_CONNECT_SECONDS = 60.0
# A machine that is cut off is noticed after 5 + 3 x 5 s.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
_POLL_MS = 500
_HERE = b"h"


def lost_process(reason: str) -> LostProcess:
    """Returns the error of a process whose job has lost another one."""
    return LostProcess(
        f"another process of the job is gone ({reason})",
        "its own message tells why; then go on from the last checkpoint with --resume",
    )


class Hub:
    """The first process's ear: made before the others are told where it is.

    Args:
        host: Address of this machine that the others reach it by.

    Attributes:
        address: What the others need: host, port and a word that proves that they belong to the job.
    """

    def __init__(self, host: str) -> None:
        self._socket = socket.create_server((host, 0))
        self.address = (host, int(self._socket.getsockname()[1]), secrets.token_hex(16))

    def accept(self, others: int) -> list[socket.socket]:
        """Returns the connections of the other processes.

        Raises:
            LostProcess: They did not come within a minute.
        """
        found: list[socket.socket] = []
        deadline = time.monotonic() + _CONNECT_SECONDS
        word = self.address[2].encode()
        try:
            with self._socket:
                while len(found) < others:
                    self._socket.settimeout(max(0.1, deadline - time.monotonic()))
                    connection = self._socket.accept()[0]
                    connection.settimeout(_CONNECT_SECONDS)
                    if hmac.compare_digest(_read(connection, len(word)), word):
                        found.append(connection)
                    else:
                        connection.close()
        except OSError as error:
            raise lost_process(f"{len(found)} of {others} others came: {error}") from error
        return found


def reach(address: Sequence[str | int]) -> socket.socket:
    """Returns a connection to the first process.

    Raises:
        LostProcess: It cannot be reached.
    """
    host, port, word = address
    try:
        connection = socket.create_connection((str(host), int(port)), timeout=_CONNECT_SECONDS)
        connection.sendall(str(word).encode())
    except OSError as error:
        raise lost_process(f"{host}:{port}: {error}") from error
    return connection


def _read(connection: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = connection.recv(count - len(got))
        if not more:
            break
        got += more
    return got


class Presence:
    """The connections of this process: to all others in the first, to the first in the others.

    Args:
        connections: To whom.
        first: Whether this is the first process.
        end: Ends this process with a message when another has been gone for ``GRACE_SECONDS`` and the main thread,
            which may hang in a collective, has not ended by itself; replaced in tests.
    """

    def __init__(
        self, connections: Sequence[socket.socket], first: bool, end: Callable[[LostProcess], None] | None = None
    ) -> None:
        self._connections, self._first = list(connections), first
        self._end = end or end_now
        self._over = threading.Event()
        for connection in self._connections:
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE.items():
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        threading.Thread(target=self._watch, daemon=True).start()

    def meet(self) -> None:
        """Returns when all processes have called it.

        Raises:
            LostProcess: One of them is gone.
        """
        if self._first:
            for connection in self._connections:
                _hear(connection)
            for connection in self._connections:
                _tell(connection)
        else:
            _tell(self._connections[0])
            _hear(self._connections[0])

    def close(self) -> None:
        """Ends the watch: what the others do from now on is their own affair."""
        self._over.set()
        for connection in self._connections:
            with suppress(OSError):  # loader processes hold it too: closing alone would not be told
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _watch(self) -> None:
        # Nothing is read here, so ``meet`` is not disturbed: the kernel tells when the other end was closed.
        poll = select.poll()
        for connection in self._connections:
            poll.register(connection, getattr(select, "POLLRDHUP", 0))
        while not self._over.is_set():
            if poll.poll(_POLL_MS) and not self._over.wait(GRACE_SECONDS):
                self._end(lost_process("its connection was closed"))
                return


def _tell(connection: socket.socket) -> None:
    try:
        connection.sendall(_HERE)
    except OSError as error:
        raise lost_process(error.strerror or str(error)) from error


def _hear(connection: socket.socket) -> None:
    try:
        heard = connection.recv(1)
    except OSError as error:
        raise lost_process(error.strerror or str(error)) from error
    if heard != _HERE:
        raise lost_process("its connection was closed")


def end_now(error: LostProcess) -> None:
    """Prints one line and ends this process, whatever its other threads wait for."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)
