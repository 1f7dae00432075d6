"""``shards``: Parquet shards written by ``tools/dataset.py shard``, in a folder or behind a URL, read as a stream."""

from __future__ import annotations

from paddle_tk.data.bundle import SPLITS, DatasetBundle, fingerprint
from paddle_tk.data.home import dataset_folder
from paddle_tk.data.shard_split import ShardBoxSplit, ShardRows, ShardSplit
from paddle_tk.data.shard_store import ShardStore, is_url


def load_shards(
    *,
    root: str | None,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    skip_unreadable: bool = False,
) -> DatasetBundle:
    """Reads the index of a sharded dataset; images stay where they are until they are needed.

    Args:
        root: The folder, or a URL that fsspec knows; None: ``$PADDLE_TK_HOME/datasets/shards``.
        val_fraction: Without effect: the shards have their splits.
        test_fraction: Without effect.
        split_seed: Without effect.
        skip_unreadable: Without effect: what could not be decoded was left out when the shards were written.

    Raises:
        DataError: There is no index, it is damaged, or a shard is missing or of another length.
        BadInput: The URL's protocol is unknown or its driver not installed.
    """
    store = ShardStore(root if root is not None and is_url(root) else str(dataset_folder("shards", root)))
    index = store.index()
    make = ShardBoxSplit if index.kind == "detection" else ShardSplit
    return DatasetBundle(
        name="shards",
        kind=index.kind,
        splits={name: make(ShardRows(store, index.splits[name]), index.labels[name]) for name in SPLITS},
        classes=index.classes,
        source=f"{index.source} (shards of {index.name})",
        licence=index.licence,
        fingerprint=fingerprint(index.content_sha256),
    )
