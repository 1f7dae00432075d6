"""One download: mirrors in turn, until one has given the right file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx

from paddle_tk.data.catalog import RemoteFile
from paddle_tk.data.fetching.content import Wrong, check_content
from paddle_tk.data.fetching.http import Changed, Origin, Probe, Transient, Unusable, make_client, open_whole, probe
from paddle_tk.data.fetching.part import PartFile, discard_part, journal_path, part_path
from paddle_tk.data.fetching.segments import fill
from paddle_tk.data.fetching.settings import FetchSettings, Meter
from paddle_tk.errors import DataError
from paddle_tk.files import require_free_space, write_error

_MOST_CHANGES = 3
# Each place further down the list must be so much quicker to be taken first: its maker had reasons for the order.
_PREFERENCE = 1.25


class Download:
    """One download: tries the mirrors until one gives the right file."""

    def __init__(
        self, file: RemoteFile, target: Path, pinned_sha256: str | None, settings: FetchSettings, meter: Meter
    ) -> None:
        self.file, self.target, self.pinned_sha256 = file, target, pinned_sha256
        self.settings, self.meter = settings, meter
        self.failures: list[str] = []
        self.resumed_bytes = 0
        self._part: PartFile | None = None
        self._client: httpx.Client

    @property
    def _checkable(self) -> bool:
        """Whether a mixture of two files would be noticed in the end."""
        return self.file.checksum is not None or self.pinned_sha256 is not None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds connections and part file open."""
        settings = self.settings
        self._client = make_client(
            connections=settings.connections,
            connect_seconds=settings.connect_seconds,
            stall_seconds=settings.patience.stall_seconds,
        )
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._part = PartFile.resume(self.target)
            yield
        except OSError as error:
            raise write_error(self.target, error) from error
        finally:
            self._client.close()
            self._close_part()

    def run(self) -> tuple[str, str]:
        """Returns the SHA-256 of the file, which has its name then, and where it came from."""
        part = self._part
        expected = self.file.size_bytes
        seen: dict[str, Probe] = {}
        if part is not None and part.origin.url in self.file.urls and expected in (None, part.size):
            self.resumed_bytes = part.done_bytes
            urls = sorted(self.file.urls, key=lambda url: url != part.origin.url)  # what it came from is first
        else:
            self._drop_part()
            urls, seen = self._ranked()
        for url in urls:
            sha256 = self._from(url, seen.get(url))
            if sha256 is not None:
                return sha256, url
        kept = " What has come so far is kept." if journal_path(self.target).exists() else ""
        raise DataError(
            f"{self.file.name} could not be downloaded: {'; '.join(self.failures)}",
            f"check the connection and try again, or put the file at {self.target} by other means.{kept}",
        )

    def _ranked(self) -> tuple[list[str], dict[str, Probe]]:
        """Looks at all mirrors at once; those that do not answer in time come last."""
        urls = list(self.file.urls)
        if len(urls) < 2:
            return urls, {}
        with ThreadPoolExecutor(len(urls)) as pool:
            answers = list(pool.map(self._glance, urls))
        seen = {url: answer for url, answer in zip(urls, answers, strict=True) if isinstance(answer, Probe)}
        self.failures += [f"{u}: {a}" for u, a in zip(urls, answers, strict=True) if isinstance(a, Unusable)]
        late = [url for url, answer in zip(urls, answers, strict=True) if answer is None]
        size = self.file.size_bytes or max([probe.origin.size or 0 for probe in seen.values()], default=0)
        cost = {u: p.seconds_for(size) * _PREFERENCE ** urls.index(u) for u, p in seen.items()}
        return [*sorted(cost, key=lambda url: cost[url]), *late], seen

    def _glance(self, url: str) -> Probe | Unusable | None:
        seconds = self.settings.probe_seconds
        with make_client(connections=1, connect_seconds=seconds, stall_seconds=seconds) as client:
            try:
                return probe(client, url, wanted=self._head_bytes, stall_seconds=seconds)
            except Unusable as error:
                return error
            except Transient:
                return None

    @property
    def _head_bytes(self) -> int:
        return min(self.settings.probe_bytes, self.settings.segment_bytes)

    def _from(self, url: str, seen: Probe | None) -> str | None:
        """Downloads from one mirror; returns None, and notes why, where that failed."""
        for _ in range(_MOST_CHANGES + 1):
            mixed = False
            try:
                self._receive(url, seen)
                mixed = self._part is not None and self._part.mixed
                return self._accept()
            except Changed as error:
                self._note(url, f"it changed while it was downloaded: {error}")
                self._drop_part()
            except Unusable as error:
                self._note(url, str(error))
                return None
            except Wrong as error:
                self._note(url, str(error))
                self._drop_part()
                if not mixed:
                    return None
            seen = None  # what was seen first holds no longer
        return None

    def _note(self, url: str, reason: str) -> None:
        self.failures.append(f"{url}: {reason}")

    def _receive(self, url: str, seen: Probe | None) -> None:
        part, head = self._part, b""
        if part is None or part.origin.url != url:
            seen = self._sized(seen if seen is not None else self._probe(url))
            origin = seen.origin
            # Without a validator and without a checksum nobody would notice parts of two files in one.
            if origin.size is None or not origin.ranges or not (origin.validator or self._checkable):
                self._drop_part()
                self._receive_whole(url, origin.size)
                return
            part, head = self._part_for(origin), seen.head
        require_free_space(self.target, part.size - part.done_bytes, f"{self.file.name}")
        self.meter.expect(part.size, part.done_bytes)
        fill(
            part,
            self._client,
            connections=self.settings.connections,
            patience=self.settings.patience,
            advance=self.meter.advance,
            head=head,
        )

    def _part_for(self, origin: Origin) -> PartFile:
        """Goes on with what another mirror gave where a checksum will tell whether the two fit; else begins anew."""
        if self._part is not None and self._checkable and self._part.size == origin.size:
            self._part.switch(origin)
        else:
            self._drop_part()
            self._part = PartFile.create(self.target, origin, self.settings.segment_bytes)
        return self._part

    def _sized(self, seen: Probe) -> Probe:
        """Returns a look at the file with its size; one that contradicts what is known must be stated twice."""
        wanted = self.file.size_bytes
        if wanted is not None and seen.origin.size not in (None, wanted):
            seen = self._probe(seen.origin.url)
            if seen.origin.size not in (None, wanted):
                raise Unusable(f"it has {seen.origin.size} bytes there, expected {wanted}")
        size = seen.origin.size if seen.origin.size is not None else wanted
        return replace(seen, origin=replace(seen.origin, size=size))

    def _probe(self, url: str) -> Probe:
        patience, failures = self.settings.patience, 0
        while True:
            try:
                return probe(self._client, url, wanted=self._head_bytes, stall_seconds=patience.stall_seconds)
            except Transient as error:
                failures += 1
                self._pause(failures, error)

    def _pause(self, failures: int, error: Transient) -> None:
        patience = self.settings.patience
        if failures > patience.attempts:
            raise Unusable(f"{failures} failures in a row, the last: {error}") from error
        time.sleep(patience.delay(failures, error.wait_seconds))

    def _receive_whole(self, url: str, size: int | None) -> None:
        """For servers that do not give parts: from the beginning, at every attempt."""
        failures = 0
        while True:
            try:
                self._stream(url, size)
                return
            except Transient as error:
                failures += 1
                self._pause(failures, error)

    def _stream(self, url: str, size: int | None) -> None:
        stall, received = self.settings.patience.stall_seconds, 0
        with open_whole(self._client, url, stall_seconds=stall) as (length, blocks):
            size = size if size is not None else length
            if size is None and not self._checkable:
                raise Unusable("it states no length, and no size or checksum is known: a cut could not be told")
            if length is not None and length != size:
                raise Unusable(f"it states {length} bytes, expected {size}")
            require_free_space(self.target, size or 0, f"{self.file.name}")
            self.meter.expect(size, 0)
            with part_path(self.target).open("wb") as stream:
                for block in blocks:
                    received += stream.write(block)
                    self.meter.advance(len(block))
                    if size is not None and received > size:
                        raise Transient(f"more than the {size} bytes it has")
        if size is not None and received < size:
            raise Transient(f"{received} of {size} bytes")

    def _accept(self) -> str:
        """Checks what has arrived and gives it its name."""
        path = part_path(self.target)
        sha256 = check_content(self.file, path, self.pinned_sha256)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(path, self.target)
        self._close_part()
        journal_path(self.target).unlink(missing_ok=True)
        with suppress(OSError):  # not every file system can
            folder = os.open(self.target.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        return sha256

    def _close_part(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def _drop_part(self) -> None:
        self._close_part()
        discard_part(self.target)
