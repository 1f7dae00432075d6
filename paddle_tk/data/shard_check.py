"""Checks shards against their index: lengths, checksums, counts, labels, boxes, and every image decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paddle_tk.data.bundle import SPLITS, decode_image
from paddle_tk.data.shard_index import INDEX, SUMS, Shard, ShardIndex, label_sums
from paddle_tk.data.shard_jobs import Engine, Job, run_jobs
from paddle_tk.data.shard_rows import HEIGHT, WIDTH, RowGroup, shard_schema
from paddle_tk.data.shard_store import ShardStore, is_url
from paddle_tk.data.verify import quiet_decoder
from paddle_tk.errors import DataError
from paddle_tk.files import sha256_bytes

_SHOWN = 20  # problems of one shard that are told one by one


@dataclass(frozen=True)
class ShardReport:
    """What a check found.

    Attributes:
        shards: Shards checked.
        rows: Images in them by their index.
        decoded: Images decoded.
        size_bytes: Length of all shards.
        problems: (shard, what is wrong with it), in the order of the shards.
        extra: Files in the folder that the index does not know.
    """

    shards: int
    rows: int
    decoded: int
    size_bytes: int
    problems: tuple[tuple[str, str], ...]
    extra: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.extra

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "shards": self.shards,
            "rows": self.rows,
            "decoded": self.decoded,
            "bytes": self.size_bytes,
            "problems": [{"shard": shard, "problem": problem} for shard, problem in self.problems],
            "extra": list(self.extra),
            "good": self.good,
        }


def check_shards(
    root: str, *, engine: Engine = "local", workers: int = 1, advance: Callable[[int], None] = lambda _: None
) -> ShardReport:
    """Reads every shard of a dataset whole.

    Args:
        root: Its folder or URL.
        engine: "local" or "ray".
        workers: Processes at most; each holds one shard.
        advance: Called with the number of images done.

    Raises:
        DataError: There is no index, or it is damaged.
        BadInput: The URL's protocol is unknown, or Ray is not installed.
    """
    store = ShardStore(root)
    index = store.index(lengths=False)
    shards = [(name, shard) for name in SPLITS for shard in index.splits[name]]
    jobs = [{"split": name, "shard": shard.to_dict(), "rows": shard.rows} for name, shard in shards]
    found = run_jobs(ShardCheck(store, index.kind, len(index.classes)), jobs, engine=engine, workers=workers,
                     advance=advance)  # fmt: skip
    problems = [
        (shard.file, problem)
        for (_, shard), record in zip(shards, found, strict=True)
        for problem in record["problems"]
    ]
    counted = label_sums((name, record["labels"]) for (name, _), record in zip(shards, found, strict=True))
    if not problems:  # what is wrong with a shard is told there
        wrong = [name for name in SPLITS if counted[name] != index.labels[name]]
        problems += [(INDEX, f"its counts of the labels of {name} are not those of the shards") for name in wrong]
    return ShardReport(
        shards=len(shards),
        rows=sum(shard.rows for _, shard in shards),
        decoded=sum(record["decoded"] for record in found),
        size_bytes=sum(shard.size_bytes for _, shard in shards),
        problems=tuple(problems),
        extra=_unknown_files(root, index),
    )


def row_count(root: str) -> int:
    """Returns the images of all splits, by the index.

    Raises:
        DataError: There is no index, or it is damaged.
    """
    index = ShardStore(root).index(lengths=False)
    return sum(shard.rows for shards in index.splits.values() for shard in shards)


@dataclass(frozen=True)
class ShardCheck:
    """Checks one shard; a job of ``run_jobs``.

    Attributes:
        store: Where it lies.
        kind: "classification" or "detection".
        classes: How many there are.
    """

    store: ShardStore
    kind: str
    classes: int

    def __call__(self, job: Job) -> dict[str, Any]:
        """Returns the shard's problems and how many of its images were decoded."""
        shard = Shard.from_dict(job["shard"])
        found = _Found()
        try:
            content = self.store.read(shard)
            if len(content) != shard.size_bytes:
                found.add(f"it has {len(content)} bytes, the index says {shard.size_bytes}")
            elif sha256_bytes(content) != shard.sha256:
                found.add("its SHA-256 is not the index's")
            self._rows(content, shard, found)
        except DataError as error:
            found.add(error.problem)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            found.add(f"it cannot be read as Parquet: {str(error).splitlines()[0]}")
        return {"problems": found.told, "decoded": found.decoded, "labels": found.labels}

    def _rows(self, content: bytes, shard: Shard, found: _Found) -> None:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if not file.schema_arrow.equals(shard_schema(self.kind, {}), check_metadata=False):
            found.add(f"its columns are {', '.join(file.schema_arrow.names)}, not those of {self.kind}")
            return
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        if sum(groups) != shard.rows:
            found.add(f"it has {sum(groups)} rows, the index says {shard.rows}")
        elif groups != [rows for rows, *_ in shard.groups]:
            found.add(f"its row groups have {groups} rows, which is not what the index says")
        labels, boxes = Counter[int](), 0
        with quiet_decoder():
            for number, rows in enumerate(groups):
                table = file.read_row_group(number, use_threads=False)
                group = RowGroup(table)
                labels.update(group.labels)
                sizes = zip(table[HEIGHT].to_pylist(), table[WIDTH].to_pylist(), strict=True)
                for row, size in zip(range(rows), sizes, strict=True):
                    for problem in self._problems(group, row, size):
                        found.add(f"{group.name(row)}: {problem}")
                    found.decoded += 1
                boxes += sum(map(len, table["class_ids"])) if self.kind == "detection" else 0
        found.labels = sorted(labels.items())
        if boxes != shard.boxes:
            found.add(f"it has {boxes} boxes, the index says {shard.boxes}")

    def _problems(self, group: RowGroup, row: int, size: tuple[int, int]) -> Iterator[str]:
        image = decode_image(group.payload(row))
        if image is None:
            yield "the image cannot be decoded"
        elif image.shape[:2] != size:
            yield f"the image is {image.shape[1]}x{image.shape[0]} px, its row says {size[1]}x{size[0]}"
        least = -1 if self.kind == "detection" else 0
        if not least <= group.labels[row] < self.classes:
            yield f"label {group.labels[row]}, but there are {self.classes} classes"
        if self.kind == "detection":
            yield from self._box_problems(group, row, size)

    def _box_problems(self, group: RowGroup, row: int, size: tuple[int, int]) -> Iterator[str]:
        try:
            boxes = group.boxes(row)
        except ValueError as error:
            yield f"its boxes are not whole: {error}"
            return
        low, high = boxes.xyxy[:, :2], boxes.xyxy[:, 2:]
        good = (low >= 0) & (low < high) & (high <= np.array([size[1], size[0]]))
        if not good.all():  # a NaN is not inside either
            yield f"{int((~good.all(axis=1)).sum())} box(es) are not inside the image, or have no area"
        ids = boxes.class_ids
        if len(ids) and (ids.min() < 0 or ids.max() >= self.classes):
            yield f"a box of class {int(ids.max())}, but there are {self.classes} classes"


class _Found:
    """The problems of one shard, the first few in words, the images decoded and the images by label."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.decoded = 0
        self.labels: list[tuple[int, int]] = []
        self._count = 0

    def add(self, problem: str) -> None:
        """Adds a problem."""
        self._count += 1
        if self._count <= _SHOWN:
            self.told.append(problem)
        else:
            self.told[_SHOWN:] = [f"and {self._count - _SHOWN} more"]


def _unknown_files(root: str, index: ShardIndex) -> tuple[str, ...]:
    if is_url(root):
        return ()
    folder, known = Path(root).expanduser(), set(index.files)
    known |= {f"{Path(file).parent}/{name}" for file in index.files for name in (INDEX, SUMS) if "/" in file}
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    return tuple(sorted(name for name in found if name not in known))
