"""Whether a file is the one it should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

from paddle_tk.data.catalog import RemoteFile
from paddle_tk.files import MIB


class Wrong(Exception):
    """What has arrived is not the file."""


def check_content(file: RemoteFile, path: Path, pinned_sha256: str | None) -> str:
    """Compares a file with everything that is known of it and returns its SHA-256.

    Raises:
        Wrong: It is another file.
    """
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        raise Wrong(f"it has {size} bytes, expected {file.size_bytes}")
    digests = {"sha256": hashlib.sha256()}
    if file.checksum is not None:
        digests.setdefault(file.checksum.algorithm, hashlib.new(file.checksum.algorithm, usedforsecurity=False))
    with path.open("rb") as stream:
        while block := stream.read(MIB):
            for digest in digests.values():
                digest.update(block)
    sha256 = digests["sha256"].hexdigest()
    if file.checksum is not None:
        found = digests[file.checksum.algorithm].hexdigest()
        if found != file.checksum.value:
            raise Wrong(f"its {file.checksum.algorithm} is {found}, published is {file.checksum.value}")
    elif pinned_sha256 is not None and sha256 != pinned_sha256:
        raise Wrong(f"its sha256 is {sha256}, that of the first download was {pinned_sha256}")
    return sha256
