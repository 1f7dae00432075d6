"""One request at a time, and what is believed of its answer. Nothing here retries."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache

import httpx

from paddle_tk.errors import BadInput

_BLOCK = 64 * 1024
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_LEAST_BYTES_PER_SECOND = 256  # a server that drips keeps a read timeout from ever firing
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unusable(Exception):
    """This address will not give the file, however often it is asked."""


class Changed(Exception):
    """The file behind the address is another one than when the download began."""


class Transient(Exception):
    """The request failed in a way that another one may not.

    Args:
        reason: In words.
        wait_seconds: What the server asked for (Retry-After).
        void: What this answer has sent so far cannot be trusted.
    """

    def __init__(self, reason: str, wait_seconds: float = 0.0, *, void: bool = False) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.void = void


@dataclass(frozen=True)
class Origin:
    """A file as a server describes it.

    Attributes:
        url: The address that was asked, before redirects: where those lead may expire.
        size: Bytes; None where the server does not say.
        etag: Its ETag where that is a strong one.
        last_modified: The header of that name.
        ranges: Whether parts of it can be asked for.
    """

    url: str
    size: int | None
    etag: str | None
    last_modified: str | None
    ranges: bool

    @property
    def validator(self) -> str | None:
        """What If-Range takes: the answer is the whole file where it has changed since (RFC 9110, 13.1.5)."""
        return self.etag or self.last_modified


@dataclass(frozen=True)
class Probe:
    """A first look at a mirror.

    Attributes:
        origin: The file as it is there.
        head: Its first bytes.
        latency_seconds: From the request to the answer's head.
        bytes_per_second: Of the body after that; None where it came at once.
    """

    origin: Origin
    head: bytes
    latency_seconds: float
    bytes_per_second: float | None

    def seconds_for(self, size: int) -> float:
        """Estimates the time for ``size`` bytes from this mirror."""
        return self.latency_seconds + (size / self.bytes_per_second if self.bytes_per_second else 0.0)


class Wires:
    """The connections that are being read, so that reads which wait for bytes can be ended from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    @contextmanager
    def reading(self, response: httpx.Response) -> Iterator[None]:
        """Knows the response's connection while the block runs."""
        stream = response.extensions.get("network_stream")
        wire = stream.get_extra_info("socket") if stream is not None else None
        if wire is None:
            yield
            return
        with self._lock:
            self._open.add(wire)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(wire)

    def cut(self) -> None:
        """Ends every read that is under way; it fails as if the server had hung up."""
        with self._lock:
            for wire in self._open:
                with suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Reads the certificates once: that takes longer than many a request. SSL_CERT_FILE is honoured."""
    return httpx.create_ssl_context()


def make_client(*, connections: int, connect_seconds: float, stall_seconds: float) -> httpx.Client:
    """Returns a client that follows redirects and takes proxies and certificates from the environment.

    Raises:
        BadInput: A proxy in the environment cannot be used.
    """
    try:
        return httpx.Client(
            follow_redirects=True,
            verify=_certificates(),
            timeout=httpx.Timeout(stall_seconds, connect=connect_seconds),
            limits=httpx.Limits(max_connections=connections + 1),
            # The bytes of the file itself are wanted, not a compressed form whose ranges are others.
            headers={"Accept-Encoding": "identity", "User-Agent": "paddle_tk"},
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise BadInput(
            f"a proxy in the environment cannot be used: {error}", "correct HTTP_PROXY and its kin"
        ) from error


@contextmanager
def _get(client: httpx.Client, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
    try:
        with client.stream("GET", url, headers=dict(headers)) as response:
            yield response
    except httpx.TimeoutException as error:
        raise Transient(f"no answer in time ({type(error).__name__})") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise Unusable(f"its address leads nowhere ({error})") from error
    except httpx.RequestError as error:
        raise Transient(f"the connection broke ({error or type(error).__name__})") from error


def _refuse_status(response: httpx.Response) -> None:
    if response.status_code in _BUSY:
        text = response.headers.get("Retry-After", "")
        raise Transient(f"status {response.status_code}", float(text) if text.isdigit() else 0.0)
    raise Unusable(f"status {response.status_code}")


def _length(response: httpx.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _etag(response: httpx.Response) -> str | None:
    text = response.headers.get("ETag", "").strip()
    return text if text.startswith('"') else None  # a weak one may name other bytes


def _content_range(response: httpx.Response) -> tuple[int, int, int | None]:
    """Returns first, last and total of a 206."""
    text = response.headers.get("Content-Range", "").strip()
    found = _RANGE.fullmatch(text)
    if found is None:
        raise Transient(f"status 206 with Content-Range '{text}'", void=True)
    return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])


def _blocks(response: httpx.Response, stall_seconds: float) -> Iterator[bytes]:
    """Yields the body as it comes, and gives up on a server that only drips."""
    began, received = time.monotonic(), 0
    for block in response.iter_raw(_BLOCK):
        received += len(block)
        passed = time.monotonic() - began
        if passed > stall_seconds:
            if received < passed * _LEAST_BYTES_PER_SECOND:
                raise Transient(f"stalled: {received} bytes in {passed:.0f} s")
            began, received = time.monotonic(), 0
        yield block


def probe(client: httpx.Client, url: str, *, wanted: int, stall_seconds: float) -> Probe:
    """Asks for the first ``wanted`` bytes and measures how they come.

    Raises:
        Unusable, Transient: As they say.
    """
    began = time.monotonic()
    with _get(client, url, {"Range": f"bytes=0-{wanted - 1}"}) as response:
        latency = time.monotonic() - began
        if response.status_code == 206:
            first, last, size = _content_range(response)
            if first != 0 or last >= wanted or (size is not None and not last < size):
                raise Transient(f"asked for bytes 0-{wanted - 1}, the answer claims {first}-{last}/{size}", void=True)
            expected = last + 1
        elif response.status_code == 200:
            size = _length(response)
            expected = wanted if size is None else min(size, wanted)
        elif response.status_code == 416:
            raise Unusable("the file there is empty")
        else:
            _refuse_status(response)
        head = b""
        for block in _blocks(response, stall_seconds):
            head += block
            if len(head) >= expected:
                break
        if response.status_code == 206 and len(head) != expected:
            raise Transient(f"{len(head)} bytes instead of {expected}", void=True)
        body = time.monotonic() - began - latency
        origin = Origin(
            url, size, _etag(response), response.headers.get("Last-Modified"), ranges=response.status_code == 206
        )
    return Probe(origin, head[:expected], latency, len(head) / body if body > 0 and head else None)


@contextmanager
def open_range(
    client: httpx.Client, origin: Origin, first: int, last: int, *, stall_seconds: float, wires: Wires
) -> Iterator[Iterator[bytes]]:
    """Yields the bytes ``first`` to ``last``, both included, or fewer where the answer ends early.

    Raises:
        Changed: The file is not the one that ``origin`` describes.
        Unusable, Transient: As they say.
    """
    headers = {"Range": f"bytes={first}-{last}"}
    if origin.validator is not None:
        headers["If-Range"] = origin.validator
    with _get(client, origin.url, headers) as response, wires.reading(response):
        if response.status_code == 206:
            _check_part(response, origin, first, last)
        elif response.status_code == 200:
            _refuse_whole(response, origin)
        elif response.status_code == 416:
            raise Changed(f"bytes {first}-{last} are beyond its end now")
        else:
            _refuse_status(response)
        yield _blocks(response, stall_seconds)


def _check_part(response: httpx.Response, origin: Origin, first: int, last: int) -> None:
    start, end, size = _content_range(response)
    etag = _etag(response)
    if origin.etag is not None and etag is not None and etag != origin.etag:
        raise Changed(f"its ETag was {origin.etag} and is {etag}")
    if size is not None and origin.size is not None and size != origin.size:
        if etag is not None and etag == origin.etag:
            raise Transient(f"the ETag of {origin.size} bytes with a size of {size}", void=True)
        raise Changed(f"it had {origin.size} bytes and has {size}")
    if start != first or end > last or end < start:
        raise Transient(f"asked for bytes {first}-{last}, the answer claims {start}-{end}", void=True)
    length = _length(response)
    if length is not None and length != end - start + 1:
        raise Transient(f"bytes {start}-{end} with a Content-Length of {length}", void=True)


def _refuse_whole(response: httpx.Response, origin: Origin) -> None:
    """A 200 where a part was asked for: the file has changed, or the server has lost the knack."""
    etag, size = _etag(response), _length(response)
    if (etag, size) != (origin.etag, origin.size) or origin.last_modified != response.headers.get("Last-Modified"):
        raise Changed("it is not what it was when the download began")
    raise Transient("the whole file instead of a part of it", void=True)


@contextmanager
def open_whole(client: httpx.Client, url: str, *, stall_seconds: float) -> Iterator[tuple[int | None, Iterator[bytes]]]:
    """Yields the stated length and the bytes of a whole file.

    A connection that breaks before the stated length, or a chunked body without its end, is an error of the transport.

    Raises:
        Unusable, Transient: As they say.
    """
    with _get(client, url, {}) as response:
        if response.status_code != 200:
            _refuse_status(response)
        yield _length(response), _blocks(response, stall_seconds)
