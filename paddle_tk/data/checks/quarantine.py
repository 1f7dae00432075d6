"""Puts the samples at fault aside, beside the dataset, and back again. Nothing is ever deleted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_tk.data.checks.findings import NO_SAMPLE, Report
from paddle_tk.data.home import cache_folder
from paddle_tk.errors import BadInput, some
from paddle_tk.files import sha256_bytes, sha256_file, write_bytes_atomic, write_error, write_json

RECORD = "quarantine.json"
MADE_BY = "paddle_tk dataset validate --fix"


@dataclass(frozen=True)
class Quarantine:
    """What was put aside.

    Attributes:
        folder: Where it lies, with the paths it had in the dataset.
        moved: Files that were moved, relative to the dataset.
        rewritten: Lists and annotation files that samples were struck out of; their originals were moved too.
        left: Faults that no file could be moved for.
    """

    folder: Path
    moved: tuple[str, ...]
    rewritten: tuple[str, ...]
    left: int


def quarantine_folder(root: Path) -> Path:
    """Returns where a dataset's bad files go: ``quarantine/NAME`` beside the dataset."""
    root = root.absolute()
    return root.parent / "quarantine" / root.name


def put_aside(report: Report) -> Quarantine:
    """Moves every sample at fault, image and annotation together, out of the dataset.

    A sample goes as a whole: without a faulty box its image would teach that nothing is there. Of equal images one
    stays. Where many samples share a list or an annotation file, they are struck out of it; the original is kept. The
    record is written first, so that an interruption can be undone as well.

    Raises:
        BadInput: The dataset was unpacked or drawn by this package, or a file lies outside of it or cannot be moved.
    """
    root = report.root.absolute()
    if cache_folder().absolute() in (root, *root.parents):
        raise BadInput(
            f"{root} is unpacked or drawn anew when it is missing, so nothing is put aside in it",
            "unpack the archive yourself and give that folder with --root",
        )
    bad = {finding.sample for finding in report.findings} - {NO_SAMPLE}
    files = _files(report, bad)
    outside = [file for file in files if root not in Path(file).absolute().parents]
    if outside:
        raise BadInput(f"{some(outside)} lies outside of {root}", "move it yourself")
    documents = {path: text for path in report.documents if (text := _struck(report, path, bad)) is not None}
    folder = quarantine_folder(root)
    moves = _moves(report, root, folder, [*files, *documents])
    if moves:
        _write_record(folder, root, moves, documents)
        for source, target in moves.items():
            _move(root / source, folder / target)
        for path, payload in documents.items():
            write_bytes_atomic(Path(path), payload)
    rewritten = tuple(report.relative(path) for path in documents)
    handled = sum(_is_handled(report, finding, documents) for finding in report.findings)
    moved = tuple(source for source in moves if source not in rewritten)
    return Quarantine(folder, moved, rewritten, len(report.findings) - handled)


def put_back(root: Path) -> tuple[str, ...]:
    """Undoes every ``put_aside`` of a dataset; returns the files that are back.

    Raises:
        BadInput: Nothing was put aside, or something stands in a file's old place.
    """
    folder = quarantine_folder(root)
    record = _record(folder)
    if record is None:
        raise BadInput(f"{folder} holds no {RECORD}", "nothing was put aside; check --root")
    entries = list(reversed(record["files"]))
    there = [entry for entry in entries if (folder / entry["to"]).exists()]
    blocked = _blocked(root, there)
    if blocked:
        raise BadInput(
            f"{some(blocked)} in {root} is not what --fix left there, or two files of {folder} had that place",
            "move the one away that you do not want",
        )
    for entry in there:
        (root / entry["from"]).unlink(missing_ok=True)  # the rewritten list, which its original replaces
        _move(folder / entry["to"], root / entry["from"])
    shutil.rmtree(folder)
    return tuple(entry["from"] for entry in there)


def _files(report: Report, bad: Collection[int]) -> list[str]:
    """Returns what is to be moved: files of bad samples that no good one needs, and loose ones."""
    kept = {file for i, sample in enumerate(report.samples) if i not in bad for file in sample.files}
    wanted = [file for i in sorted(bad) for file in report.samples[i].files]
    wanted += [finding.file for finding in report.findings if finding.loose]
    return [file for file in dict.fromkeys(wanted) if file not in kept and os.path.isfile(file)]


