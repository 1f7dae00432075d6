"""Makes one dataset of several sharded ones that lie side by side, by an index over them; no shard is touched.

So a source too large to be listed at once, or one that grows, is sharded part by part, each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from paddle_tk.data.bundle import SPLITS
from paddle_tk.data.shard_index import INDEX, SUMS, ShardIndex, label_sums
from paddle_tk.data.shard_store import ShardStore
from paddle_tk.errors import DataError
from paddle_tk.files import canonical_json, sha256_bytes, write_bytes_atomic, write_json


def merge_shards(root: Path, parts: Sequence[str] | None = None) -> ShardIndex:
    """Writes ``index.json`` and ``SHA256SUMS`` of a folder whose sub-folders hold shards.

    Args:
        root: The folder.
        parts: Names of the sub-folders, in the order in which "val" and "test" are read; None: all that have an index,
            by name.

    Raises:
        DataError: There are no parts, a part is damaged, or they are of different tasks or classes.
    """
    names = sorted(path.parent.name for path in root.glob(f"*/{INDEX}")) if parts is None else list(parts)
    if not names:
        raise DataError(f"{root} has no sub-folder with shards", "write them with python tools/dataset.py shard")
    found = {name: ShardStore(str(root / name)).index() for name in names}
    first = found[names[0]]
    for name, index in found.items():
        for what in ("kind", "classes"):
            if getattr(index, what) != getattr(first, what):
                raise DataError(
                    f"{root / name} has other {what} than {root / names[0]}", "merge parts of one dataset only"
                )
    merged = ShardIndex(
        name=_all_of(found, "name"),
        kind=first.kind,
        classes=first.classes,
        source=_all_of(found, "source"),
        licence=_all_of(found, "licence"),
        fingerprint=sha256_bytes(canonical_json([index.fingerprint for index in found.values()])),
        compression=_all_of(found, "compression"),
        order=dict.fromkeys(SPLITS, "as in each part"),
        labels=label_sums((split, list(index.labels[split].items())) for index in found.values() for split in SPLITS),
        splits={
            split: tuple(
                replace(shard, file=f"{name}/{shard.file}")
                for name, index in found.items()
                for shard in index.splits[split]
            )
            for split in SPLITS
        },
    )
    write_bytes_atomic(root / SUMS, merged.sums().encode())
    write_json(root / INDEX, merged.to_dict())
    return merged


def _all_of(found: dict[str, ShardIndex], what: str) -> str:
    return "; ".join(dict.fromkeys(str(getattr(index, what)) for index in found.values()))
