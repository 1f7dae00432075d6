"""What of a dataset is on disk, and how far it was checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from paddle_tk.data.catalog import Entry
from paddle_tk.data.fetching.part import part_path
from paddle_tk.data.home import home_folder
from paddle_tk.files import write_json

RECORD = ".paddle_tk.json"
State = Literal["embedded", "absent", "partial", "unverified", "verified"]
READY: frozenset[State] = frozenset({"embedded", "unverified", "verified"})


@dataclass(frozen=True)
class DatasetState:
    """A dataset on this machine.

    Attributes:
        state: "embedded": comes with the packages; "absent"; "partial": some of it; "unverified": whole as far as its
            layout goes, but no published checksum says that it is the right one; "verified".
        path: Its folder; None for an embedded one.
        size_bytes: What it takes on disk now.
        note: Why it is no better than that.
    """

    state: State
    path: Path | None
    size_bytes: int
    note: str

    @property
    def ready(self) -> bool:
        """Whether it can be trained on."""
        return self.state in READY


def datasets_folder(root: str | None = None) -> Path:
    """Returns where the datasets lie, each in a folder of its name."""
    return Path(root).expanduser() if root is not None else home_folder() / "datasets"


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what ``set_up`` noted of each file; empty where it did not make the folder."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else {}


def write_record(folder: Path, entry: Entry, files: Mapping[str, Any]) -> None:
    """Notes what is known of each file, in the dataset's folder."""
    write_json(folder / RECORD, {"dataset": entry.name, "files": dict(files)})


def missing_paths(entry: Entry, folder: Path) -> list[str]:
    """Returns which paths of a complete dataset are not there, or are empty."""
    return [path for path in entry.present if not is_there(folder / path)]


def is_there(path: Path) -> bool:
    """Whether a file or a folder exists and is not empty."""
    try:
        return path.stat().st_size > 0 if path.is_file() else next(os.scandir(path), None) is not None
    except OSError:
        return False


def state_of(entry: Entry, root: Path) -> DatasetState:
    """Looks at a dataset; checks that paths are there and archives unchanged in size, but hashes nothing.

    Args:
        entry: Which.
        root: The folder of all datasets.
    """
    if entry.embedded:
        return DatasetState("embedded", None, 0, "comes with the packages")
    folder = root / entry.name
    files: dict[str, Any] = read_record(folder).get("files", {})
    if not folder.is_dir() or not any(folder.iterdir()):
        return DatasetState("absent", folder, 0, entry.manual or "")
    size = size_on_disk(folder, files)
    missing = missing_paths(entry, folder)
    if missing:
        begun = [file.name for file in entry.files if part_path(folder / file.name).is_file()]
        note = f"download of {', '.join(begun)} begun" if begun else f"no {', '.join(missing[:3])}"
        return DatasetState("partial", folder, size, note)
    wrong = [
        f"{file.name} has {found} bytes, expected {file.size_bytes}"
        for file in entry.files
        if file.name not in files and (found := _size(folder / file.name)) not in (None, file.size_bytes or found)
    ]
    if wrong:
        return DatasetState("partial", folder, size, "; ".join(wrong))
    return DatasetState(*_verdict(entry, folder, files, size))


def _verdict(entry: Entry, folder: Path, files: Mapping[str, Any], size: int) -> tuple[State, Path, int, str]:
    unknown = [file.name for file in entry.files if file.name not in files]
    if unknown:
        return "unverified", folder, size, f"not put there by setup: {', '.join(unknown)}"
    changed = [
        name
        for name, noted in files.items()
        if noted.get("kept") and _size(folder / name) not in (None, noted.get("size_bytes"))
    ]
    if changed:
        return "unverified", folder, size, f"changed since it was checked: {', '.join(changed)}"
    unpublished = [name for name, noted in files.items() if not noted.get("verified")]
    if unpublished:
        return "unverified", folder, size, f"nobody published a checksum of {', '.join(unpublished)}; pinned"
    return "verified", folder, size, ""


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def size_on_disk(folder: Path, files: Mapping[str, Any] | None = None) -> int:
    """Returns the bytes a folder takes; where ``files`` notes what was unpacked, without walking through it all."""
    noted = list((files or {}).values())
    if noted and all("unpacked_bytes" in entry for entry in noted):
        top = sum(path.stat().st_blocks * 512 for path in folder.iterdir() if path.is_file())
        return top + sum(int(entry["unpacked_bytes"]) for entry in noted)
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # a part file is sparse
            except OSError:
                continue
    return total


def pins_file(name: str) -> Path:
    """Returns where the checksums of a dataset's first download are kept."""
    return home_folder() / "pins" / f"{name}.json"


def read_pins(name: str) -> dict[str, str]:
    """Returns the SHA-256 that each file without published checksum had when it was first downloaded here."""
    try:
        pins = json.loads(pins_file(name).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in pins.items()} if isinstance(pins, dict) else {}


def pin(name: str, file: str, sha256: str) -> None:
    """Notes the SHA-256 of a first download."""
    write_json(pins_file(name), {**read_pins(name), file: sha256})
