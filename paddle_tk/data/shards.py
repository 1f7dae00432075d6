"""Writes a dataset as Parquet shards: which rows go where, one shard, and all of them with their index.

Equal images, settings and library versions give equal bytes, whichever engine and however many processes write them.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paddle_tk.data.boxes import DetectionSplit
from paddle_tk.data.bundle import SPLITS, DatasetBundle, FileSplit, ImageSplit
from paddle_tk.data.shard_index import INDEX, SUMS, Shard, ShardIndex, label_sums
from paddle_tk.data.shard_jobs import Engine, Job, run_jobs
from paddle_tk.data.shard_rows import LABEL, Stored, image_bytes, rows_table, shard_schema
from paddle_tk.errors import BadInput, DataError
from paddle_tk.files import MIB, require_free_space, sha256_file, write_bytes_atomic, write_error, write_json

Compression = Literal["snappy", "zstd", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("snappy", "zstd", "none")
Order = Literal["shuffled", "given"]
ORDERS: tuple[Order, ...] = ("shuffled", "given")
_SAMPLED = 1024  # images whose length tells how many make a shard
_LEAST_GROUP_ROWS = 32  # images that are mixed with one another come from one row group
_MOST_GROUP_BYTES = 2**30  # offsets within a column of a row group have 32 bits
_ROW_BYTES = 128  # of what a row has besides its image: label, name, sizes
_SPARE = 1.05
_SHUFFLE = 0x7368


@dataclass(frozen=True)
class ShardSettings:
    """How shards are cut and written.

    Attributes:
        shard_mb: Length of a shard, about, in MB (2^20 bytes).
        rows_per_shard: Images of a shard; None: as ``shard_mb`` says.
        group_mb: Length of a row group, about, in MB; it has at least 32 images, as far as its shard has them.
        compression: Of all columns.
        order: "shuffled": the rows of "train" in a random order, so that shards are alike; "given": as they are read.
        seed: Of that order.
    """

    shard_mb: float = 128.0
    rows_per_shard: int | None = None
    group_mb: float = 1.0
    compression: Compression = "snappy"
    order: Order = "shuffled"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shard_mb <= 0 or self.group_mb <= 0:
            raise BadInput(f"--shard-mb {self.shard_mb:g} and --group-mb {self.group_mb:g}", "both must be above 0")
        if self.rows_per_shard is not None and self.rows_per_shard < 1:
            raise BadInput(f"--rows-per-shard {self.rows_per_shard}", "a shard has at least 1 image")


@dataclass(frozen=True)
class ShardRowsToWrite:
    """What one shard is to hold, which is all of a dataset that its writer needs to know.

    Attributes:
        split: Its images, in their order.
        labels: int64, (n,): their labels, which go by the whole split.
    """

    split: ImageSplit
    labels: np.ndarray


@dataclass(frozen=True)
class ShardWriter:
    """Writes one shard; a job of ``run_jobs``.

    Attributes:
        kind: "classification" or "detection".
        metadata: What every shard says of its dataset.
        folder: Where shards go; it exists.
        compression: Of all columns.
        group_rows: Images of a row group, by split.
        names_below: Folder that the images' names are relative to; None: as the splits say them.
    """

    kind: str
    metadata: Mapping[str, Any]
    folder: str
    compression: Compression
    group_rows: Mapping[str, int]
    names_below: str | None

    def __call__(self, job: Job) -> dict[str, Any]:
        """Writes the shard and returns its record.

        Args:
            job: "split" and "file", their names, and "part", a ``ShardRowsToWrite``.

        Raises:
            DataError: An image cannot be read.
            BadInput: The shard cannot be written.
        """
        name, part = str(job["split"]), job["part"]
        path, count = Path(self.folder) / str(job["file"]), self.group_rows[name]
        schema = shard_schema(self.kind, {**self.metadata, "split": name})
        seen, boxes = Counter[int](), 0
        try:
            with self._open(path, schema) as writer:
                for start in range(0, len(part.labels), count):
                    rows = range(start, min(start + count, len(part.labels)))
                    table = rows_table(part.split, rows, part.labels, schema, self.names_below)
                    writer.write_table(table, row_group_size=count)
                    seen.update(table[LABEL].to_pylist())
                    boxes += sum(map(len, table["class_ids"])) if "class_ids" in table.column_names else 0
            return {**_record(path, boxes).to_dict(), "labels": sorted(seen.items())}
        except OSError as error:
            raise write_error(path, error) from error

    def _open(self, path: Path, schema: pa.Schema) -> pq.ParquetWriter:
        # No dictionaries and statistics: images do not repeat, and nothing is looked up by value.
        return pq.ParquetWriter(
            path,
            schema,
            compression=self.compression,
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )


def write_shards(
    bundle: DatasetBundle,
    folder: Path,
    settings: ShardSettings,
    *,
    engine: Engine = "local",
    workers: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> ShardIndex:
    """Writes all splits of a dataset as shards, with their index and ``SHA256SUMS``.

    Args:
        bundle: The dataset; its images stay as they are, byte for byte, those in memory become PNG.
        folder: Exists and is empty; for a Ray cluster of several machines, all of them see it.
        settings: How shards are cut and written.
        engine: "local" or "ray".
        workers: Processes at most.
        advance: Called with the number of images done.

    Raises:
        BadInput: The disk is too small, a setting does not fit, or Ray is not installed.
        DataError: An image cannot be read.
    """
    means = {name: _mean_bytes(bundle, name) for name in SPLITS}
    needed = sum(means[name] * len(bundle.splits[name]) for name in SPLITS)
    require_free_space(folder, int(needed * _SPARE), "the shards")
    jobs = [job for name in SPLITS for job in _jobs(bundle, name, means[name], settings)]
    writer = ShardWriter(
        kind=bundle.kind,
        metadata=_metadata(bundle),
        folder=str(folder),
        compression=settings.compression,
        group_rows={name: _group_rows(means[name], settings) for name in SPLITS},
        names_below=_common_folder(bundle),
    )
    records = run_jobs(writer, jobs, engine=engine, workers=workers, advance=advance)
    shards = [Shard.from_dict(record) for record in records]
    index = ShardIndex(
        name=bundle.name,
        kind=bundle.kind,
        classes=bundle.classes,
        source=bundle.source,
        licence=bundle.licence,
        fingerprint=bundle.fingerprint,
        compression=settings.compression,
        order={name: _told_order(name, settings) for name in SPLITS},
        labels=label_sums((str(job["split"]), record["labels"]) for job, record in zip(jobs, records, strict=True)),
        splits={
            name: tuple(shard for job, shard in zip(jobs, shards, strict=True) if job["split"] == name)
            for name in SPLITS
        },
    )
    write_json(folder / INDEX, index.to_dict())
    write_bytes_atomic(folder / SUMS, index.sums().encode())
    return index


def row_order(bundle: DatasetBundle, name: str, settings: ShardSettings) -> np.ndarray:
    """Returns the rows of a split in the order in which shards hold them: int64, (n,).

    "val" and "test" keep theirs, since they are read from the first to the last.
    """
    count = len(bundle.splits[name])
    if name != "train" or settings.order == "given":
        return np.arange(count)
    return np.random.default_rng((settings.seed, _SHUFFLE)).permutation(count)


def _told_order(name: str, settings: ShardSettings) -> str:
    return f"shuffled, seed {settings.seed}" if name == "train" and settings.order == "shuffled" else "as it was read"


def _metadata(bundle: DatasetBundle) -> dict[str, Any]:
    return {
        "dataset": bundle.name,
        "task": bundle.kind,
        "classes": list(bundle.classes),
        "source": bundle.source,
        "licence": bundle.licence,
        "dataset_fingerprint": bundle.fingerprint,
    }


def _jobs(bundle: DatasetBundle, name: str, mean: float, settings: ShardSettings) -> list[Job]:
    split, order = bundle.splits[name], row_order(bundle, name, settings)
    labels, count = split.labels, len(order)
    rows = settings.rows_per_shard or max(1, int(settings.shard_mb * MIB / mean))
    shards = math.ceil(count / rows)
    width = max(5, len(str(shards)))

    def part(number: int) -> ShardRowsToWrite:
        own = order[number * rows : (number + 1) * rows]
        return ShardRowsToWrite(_part(split, own), labels[own])

    return [
        {
            "split": name,
            "file": f"{name}-{number:0{width}d}-of-{shards:0{width}d}.parquet",
            "rows": min(rows, count - number * rows),
            "part": partial(part, number),
        }
        for number in range(shards)
    ]


def _part(split: ImageSplit, indices: np.ndarray) -> ImageSplit:
    """Returns images of a split as one that carries these alone, wherever it is sent: no table of all, no cache."""
    numbers = indices.tolist()
    if isinstance(split, FileSplit):
        return FileSplit([split.name(number) for number in numbers], split.labels[indices])
    if isinstance(split, DetectionSplit):
        names, boxes = [split.name(number) for number in numbers], [split.boxes(number) for number in numbers]
        return DetectionSplit(names, split.sizes[indices], boxes)
    return split.subset(indices)


def _group_rows(mean: float, settings: ShardSettings) -> int:
    rows = max(_LEAST_GROUP_ROWS, int(settings.group_mb * MIB / mean))
    if rows * mean > _MOST_GROUP_BYTES:
        raise BadInput(
            f"a row group of {rows} images of {mean / MIB:.1f} MB on average would pass 1 GB", "lower --group-mb"
        )
    return rows


def _mean_bytes(bundle: DatasetBundle, name: str) -> float:
    """Returns what a row of a split takes, by evenly spread images of it."""
    split = bundle.splits[name]
    sample = np.unique(np.linspace(0, len(split) - 1, min(_SAMPLED, len(split))).astype(np.int64)).tolist()
    if _in_files(split):
        try:
            total = sum(os.stat(split.name(index)).st_size for index in sample)
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}", "check the file") from error
    else:
        total = sum(len(image_bytes(split, index)) for index in sample)
    return total / len(sample) + _ROW_BYTES


def _common_folder(bundle: DatasetBundle) -> str | None:
    """Returns the deepest folder that all image files are in, None where there are no files."""
    splits = list(bundle.splits.values())
    if not all(map(_in_files, splits)):
        return None
    return os.path.commonpath([os.path.dirname(split.name(i)) for split in splits for i in range(len(split))])


def _in_files(split: ImageSplit) -> bool:
    """Whether the names of a split are those of its files."""
    return split.on_disk and not isinstance(split, Stored)


def _record(path: Path, boxes: int) -> Shard:
    footer = pq.read_metadata(path)
    groups = []
    for number in range(footer.num_row_groups):
        columns = [footer.row_group(number).column(column) for column in range(footer.num_columns)]
        start = min(column.data_page_offset for column in columns)
        stop = max(column.data_page_offset + column.total_compressed_size for column in columns)
        groups.append((footer.row_group(number).num_rows, start, stop - start))
    return Shard(
        file=path.name,
        rows=footer.num_rows,
        size_bytes=path.stat().st_size,
        sha256=sha256_file(path),
        groups=tuple(groups),
        boxes=boxes,
    )
