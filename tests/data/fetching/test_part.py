from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from paddle_tk.data.fetching.http import Origin
from paddle_tk.data.fetching.part import PartFile, discard_part, journal_path, part_path

ORIGIN = Origin("http://x/a", 25, '"1"', None, ranges=True)


def _write(part: PartFile, index: int) -> None:
    first, stop = part.bounds(index)
    payload = bytes([index + 1]) * (stop - first)
    part.write(first, payload)
    part.finish(index, zlib.crc32(payload))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    part = PartFile.create(tmp_path / "a.bin", ORIGIN, 10)
    _write(part, 2)
    _write(part, 0)
    part.close()
    return tmp_path / "a.bin"


def test_part_file_resumes_with_what_was_finished(target: Path) -> None:
    part = PartFile.resume(target)
    assert part is not None
    assert (part.origin, part.missing(), part.done_bytes, part.mixed) == (ORIGIN, [1], 15, True)
    assert part.bounds(2) == (20, 25)
    part.close()


def test_part_file_believes_no_segment_whose_bytes_are_others(target: Path) -> None:
    payload = bytearray(part_path(target).read_bytes())
    payload[3] ^= 1
    part_path(target).write_bytes(payload)
    part = PartFile.resume(target)
    assert part is not None
    assert part.missing() == [0, 1]
    part.close()


@pytest.mark.parametrize("cut", range(2, 40, 6))
def test_part_file_survives_a_journal_that_was_cut_anywhere(target: Path, cut: int) -> None:
    payload = journal_path(target).read_bytes()
    journal_path(target).write_bytes(payload[:-cut])
    part = PartFile.resume(target)
    assert part is not None
    assert 0 in part.missing()
    _write(part, 1)
    part.close()
    again = PartFile.resume(target)
    assert again is not None
    assert 1 not in again.missing(), "a line after one that was cut off is a line of its own"
    again.close()


def test_part_file_is_none_when_there_is_nothing_to_go_on_with(target: Path) -> None:
    part_path(target).write_bytes(b"short")
    assert PartFile.resume(target) is None
    journal_path(target).write_bytes(b"no journal\n\xff\xfe")
    assert PartFile.resume(target) is None
    discard_part(target)
    assert PartFile.resume(target) is None
    assert not list(target.parent.iterdir())


def test_part_file_refuses_an_origin_of_another_size(target: Path) -> None:
    part = PartFile.resume(target)
    assert part is not None
    with pytest.raises(ValueError, match="26 bytes cannot go on from 25"):
        part.switch(replace(ORIGIN, size=26))
    part.switch(replace(ORIGIN, url="http://y/a"))
    part.close()
    again = PartFile.resume(target)
    assert again is not None
    assert (again.origin.url, again.missing()) == ("http://y/a", [1])
    again.close()
