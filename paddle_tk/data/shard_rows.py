"""Rows of shards: the Arrow schema, images with their annotation to tables, and a row group back to images."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from paddle_tk.data.boxes import Boxes, check_size
from paddle_tk.data.bundle import decode_image
from paddle_tk.data.formats.detection_files import header_size
from paddle_tk.errors import DataError

IMAGE, LABEL, NAME, HEIGHT, WIDTH = "image", "label", "name", "height", "width"
METADATA_KEY = b"paddle_tk"
_BOX_TYPES = {
    "xyxy": pa.float64(),  # four numbers a box
    "class_ids": pa.int64(),
    "crowd": pa.bool_(),
    "difficult": pa.bool_(),
    "areas": pa.float64(),
}
_NUMPY = {pa.int64(): np.int64, pa.int32(): np.int32, pa.float64(): np.float64}


@runtime_checkable
class Stored(Protocol):
    """A split that holds images as files' contents, wherever these are."""

    def payload(self, index: int) -> np.ndarray:
        """Returns image ``index`` as a file's content: uint8, (n,)."""


def shard_schema(kind: str, metadata: Mapping[str, Any]) -> pa.Schema:
    """Returns the schema of shards: no column may be null.

    Args:
        kind: "classification" or "detection".
        metadata: What every shard says of its dataset, as JSON types.
    """
    columns = [(IMAGE, pa.binary()), (LABEL, pa.int64()), (NAME, pa.string()), (HEIGHT, pa.int32())]
    columns.append((WIDTH, pa.int32()))
    if kind == "detection":
        columns += [(name, pa.list_(pa.field("element", type_, nullable=False))) for name, type_ in _BOX_TYPES.items()]
    text = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
    return pa.schema(
        [pa.field(name, type_, nullable=False) for name, type_ in columns], metadata={METADATA_KEY: text.encode()}
    )


def image_bytes(split: Any, index: int) -> bytes:
    """Returns image ``index`` as a file's content: as it lies on disk or in a shard, a PNG of what is in memory.

    Raises:
        DataError: Its file cannot be read.
    """
    if isinstance(split, Stored):
        return split.payload(index).tobytes()
    if not split.on_disk:
        good, encoded = cv2.imencode(".png", cv2.cvtColor(split.image(index), cv2.COLOR_RGB2BGR))
        assert good, "a uint8 image can be encoded"
        return bytes(encoded)
    path = split.name(index)
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "check the file and its rights") from error


def rows_table(
    split: Any, indices: Sequence[int], labels: np.ndarray, schema: pa.Schema, names_below: str | None
) -> pa.Table:
    """Reads images and makes a table of them.

    Args:
        split: The images.
        indices: Which of them.
        labels: Of the whole split.
        schema: Of the shards.
        names_below: Folder that names are written relative to; None: as the split says them.

    Raises:
        DataError: An image cannot be read or decoded, or has another size than its annotation says.
    """
    images = [image_bytes(split, index) for index in indices]
    names = [split.name(index) for index in indices]
    sizes = [payload_size(image, name) for image, name in zip(images, names, strict=True)]
    columns: dict[str, Any] = {
        IMAGE: images,
        LABEL: labels[list(indices)],
        NAME: [_plain(name if names_below is None else os.path.relpath(name, names_below)) for name in names],
        HEIGHT: [height for height, _ in sizes],
        WIDTH: [width for _, width in sizes],
    }
    if len(schema) > len(columns):
        annotated = [split.boxes(index) for index in indices]
        for index, name, size in zip(indices, names, sizes, strict=True):
            height, width = split.sizes[index]
            check_size(name, "its annotation", (int(height), int(width)), size)
        for field in _BOX_TYPES:
            columns[field] = [getattr(boxes, field).reshape(-1).tolist() for boxes in annotated]
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def payload_size(payload: bytes, name: str) -> tuple[int, int]:
    """Returns (height, width) of an image as it will be decoded.

    Raises:
        DataError: It is no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        size = header_size(io.BytesIO(payload))
    if size is None:
        decoded = decode_image(np.frombuffer(payload, np.uint8))
        if decoded is None:
            raise DataError(f"{name} cannot be decoded as an image", "repair or remove the file")
        size = (decoded.shape[0], decoded.shape[1])
    return size


class RowGroup:
    """A row group in memory.

    Args:
        table: As it was read, with all columns.

    Attributes:
        labels: Of its images.
        left: Images that a reader who asks for each once has not asked for yet; the reader counts.
    """

    def __init__(self, table: pa.Table) -> None:
        self.left = len(table)
        image = _one_array(table[IMAGE])
        content = image.buffers()[2]
        self._offsets: list[int] = _offsets(image).tolist()
        self._content = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
        self.labels: list[int] = column_numbers(table[LABEL]).tolist()
        self._names = table[NAME]
        present = [name for name in _BOX_TYPES if name in table.column_names]
        columns = {name: _one_array(table[name]) for name in present}
        self._boxes = {name: (_offsets(column), _numbers(column.values)) for name, column in columns.items()}

    def payload(self, row: int) -> np.ndarray:
        """Returns the image's file content: uint8, (n,), a view."""
        return self._content[self._offsets[row] : self._offsets[row + 1]]

    def name(self, row: int) -> str:
        """Returns the image's name."""
        return str(self._names[row].as_py())

    def boxes(self, row: int) -> Boxes:
        """Returns what is annotated in the image.

        Raises:
            ValueError: The columns do not have as many boxes.
        """
        found = {name: values[offsets[row] : offsets[row + 1]] for name, (offsets, values) in self._boxes.items()}
        return Boxes(**{**found, "xyxy": found["xyxy"].reshape(-1, 4)})


def column_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Returns a column of numbers as an array.

    Arrow's own ``to_numpy`` would import pandas, 0.2 s in every loader process.
    """
    return np.concatenate([_numbers(chunk) for chunk in column.chunks]) if column.num_chunks else np.empty(0)


def _numbers(array: pa.Array) -> np.ndarray:
    """Returns a view of numbers or, unpacked, truth values; nothing is null."""
    content, start, count = array.buffers()[1], array.offset, len(array)
    if content is None:
        return np.empty(0, np.bool_ if array.type == pa.bool_() else _NUMPY[array.type])
    if array.type == pa.bool_():
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=start + count, bitorder="little")
        return bits[start:].view(np.bool_)
    return np.frombuffer(content, _NUMPY[array.type])[start : start + count]


def _offsets(array: pa.Array) -> np.ndarray:
    """Returns where the values of each row begin, and the last ones end, in bytes or list: int32, (n + 1,)."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)
    return offsets[array.offset : array.offset + len(array) + 1]


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _plain(name: str) -> str:
    """Returns a name that can be written as UTF-8; bytes of a file name that are none are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