def _struck(report: Report, path: str, bad: Collection[int]) -> bytes | None:
    """Returns a list or annotation file without what goes; None where it stays as it is."""
    own = [i for i in bad if path.endswith(".txt") or report.samples[i].label == path]
    keys = {report.samples[i].key for i in own}
    missing = {f.entry for f in report.findings if f.kind == "missing_label"}
    orphaned = any(f.kind in ("orphan_label", "malformed_entry") and f.file == path for f in report.findings)
    payload = Path(path).read_bytes()
    try:
        if path.endswith(".txt"):
            return _lines_without(path, payload, {str(key) for key in keys} | missing)
        return _annotations_without(payload, keys) if keys or orphaned else None
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged as a whole: a finding that is left
        return None


def _lines_without(path: str, payload: bytes, keys: Collection[str]) -> bytes | None:
    """Strikes lines: names of a VOC list, paths of a YOLO list, which are relative to it or to the dataset."""
    lines = payload.decode("utf-8").splitlines()
    kept = [line for line in lines if not _names_one(path, line.strip(), keys)]
    return "".join(f"{line}\n" for line in kept).encode() if len(kept) < len(lines) else None


def _names_one(path: str, line: str, keys: Collection[str]) -> bool:
    if not line:
        return False
    ends = os.path.normpath(line).removeprefix(f"..{os.sep}")
    return line in keys or os.path.normpath(os.path.join(os.path.dirname(path), line)) in keys or any(
        key.endswith(f"{os.sep}{ends}") for key in keys
    )  # fmt: skip


def _annotations_without(payload: bytes, keys: Collection[str | int]) -> bytes:
    """Strikes images, and annotations whose image or category is not there or that are malformed."""
    raw = json.loads(payload)
    raw["images"] = [
        image for image in raw["images"] if isinstance(image, dict) and image.get("id") not in keys and "id" in image
    ]
    images, classes = {image["id"] for image in raw["images"]}, {category["id"] for category in raw["categories"]}
    raw["annotations"] = [
        one
        for one in raw["annotations"]
        if isinstance(one, dict) and one.get("image_id") in images and one.get("category_id") in classes
    ]
    return json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()


def _is_handled(report: Report, finding: Any, documents: Mapping[str, bytes]) -> bool:
    if finding.sample != NO_SAMPLE or finding.loose:
        return True
    return finding.kind in ("missing_label", "orphan_label", "malformed_entry") and finding.file in documents


def _moves(report: Report, root: Path, folder: Path, files: Iterable[str]) -> dict[str, str]:
    """Returns where each file goes, both relative; a name that is taken by an earlier one gets a number."""
    moves: dict[str, str] = {}
    for file in files:
        source = os.path.relpath(os.path.abspath(file), root)
        target, number = source, 1
        while (folder / target).exists() or target in moves.values():
            number += 1
            stem, suffix = os.path.splitext(source)
            target = f"{stem}-{number}{suffix}"
        moves[source] = target
    return moves


def _write_record(folder: Path, root: Path, moves: Mapping[str, str], documents: Mapping[str, bytes]) -> None:
    written = {os.path.relpath(os.path.abspath(path), root): sha256_bytes(text) for path, text in documents.items()}
    earlier = _record(folder) or {"files": []}
    entries = [
        {"from": source, "to": target, "sha256": sha256_file(root / source), "replaced_by": written.get(source, "")}
        for source, target in moves.items()
    ]
    write_json(folder / RECORD, {"made_by": MADE_BY, "root": str(root), "files": [*earlier["files"], *entries]})


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_bytes())
        return record if record["made_by"] == MADE_BY else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _blocked(root: Path, entries: Iterable[Mapping[str, str]]) -> list[str]:
    """Returns the places where something stands, or would stand by then, that --fix did not write."""
    places: dict[str, str] = {}
    blocked = []
    for entry in entries:
        place = entry["from"]
        standing = places.get(place, _hash(root / place))
        if standing and standing != entry["replaced_by"]:
            blocked.append(place)
        places[place] = entry["sha256"]
    return blocked


def _hash(path: Path) -> str:
    return sha256_file(path) if path.is_file() else "a folder" if path.exists() else ""


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    except OSError as error:
        raise write_error(target, error) from error
