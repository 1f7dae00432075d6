"""Small sharded datasets for tests, and a local server of files that serves ranges, or does not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.data.bundle import ArraySplit, DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.shard_index import ShardIndex
from paddle_tk.data.shards import ShardSettings, write_shards

# 400 bytes of a PNG of noise and what goes with it: some 50 images to a row group of 0.02 MB.
SMALL = ShardSettings(rows_per_shard=150, group_mb=0.02)


def numbered(count: int = 400, few: int = 7) -> DatasetBundle:
    """Images of noise, each of a class of its own, so that labels tell which images came."""
    images = np.random.default_rng(1).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64)
    whole = ArraySplit(images, labels, [f"image {i}" for i in range(count)])
    return DatasetBundle(
        name="numbered",
        kind="classification",
        splits={"train": whole, "val": whole.subset(labels[:few]), "test": whole.subset(labels[few : 3 * few])},
        classes=tuple(map(str, range(count))),
        source="made here",
        licence="none",
        fingerprint="f" * 64,
    )


def sharded(
    folder: Path, bundle: DatasetBundle | None = None, settings: ShardSettings = SMALL, **how: Any
) -> ShardIndex:
    """Writes shards into a new folder."""
    folder.mkdir(parents=True)
    return write_shards(bundle or numbered(), folder, settings, **how)


def load_shards(root: Path | str) -> DatasetBundle:
    return load_dataset("shards", root=str(root), val_fraction=0.1, test_fraction=0.2, split_seed=0)


@contextmanager
def served(folder: Path, *, ranges: bool = True, failures: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Serves a folder on the loopback address; yields its URL and the requests that come.

    Args:
        folder: What is served.
        ranges: Answer a range with that range; else with the whole file, as plain servers do.
        failures: So many requests are answered with 503 first.
    """
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            requests.append(f"{self.path} {wanted}".strip())
            path = folder / self.path.lstrip("/")
            if len(requests) <= failures or not path.is_file():
                self.send_response(404 if len(requests) > failures else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content, match = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
            part = ranges and match is not None
            body = content[int(match[1]) : int(match[2]) + 1] if part and match is not None else content
            self.send_response(206 if part else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
