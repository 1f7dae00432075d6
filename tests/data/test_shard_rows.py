from __future__ import annotations

import cv2
import numpy as np
import pytest

from paddle_tk.data.bundle import ArraySplit
from paddle_tk.data.shard_rows import RowGroup, image_bytes, payload_size, rows_table, shard_schema
from paddle_tk.errors import DataError


def png(height: int, width: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1])


def test_payload_size_is_that_of_the_decoded_image() -> None:
    assert payload_size(png(5, 9), "it") == (5, 9)
    with pytest.raises(DataError, match="it cannot be decoded as an image"):
        payload_size(b"nothing", "it")


def test_image_bytes_lose_nothing_when_the_image_is_in_memory() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 6, 7, 3), dtype=np.uint8)
    encoded = image_bytes(ArraySplit(images, np.zeros(1, np.int64), ["one"]), 0)
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), images[0])


def test_row_group_gives_back_rows_when_names_are_odd_and_the_table_is_a_slice() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)
    names = ["plain", "späte Möwe", "bad \udcff byte", ""]
    split = ArraySplit(images, np.arange(4, dtype=np.int64), names)
    table = rows_table(split, [0, 1, 2, 3], split.labels, shard_schema("classification", {}), None)
    group = RowGroup(table.slice(1))
    assert [group.name(row) for row in range(3)] == ["späte Möwe", "bad \\udcff byte", ""]
    assert group.labels == [1, 2, 3]
    for row in range(3):
        assert group.payload(row).tobytes() == image_bytes(split, row + 1)
