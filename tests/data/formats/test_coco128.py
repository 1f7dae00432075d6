from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from paddle_tk.data.formats.coco128 import COCO_CLASSES
from paddle_tk.data.home import cache_folder
from paddle_tk.errors import DataError
from tests.data.detection_sets import counts, load, part, picture


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small coco128: ten images, one label file missing, one more than there are images."""
    root = tmp_path / "made" / "coco128"
    (root / "labels" / "train2017").mkdir(parents=True)
    for i in range(11):
        if i:
            picture(root / "images" / "train2017" / f"{i:012d}.jpg")
        if i != 5:
            label = root / "labels" / "train2017" / f"{i:012d}.txt"
            label.write_text(f"{i % 2 * 79} 0.5 0.5 0.25 0.5\n")
    return root


def _zip(folder: Path, target: Path, **extra: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder.parent))
        for name, payload in extra.items():
            archive.writestr(name, payload)
    return target


def test_coco128_reads_the_archive_and_its_folder_alike(tmp_path: Path, folder: Path) -> None:
    archive = _zip(folder, tmp_path / "down" / "coco128.zip", **{"coco128/README.txt": b"hello"})
    found = [load("coco128", root) for root in (archive, archive.parent, folder, folder.parent)]
    assert len({bundle.fingerprint for bundle in found}) == 1
    assert counts(found[0]) == {"train": (6, 5), "test": (2, 2), "val": (2, 2)}
    assert found[0].classes == COCO_CLASSES
    assert len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[45], COCO_CLASSES[79]) == ("person", "bowl", "toothbrush")
    assert found[0].notes[0].startswith("1 label file(s) without an image were left out")
    assert sorted(set(part(found[0], "train").labels.tolist())) == [-1, 0, 79]


def test_coco128_unpacks_once_and_anew_when_the_archive_changes(tmp_path: Path, folder: Path) -> None:
    archive = _zip(folder, tmp_path / "coco128.zip")
    before = Path(part(load("coco128", archive), "train").name(0))
    assert cache_folder() in before.parents
    stamp = before.stat().st_mtime_ns
    load("coco128", archive)
    assert before.stat().st_mtime_ns == stamp
    picture(folder / "images" / "train2017" / "000000000099.jpg")
    _zip(folder, archive)
    assert sum(images for images, _ in counts(load("coco128", archive)).values()) == 11


@pytest.mark.parametrize("name", ["../evil.jpg", "/tmp_evil.jpg", "coco128/images/train2017/../../../../evil.jpg"])
def test_coco128_refuses_an_archive_that_reaches_out_of_its_folder(tmp_path: Path, folder: Path, name: str) -> None:
    archive = _zip(folder, tmp_path / "coco128.zip", **{name: b"x"})
    with pytest.raises(DataError, match="could leave the folder"):
        load("coco128", archive)
    assert not list(tmp_path.rglob("*evil*"))
    assert not [path for path in cache_folder().glob("*") if path.is_dir()]


def test_coco128_refuses_an_archive_with_a_link(tmp_path: Path, folder: Path) -> None:
    archive = _zip(folder, tmp_path / "coco128.zip")
    link = zipfile.ZipInfo("coco128/labels/train2017/000000000005.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as changed:
        changed.writestr(link, "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=r"000000000005\.txt is no ordinary file but a link"):
        load("coco128", archive)


@pytest.mark.parametrize("payload", [b"", b"no zip", "cut", "other"])
def test_coco128_names_the_archive_when_it_is_damaged(tmp_path: Path, folder: Path, payload: bytes | str) -> None:
    archive = _zip(folder, tmp_path / "coco128.zip")
    if payload == "other":
        _zip(folder / "images", archive)
    else:
        archive.write_bytes(archive.read_bytes()[:-200] if isinstance(payload, str) else payload)
    with pytest.raises(DataError, match=r"coco128\.zip (is damaged or no tar or zip archive|holds no coco128/images)"):
        load("coco128", archive)
    assert not [path for path in cache_folder().glob("*") if path.is_dir()]


def test_coco128_names_the_archive_when_a_member_is_damaged(tmp_path: Path, folder: Path) -> None:
    archive = _zip(folder, tmp_path / "coco128.zip")
    payload = archive.read_bytes()
    place = payload.index(b"0 0.5 0.5")
    archive.write_bytes(payload[:place] + b"1" + payload[place + 1 :])
    with pytest.raises(DataError, match=r"coco128\.zip is damaged or no tar or zip archive \(Bad CRC-32"):
        load("coco128", archive)


def test_coco128_says_where_it_was_looked_for(home: Path) -> None:
    with pytest.raises(DataError, match=r"COCO128 was not found at .*datasets.coco128"):
        load("coco128", None)
