"""A small dataset of the user's own in the catalog, for tests of set-up: a zip of YOLO labels and a text file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

import yaml

from paddle_tk.data.home import home_folder


def archive(files: Mapping[str, bytes]) -> bytes:
    """Returns a zip of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, payload in files.items():
            target.writestr(name, payload)
    return stream.getvalue()


def file_of(name: str, payload: bytes, url: str | None, *, checksum: bool = True, **values: Any) -> dict[str, Any]:
    """Describes a file of the catalog."""
    digest = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest(), "source": "the test"}
    return {
        "name": name,
        "urls": [url] if url is not None else [],
        "size_bytes": len(payload),
        "checksum": digest if checksum else None,
        **values,
    }


def describe(name: str, files: list[dict[str, Any]], present: list[str], **values: Any) -> None:
    """Puts a dataset into the user's own catalog."""
    entry = {
        "name": name,
        "title": "a dataset of the test",
        "task": "detection",
        "tier": "debug",
        "licence": "none",
        "source": "the test",
        "classes": ["cat"],
        "splits": {"all": 2},
        "layout": "as it is",
        "present": present,
        "files": files,
        **values,
    }
    path = home_folder() / "catalog" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(entry))
