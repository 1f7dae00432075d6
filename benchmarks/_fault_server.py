"""A local HTTP server that knows every way to fail, and keeps account of the bytes it has sent."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = 4096
# Of one answer each; "whole" is a 200 where a part was asked for.
FAULTS = (
    *("drop", "reset", "short", "lie_start", "lie_total", "lie_length", "garbage_range", "whole", "more", "stall"),
    *("busy", "error", "slow_down", "empty"),
)
# These send bytes that are not the file's, in the right number: only a checksum can tell.
CORRUPTING = ("corrupt",)


@dataclass
class Mirror:
    """What lies behind one address.

    Attributes:
        content: The file; may be replaced while it is served.
        etag: Sent and compared; None: no validator at all.
        faults: Of the n-th request; "" answers well.
        ranges: Whether parts can be asked for.
        status: Other than 200: the answer to everything.
        states_length: Whether a 200 has a Content-Length (else the body is chunked).
        seconds_per_block: Slows the body down.
        sent: (time, first, stop) of all that was sent, in bytes of the file.
        requests: How many there were.
        change_at: From this request on the file is ``changed``.
        changed: What takes its place then.
    """

    content: bytes
    etag: str | None = '"1"'
    faults: Callable[[int], str] = lambda number: ""
    ranges: bool = True
    status: int = 200
    states_length: bool = True
    seconds_per_block: float = 0.0
    sent: list[tuple[float, int, int]] = field(default_factory=list)
    requests: int = 0
    change_at: int | None = None
    changed: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> int:
        """Counts a request and returns its number; the file changes when its time has come."""
        with self.lock:
            self.requests += 1
            if self.change_at is not None and self.requests >= self.change_at:
                self.content, self.change_at = self.changed, None
                self.etag = '"2"' if self.etag is not None else None
            return self.requests - 1


def random_faults(seed: int, share: float, kinds: tuple[str, ...] = FAULTS) -> Callable[[int], str]:
    """Returns a plan that lets about this share of the answers fail."""

    def plan(number: int) -> str:
        draw = random.Random(seed * 1_000_003 + number)
        return draw.choice(kinds) if draw.random() < share else ""

    return plan


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirrors: dict[str, Mirror]
    stall_seconds: float

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        mirror = self.mirrors.get(self.path)
        if mirror is None or mirror.status != 200:
            self._plain(404 if mirror is None else mirror.status)
            return
        with suppress(OSError):
            self._answer(mirror, mirror.faults(mirror.count()))

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.end_headers()

    def _answer(self, mirror: Mirror, fault: str) -> None:
        content, size = mirror.content, len(mirror.content)
        busy = {"busy": 503, "error": 500, "slow_down": 429}
        if fault in busy:
            self._plain(busy[fault])
            return
        if fault == "reset":
            self._reset()
            return
        first, last = self._asked(mirror, size) if mirror.ranges and fault != "whole" else (None, 0)
        if first is None:
            self._whole(mirror, content, fault)
            return
        start = first
        if fault == "lie_start":
            start = (first + 1) % size
        body = content[start : start + last - first + 1]
        total = size + 7 if fault == "lie_total" else size
        claimed = f"bytes {start}-{start + len(body) - 1}/{total}"
        self.send_response(206)
        self.send_header("Content-Range", "bytes of some kind" if fault == "garbage_range" else claimed)
        if fault == "more":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            stated = {"lie_length": len(body) + 5, "short": max(len(body) // 2, 1), "empty": 0}.get(fault, len(body))
            self.send_header("Content-Length", str(stated))
            body = body[:stated]
        self._validators(mirror)
        self.end_headers()
        self._body(mirror, body, first, fault, chunked=fault == "more")

    def _asked(self, mirror: Mirror, size: int) -> tuple[int | None, int]:
        """Returns the first and last byte that are to be sent; None for the first: all."""
        text = self.headers.get("Range", "")
        condition = self.headers.get("If-Range")
        if not text.startswith("bytes=") or (condition is not None and condition != mirror.etag):
            return None, 0
        first, _, last = text.removeprefix("bytes=").partition("-")
        if int(first) >= size:
            return None, 0
        return int(first), min(int(last or size - 1), size - 1)

    def _validators(self, mirror: Mirror) -> None:
        if mirror.etag is not None:
            self.send_header("ETag", mirror.etag)

    def _whole(self, mirror: Mirror, content: bytes, fault: str) -> None:
        self.send_response(200)
        # Chunks under a Content-Length would be other bytes in the right number, which is for CORRUPTING alone.
        chunked = not mirror.states_length or fault == "more"
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content)))
        self._validators(mirror)
        self.end_headers()
        self._body(mirror, content, 0, fault, chunked=chunked)

    def _body(self, mirror: Mirror, body: bytes, first: int, fault: str, *, chunked: bool) -> None:
        half = len(body) // 2 // BLOCK * BLOCK
        for at in range(0, len(body), BLOCK):
            if fault in ("drop", "stall") and at >= half:
                if fault == "stall":
                    time.sleep(self.stall_seconds)
                self._reset()
                return
            block = body[at : at + BLOCK]
            if fault == "corrupt":
                block = bytes([block[0] ^ 1]) + block[1:]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
            self.wfile.flush()
            with mirror.lock:
                mirror.sent.append((time.monotonic(), first + at, first + at + len(block)))
            if mirror.seconds_per_block:
                time.sleep(mirror.seconds_per_block)
        if fault == "more":
            self.wfile.write(b"5\r\nextra\r\n")
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        if fault == "lie_length":
            self._reset()

    def _reset(self) -> None:
        """Ends the connection with a reset instead of an orderly close."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that hang up are what is tested."""


@contextmanager
def serve(mirrors: dict[str, Mirror], *, stall_seconds: float = 3.0) -> Iterator[str]:
    """Yields the address of a server on 127.0.0.1; ``mirrors`` may be changed while it runs."""
    handler = type("Handler", (_Handler,), {"mirrors": mirrors, "stall_seconds": stall_seconds})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
