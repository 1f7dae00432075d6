"""Splits whose images lie in shards: read a row group at a time, with as many kept as the order of reading needs."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paddle_tk.data.boxes import Boxes
from paddle_tk.data.bundle import decode_image
from paddle_tk.data.shard_index import Shard, block_arrays
from paddle_tk.data.shard_rows import HEIGHT, LABEL, WIDTH, RowGroup, column_numbers
from paddle_tk.data.shard_store import ShardStore
from paddle_tk.data.streams import BLOCKS_IN_ORDER
from paddle_tk.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Self

_FOOTERS = 64
_REPAIR = "check the shards with python tools/dataset.py validate_shards, and copy or write them again"


class ShardRows:
    """The rows of some shards, by number; for one thread at a time.

    Args:
        store: Where the shards lie.
        shards: The shards, in their order.
        held: Row groups kept in memory.
        chosen: int64, (n,): the rows that there are, in their order; None: all.
    """

    def __init__(
        self,
        store: ShardStore,
        shards: Sequence[Shard],
        *,
        held: int = BLOCKS_IN_ORDER,
        chosen: np.ndarray | None = None,
    ) -> None:
        self.store, self.shards, self.held, self.chosen = store, tuple(shards), held, chosen
        self._starts, self._owners = block_arrays(self.shards)
        self._first_groups = np.concatenate([[0], np.cumsum([len(shard.groups) for shard in self.shards])])
        self._bounds: list[int] = self._starts.tolist()  # bisect is three times as fast on a list
        self._groups: OrderedDict[int, RowGroup] = OrderedDict()
        self._footers: OrderedDict[str, Any] = OrderedDict()
        self.groups_read = 0
        self._last: RowGroup
        self._low, self._high = 0, 0

    def __len__(self) -> int:
        return self._bounds[-1] if self.chosen is None else len(self.chosen)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_groups": OrderedDict(), "_footers": OrderedDict(), "_low": 0, "_high": 0}
        state.pop("_last", None)
        return state

    @cached_property
    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where runs of rows of one row group begin, int64 (k + 1,), and the shard of each, int64 (k,)."""
        if self.chosen is None:
            return self._starts, self._owners
        group = np.searchsorted(self._starts, self.chosen, side="right") - 1
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        return np.append(begins, len(group)), self._owners[group[begins]]

    def row(self, index: int) -> tuple[RowGroup, int]:
        """Returns the row group of row ``index`` and its place there.

        Raises:
            DataError: The shard cannot be read.
        """
        number = index if self.chosen is None else int(self.chosen[index])
        if self._low <= number < self._high:  # the next image is most often in the same row group
            return self._last, number - self._low
        if not 0 <= number < self._bounds[-1]:
            raise IndexError(f"row {index} of {len(self)}")
        block = bisect_right(self._bounds, number) - 1
        self._last = self._group(block)
        self._low, self._high = self._bounds[block], self._bounds[block + 1]
        return self._last, number - self._low

    def column(self, name: str) -> np.ndarray:
        """Reads one column of all rows, a number each, from all shards.

        Raises:
            DataError: A shard cannot be read.
        """
        tables = (self._read(shard, list(range(len(shard.groups))), [name]) for shard in self.shards)
        whole = np.concatenate([column_numbers(table[name]) for table in tables])
        return np.asarray(whole if self.chosen is None else whole[self.chosen])

    def near(self, index: int, share: float) -> int:
        """Returns the row of the same block at ``share`` (0..1) of its length."""
        starts = self.blocks[0]
        block = int(np.searchsorted(starts, index, side="right")) - 1
        first, last = int(starts[block]), int(starts[block + 1])
        return first + min(int(share * (last - first)), last - first - 1)

    def where(self, index: int) -> str:
        """Returns which shard row ``index`` is in, for messages."""
        number = index if self.chosen is None else int(self.chosen[index])
        group = bisect_right(self._bounds, number) - 1
        return self.store.place(self.shards[int(self._owners[group])].file)

    def _group(self, number: int) -> RowGroup:
        found = self._groups.get(number)
        if found is None:
            for read in [kept for kept, group in self._groups.items() if group.left <= 0]:
                del self._groups[read]
            while len(self._groups) >= self.held:
                self._groups.popitem(last=False)  # first, so that never more than ``held`` are in memory
            owner = int(self._owners[number])
            local = number - int(self._first_groups[owner])
            found = self._groups[number] = RowGroup(self._read(self.shards[owner], [local], None))
            self.groups_read += 1
        else:
            self._groups.move_to_end(number)
        return found

    def _read(self, shard: Shard, groups: list[int], columns: list[str] | None) -> pa.Table:
        stretches = [shard.groups[group] for group in groups]
        start = min(begin for _, begin, _ in stretches)
        size = max(begin + length for _, begin, length in stretches) - start
        try:
            file = pq.ParquetFile(
                self.store.source(shard, start, size),
                metadata=self._footer(shard),
                page_checksum_verification=True,
            )
            return file.read_row_groups(groups, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            told = str(error).splitlines()[0]
            raise DataError(f"{self.store.place(shard.file)} is damaged: {told}", _REPAIR) from error
        finally:
            self.store.done_with(shard, start, size)

    def _footer(self, shard: Shard) -> Any:
        found = self._footers.get(shard.file)
        if found is None:
            if len(self._footers) >= _FOOTERS:
                self._footers.popitem(last=False)
            found = self._footers[shard.file] = pq.read_metadata(self.store.footer(shard))
        self._footers.move_to_end(shard.file)
        return found


class ShardSplit:
    """Images with a label, in shards.

    Args:
        rows: The rows.
        counts: Images by label in the shards.

    Attributes:
        rows: The rows.
        on_disk: True: an image is decoded at each access.
        block_starts, block_shards, mean_bytes, label_range: As in ``paddle_tk.data.streams.Streamed``.
    """

    on_disk = True

    def __init__(self, rows: ShardRows, counts: Mapping[int, int]) -> None:
        self.rows, self._counts = rows, counts
        self.block_starts, self.block_shards = rows.blocks
        self.mean_bytes = _mean_bytes(rows.shards)
        self.label_range = min(counts), max(counts)

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> np.ndarray:
        """Reads image ``index``: uint8 RGB, (H, W, 3).

        Raises:
            DataError: The shard cannot be read, or the image not be decoded.
        """
        group, row = self.rows.row(index)
        return self._decoded(index, group, row)

    def labelled(self, index: int) -> tuple[np.ndarray, int]:
        """Reads image ``index`` and its label; raises as ``image`` does.

        A row group of which this was asked for as many images as it has is not kept any longer: an epoch asks once.
        """
        group, row = self.rows.row(index)
        group.left -= 1
        return self._decoded(index, group, row), group.labels[row]

    def _decoded(self, index: int, group: RowGroup, row: int) -> np.ndarray:
        image = decode_image(group.payload(row))
        if image is None:
            raise DataError(f"image {group.name(row)} in {self.rows.where(index)} cannot be decoded", _REPAIR)
        return image

    def payload(self, index: int) -> np.ndarray:
        """Returns image ``index`` as a file's content: uint8, (n,)."""
        group, row = self.rows.row(index)
        return group.payload(row)

    def name(self, index: int) -> str:
        """Returns the name that the image had."""
        group, row = self.rows.row(index)
        return group.name(row)

    def partner(self, index: int, share: float) -> int:
        """Returns an image of the same row group."""
        return self.rows.near(index, share)

    def subset(self, indices: np.ndarray) -> Self:
        """Returns the images at ``indices``, in that order."""
        own, rows = np.asarray(indices, np.int64), self.rows
        chosen = own if rows.chosen is None else rows.chosen[own]
        return type(self)(ShardRows(rows.store, rows.shards, held=rows.held, chosen=chosen), self._counts)

    def holding(self, blocks: int) -> Self:
        """Returns the same images with room for so many row groups in memory, none read yet."""
        rows = self.rows
        return type(self)(ShardRows(rows.store, rows.shards, held=max(1, blocks), chosen=rows.chosen), self._counts)

    def label_counts(self) -> Mapping[int, int]:
        """Returns the images by label, as the index says; of a subset they are counted."""
        if self.rows.chosen is not None:
            return dict(Counter(self.labels.tolist()))
        return self._counts

    @cached_property
    def labels(self) -> np.ndarray:
        """int64, (n,): class ids, read from all shards."""
        return self.rows.column(LABEL)


class ShardBoxSplit(ShardSplit):
    """Images with boxes, in shards; arguments and attributes as of ``ShardSplit``.

    The label of an image is its class that is rarest in the split, -1 without boxes.
    """

    def boxes(self, index: int) -> Boxes:
        """Returns what is annotated in image ``index``."""
        group, row = self.rows.row(index)
        return group.boxes(row)

    @cached_property
    def sizes(self) -> np.ndarray:
        """int64, (n, 2): height and width of each image in pixels, read from all shards."""
        return np.stack([self.rows.column(HEIGHT), self.rows.column(WIDTH)], axis=1).astype(np.int64)


def _mean_bytes(shards: Sequence[Shard]) -> float:
    return sum(shard.size_bytes for shard in shards) / sum(shard.rows for shard in shards)
