from __future__ import annotations

from pathlib import Path

import pytest
from visualdl.component.base_component import scalar

from paddle_tk.training.loggers.visualdl_records import join_records
from paddle_tk.training.loggers.visualdl_server import WholeRecords


def records(*steps: int) -> list[bytes]:
    return [scalar("train/loss", 0.5, step, 1000).SerializeToString() for step in steps]


def read_all(reader: WholeRecords) -> list[bytes]:
    found = []
    while True:
        try:
            reader.get_next()
        except EOFError:
            return found
        found.append(reader.record())


def test_reader_gives_every_record_once_when_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "vdlrecords.1.log"
    file.write_bytes(join_records(records(1, 2)))
    reader = WholeRecords(str(file))
    assert read_all(reader) == records(1, 2)
    assert read_all(reader) == []
    file.write_bytes(join_records(records(1, 2, 3)))
    assert read_all(reader) == records(3)


def test_reader_waits_for_the_rest_when_record_is_being_written(tmp_path: Path) -> None:
    file = tmp_path / "vdlrecords.1.log"
    whole = join_records(records(1, 2))
    reader = WholeRecords(str(file))
    first = len(join_records(records(1)))
    found = []
    for size in (0, 4, first + 4, len(whole) - 1, len(whole)):
        file.write_bytes(whole[:size])
        found.append(len(read_all(reader)))
    assert found == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("garbage", [b"\xff" * 20, b"", b"\x0a\x00"], ids=["no protobuf", "empty", "no value"])
def test_reader_stops_for_good_when_record_cannot_be_decoded(garbage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "vdlrecords.1.log"
    file.write_bytes(join_records([*records(1), garbage, *records(2)]))
    reader = WholeRecords(str(file))
    assert read_all(reader) == records(1)
    assert read_all(reader) == []


def test_reader_ends_when_file_was_emptied_or_deleted(tmp_path: Path) -> None:
    file = tmp_path / "vdlrecords.1.log"
    file.write_bytes(join_records(records(1)))
    reader = WholeRecords(str(file))
    assert len(read_all(reader)) == 1
    file.write_bytes(b"")
    assert read_all(reader) == []
    file.unlink()
    assert read_all(reader) == []
