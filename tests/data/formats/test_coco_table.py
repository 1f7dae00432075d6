from __future__ import annotations

import gc
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.data import content
from paddle_tk.data.columns import MappedColumn, index_path, open_columns, write_columns
from paddle_tk.data.formats.coco_json import read_coco_file
from paddle_tk.data.formats.coco_table import NOT_STATED, CocoTable, read_coco_table
from paddle_tk.errors import DataError
from tests.data.detection_sets import annotation, document, write_json


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PADDLE_TK_HOME", str(folder))
    monkeypatch.setattr(content, "_SETTLED_NS", 0)  # a test does not wait until its files have settled
    return folder


def _document() -> dict[str, Any]:
    found = document([f"{i}.png" for i in range(1, 7)])
    found["annotations"] = [
        annotation(9, 4, 3, (1.5, 2, 3, 4), area=2.25),
        annotation(2, 1, 7, (0, 0, 5, 6), iscrowd=1),
        annotation(5, 4, 7, (9, 9, 1, 1), ignore=1, area=7),
        annotation(1, 77, 3, (1, 1, 1, 1)),
    ]
    del found["images"][2]["width"]
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_json(tmp_path / "instances_train.json", _document())


def _told(table: CocoTable) -> list[Any]:
    return [
        table.sha256,
        [(c.id, c.name, c.supercategory) for c in table.categories],
        *(ids.values() for ids in (table.image_ids, table.ids, table.image_of, table.category_of)),
        list(table.file_names),
        *(np.asarray(c).tolist() for c in (table.sides, table.bbox, table.crowd, table.ignored, table.image_rows)),
        [None if np.isnan(area) else area for area in table.areas.tolist()],
        [table.annotations_of(i).tolist() for i in range(len(table.image_ids))],
    ]


def test_coco_table_holds_what_the_file_says(file: Path) -> None:
    table, records = read_coco_table(file), read_coco_file(file)
    assert table.categories == tuple(records.categories)
    assert table.image_ids.values() == [1, 2, 3, 4, 5, 6]
    assert list(table.file_names) == [image.file_name for image in records.images]
    assert table.sides.tolist() == [[40, 30], [40, 30], [NOT_STATED, 30], [40, 30], [40, 30], [40, 30]]
    assert table.ids.values() == [9, 2, 5, 1]
    assert table.image_of.values() == [4, 1, 4, 77]
    assert table.category_of.values() == [3, 7, 7, 3]
    assert table.bbox.tolist() == [list(a.bbox) for a in records.annotations]
    assert (table.crowd.tolist(), table.ignored.tolist()) == ([False, True, False, False], [False, False, True, False])
    np.testing.assert_array_equal(table.areas, [2.25, np.nan, 7, np.nan])
    assert table.image_rows.tolist() == [3, 0, 3, -1]
    assert [table.annotations_of(i).tolist() for i in range(6)] == [[1], [], [], [0, 2], [], []]


def test_coco_table_comes_from_the_index_when_the_file_is_the_same(file: Path) -> None:
    first = read_coco_table(file)
    index = index_path("coco", file)
    kept = open_columns(index)
    assert kept is not None
    # Another answer is put into the index: it is given, so the file was not read.
    write_columns(index, kept.key, kept.arrays | {"sides": np.zeros((6, 2), np.int64)}, kept.meta)
    again = read_coco_table(file)
    assert again.sides.tolist() == [[0, 0]] * 6
    assert isinstance(again.bbox, MappedColumn)
    assert _told(again)[:7] == _told(first)[:7]


def test_coco_table_is_read_again_when_the_content_differs_and_size_and_time_do_not(file: Path) -> None:
    read_coco_table(file)
    before = file.stat()
    file.write_text(file.read_text().replace("2.25", "3.75"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert read_coco_table(file).areas[0] == 3.75


def test_coco_table_is_not_decoded_again_when_the_file_was_only_touched(file: Path) -> None:
    read_coco_table(file)
    made = index_path("coco", file).stat().st_ino
    os.utime(file, (1, 1))
    assert read_coco_table(file).areas[0] == 2.25
    assert index_path("coco", file).stat().st_ino == made
    file.write_text(file.read_text().replace("2.25", "2.5"))
    assert read_coco_table(file).areas[0] == 2.5
    assert index_path("coco", file).stat().st_ino != made


@pytest.mark.parametrize("place", [0, 100, 0.4, 0.7, -1])
def test_coco_table_is_made_again_when_the_index_is_damaged(file: Path, place: float) -> None:
    told = _told(read_coco_table(file))
    index = index_path("coco", file)
    payload = bytearray(index.read_bytes())
    at = int(place * len(payload)) if isinstance(place, float) else place
    payload[at : at + 90 if at >= 0 else None] = b"\x55" * len(payload[at : at + 90 if at >= 0 else None])
    index.write_bytes(payload)
    assert _told(read_coco_table(file)) == told


def test_coco_table_is_the_same_when_there_is_no_place_for_an_index(
    file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _told(read_coco_table(file))
    (home / "file").write_text("in the way")
    monkeypatch.setenv("PADDLE_TK_HOME", str(home / "file"))
    assert _told(read_coco_table(file)) == told == _told(read_coco_table(file))


def test_coco_table_of_a_copy_is_its_own(file: Path, tmp_path: Path) -> None:
    told = _told(read_coco_table(file))
    copy = Path(shutil.copy2(file, tmp_path / "copy.json"))
    assert _told(read_coco_table(copy)) == told
    assert index_path("coco", copy).is_file()


def test_coco_table_names_the_file_when_it_is_gone_though_an_index_is_there(file: Path) -> None:
    read_coco_table(file)
    file.unlink()
    with pytest.raises(DataError, match=r"instances_train\.json cannot be read: No such file"):
        read_coco_table(file)


@pytest.mark.parametrize("collects", [True, False])
def test_coco_table_leaves_the_garbage_collector_as_it_was(file: Path, collects: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        read_coco_table(file)
        assert gc.isenabled() == collects
        file.write_text("{")
        with pytest.raises(DataError):
            read_coco_table(file)
        assert gc.isenabled() == collects
    finally:
        (gc.enable if was else gc.disable)()


def test_coco_table_keeps_nothing_when_the_file_cannot_be_used(file: Path) -> None:
    file.write_text(file.read_text()[:-30])
    with pytest.raises(DataError, match="not JSON, or cut off"):
        read_coco_table(file)
    assert not index_path("coco", file).exists()


@pytest.mark.parametrize("side", [2**63, -(2**63) - 1, 10**30])
def test_coco_table_names_the_image_when_a_side_is_no_number_of_64_bits(file: Path, side: int) -> None:
    found = _document()
    found["images"][4]["height"] = side
    file.write_text(json.dumps(found))
    with pytest.raises(DataError, match=rf"image 5 says 40x{side} px"):
        read_coco_table(file)


def test_coco_table_refuses_a_name_that_no_file_can_have(file: Path) -> None:
    found = _document()
    found["images"][1]["file_name"] = "\ud800.png"
    file.write_text(json.dumps(found))
    with pytest.raises(DataError, match=r"instances_train\.json"):
        read_coco_table(file)
