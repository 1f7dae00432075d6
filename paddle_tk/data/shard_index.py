"""The index of a sharded dataset: what lies in which shard, where each row group begins, and every checksum.

It is one JSON file, ``index.json``, read and checked as a whole before anything else; ``SHA256SUMS`` beside it says the
same of the shards in the form that ``sha256sum -c`` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_tk.data.bundle import SPLITS
from paddle_tk.errors import DataError
from paddle_tk.files import canonical_json, sha256_bytes

INDEX, SUMS = "index.json", "SHA256SUMS"
MADE_BY = "paddle_tk dataset shard"
VERSION = 1
_FIX = "write the shards again with python tools/dataset.py shard, or copy them whole"


@dataclass(frozen=True)
class Shard:
    """One Parquet file.

    Attributes:
        file: Its name in the dataset's folder, or in a sub-folder of it: "part/name".
        rows: Images in it.
        size_bytes: Its length.
        sha256: Of the whole file.
        groups: For each row group its rows, where it begins and how long it is, both in bytes: it is read as one piece.
        boxes: Annotated boxes.
    """

    file: str
    rows: int
    size_bytes: int
    sha256: str
    groups: tuple[tuple[int, int, int], ...]
    boxes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "file": self.file,
            "rows": self.rows,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
            "boxes": self.boxes,
            "groups": [list(group) for group in self.groups],
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Shard:
        """Reads it back.

        Raises:
            KeyError, TypeError, ValueError: Something is missing or of another kind.
        """
        groups = tuple((int(rows), int(start), int(size)) for rows, start, size in raw["groups"])
        shard = cls(
            file=str(raw["file"]),
            rows=int(raw["rows"]),
            size_bytes=int(raw["bytes"]),
            sha256=str(raw["sha256"]),
            groups=groups,
            boxes=int(raw["boxes"]),
        )
        if not groups or sum(rows for rows, *_ in groups) != shard.rows or min(rows for rows, *_ in groups) < 1:
            raise ValueError(f"the row groups of {shard.file} do not make its {shard.rows} rows")
        if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", shard.file):
            raise ValueError(f"'{shard.file}' is no name of a shard")
        return shard


@dataclass(frozen=True)
class ShardIndex:
    """A sharded dataset.

    Attributes:
        name: The dataset it was made from.
        kind: "classification" or "detection".
        classes: Class names in the order of the class ids.
        source: Where the images come from.
        licence: Under which terms.
        fingerprint: That of the dataset it was made from.
        compression: "snappy", "zstd" or "none", of all columns.
        order: How the rows of each split are ordered.
        labels: For each split its images by label; -1 is an image without boxes.
        splits: The shards of "train", "val" and "test".
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    source: str
    licence: str
    fingerprint: str
    compression: str
    order: Mapping[str, str]
    labels: Mapping[str, Mapping[int, int]]
    splits: Mapping[str, tuple[Shard, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types, with the index's own checksum."""
        body = {
            "made_by": MADE_BY,
            "version": VERSION,
            "dataset": self.name,
            "kind": self.kind,
            "classes": list(self.classes),
            "source": self.source,
            "licence": self.licence,
            "dataset_fingerprint": self.fingerprint,
            "compression": self.compression,
            "order": dict(self.order),
            "labels": {
                name: {str(label): count for label, count in sorted(counts.items())}
                for name, counts in self.labels.items()
            },
            "splits": {name: [shard.to_dict() for shard in shards] for name, shards in self.splits.items()},
        }
        return {**body, "sha256": sha256_bytes(canonical_json(body))}

    @property
    def files(self) -> list[str]:
        """The names of everything in the folder."""
        return [INDEX, SUMS, *(shard.file for shards in self.splits.values() for shard in shards)]

    @property
    def content_sha256(self) -> str:
        """SHA-256 over classes and the content of all shards, in their order."""
        shards = {name: [shard.sha256 for shard in shards] for name, shards in self.splits.items()}
        return sha256_bytes(canonical_json({"classes": self.classes, "shards": shards}))

    def sums(self) -> str:
        """Returns the text of ``SHA256SUMS``."""
        return "".join(f"{shard.sha256}  {shard.file}\n" for shards in self.splits.values() for shard in shards)


def parse_index(payload: bytes, where: str) -> ShardIndex:
    """Reads an index and checks it against its own checksum.

    Args:
        payload: The file's content.
        where: Its place, for messages.

    Raises:
        DataError: It is damaged, of a later version, or no index of shards.
    """
    try:
        raw = json.loads(payload)
        said = raw.pop("sha256")
        if raw["made_by"] != MADE_BY:
            raise ValueError(f"made by {raw['made_by']!r}")
        version = int(raw["version"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} is no index of shards ({type(error).__name__}: {error})", _FIX) from error
    if version != VERSION:
        raise DataError(f"{where} is of version {version}, this release reads {VERSION}", "use the release it is from")
    if sha256_bytes(canonical_json(raw)) != said:
        raise DataError(f"{where} does not match its own checksum", _FIX)
    try:
        return _index(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} is no index of shards ({type(error).__name__}: {error})", _FIX) from error


def _index(raw: Mapping[str, Any]) -> ShardIndex:
    if sorted(raw["splits"]) != sorted(SPLITS):
        raise ValueError(f"its splits are {', '.join(raw['splits'])}")
    return ShardIndex(
        name=str(raw["dataset"]),
        kind=str(raw["kind"]),
        classes=tuple(map(str, raw["classes"])),
        source=str(raw["source"]),
        licence=str(raw["licence"]),
        fingerprint=str(raw["dataset_fingerprint"]),
        compression=str(raw["compression"]),
        order={str(name): str(text) for name, text in raw["order"].items()},
        labels={name: _counts(raw["labels"][name]) for name in SPLITS},
        splits={name: tuple(Shard.from_dict(shard) for shard in raw["splits"][name]) for name in SPLITS},
    )


def _counts(raw: Mapping[str, int]) -> dict[int, int]:
    if not raw:
        raise ValueError("a split has no labels")
    return {int(label): int(count) for label, count in raw.items()}


def label_sums(found: Iterable[tuple[str, Sequence[Sequence[int]]]]) -> dict[str, dict[int, int]]:
    """Adds up what was counted in each shard.

    Args:
        found: A split and (label, images) pairs, for each shard.

    Returns:
        Images by label, for each split.
    """
    sums: dict[str, dict[int, int]] = {name: {} for name in SPLITS}
    for name, pairs in found:
        for label, count in pairs:
            sums[name][label] = sums[name].get(label, 0) + count
    return sums


def block_arrays(shards: Sequence[Shard]) -> tuple[np.ndarray, np.ndarray]:
    """Returns where row groups begin, int64 (k + 1,), and the number of the shard of each, int64 (k,)."""
    rows = np.array([group[0] for shard in shards for group in shard.groups], np.int64)
    owners = np.repeat(np.arange(len(shards)), [len(shard.groups) for shard in shards])
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)]), owners
