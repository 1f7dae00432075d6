from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.data.columns import MappedColumn, index_path
from paddle_tk.data.formats.folder_index import FolderIndex, Listing, folder_index, list_classes, list_images
from paddle_tk.files import canonical_json, sha256_bytes

# Folder names that sort otherwise with a slash behind them than without, and names that are no text.
CLASSES = ["a", "a b", "a!", "a0", "ä", "z"]
FILES = [b"10.jpg", b"9.JPG", b"x y.png", b"\xff\xfe.webp", "größe.bmp".encode(), b"a.jpeg"]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PADDLE_TK_HOME", str(folder))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in CLASSES:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number, file in enumerate(FILES):
                with open(os.path.join(os.fsencode(folder), file), "wb") as stream:
                    stream.write(bytes(number + len(name)))
    return tmp_path


def listings(root: Path) -> dict[str, Listing]:
    return {split: list_classes(root / split) for split in ("train", "val")}


def index(root: Path, bad: frozenset[str] = frozenset()) -> FolderIndex:
    return folder_index(root, listings(root), bad)


def expected_content(root: Path, bad: frozenset[str] = frozenset()) -> str:
    """The digest as earlier releases computed it: over the sorted relative paths and sizes of all files."""
    files = [str(p) for p in root.rglob("*") if p.is_file() and str(p) not in bad]
    rows = sorted((os.path.relpath(path, root), os.stat(path).st_size) for path in files)
    return sha256_bytes(canonical_json([[os.fsencode(path).hex(), size] for path, size in rows]))


def test_folder_index_lists_class_by_class_and_by_name(root: Path) -> None:
    for _ in range(2):
        found = index(root)
        for split in ("train", "val"):
            paths = [os.path.join(root, split, c, f) for c in CLASSES_SORTED for f in FILES_SORTED]
            assert list(found.paths[split]) == paths == [found.paths[split][i] for i in range(36)]
            assert found.labels[split].tolist() == [i for i in range(6) for _ in range(6)]
            assert found.labels[split].dtype == np.int64
        assert isinstance(found.paths["train"].names.blob, MappedColumn)


CLASSES_SORTED = sorted(CLASSES)
FILES_SORTED = sorted(os.fsdecode(name) for name in FILES)


def test_folder_index_has_the_content_digest_of_earlier_releases(root: Path) -> None:
    bad = frozenset({str(root / "train" / "a b" / "9.JPG"), *(str(root / "val" / "z" / f) for f in FILES_SORTED)})
    for left_out in (frozenset[str](), bad, frozenset[str]()):
        found = index(root, left_out)
        assert found.content_sha256 == expected_content(root, left_out)
        assert (
            set(found.paths["train"]) | set(found.paths["val"])
            == {str(p) for p in root.rglob("*") if p.is_file()} - left_out
        )
        assert [len(found.labels[split]) == len(found.paths[split]) for split in ("train", "val")] == [True, True]


def test_folder_index_is_kept_when_nothing_changes_and_made_again_when_a_file_does(root: Path) -> None:
    index(root)
    file = index_path("folder", root)
    made = file.stat().st_ino
    index(root)
    assert file.stat().st_ino == made
    changed = root / "val" / "z" / "10.jpg"
    os.utime(changed, (1, 1))
    index(root)
    assert file.stat().st_ino != made
    changed.write_bytes(b"longer than before")
    assert index(root).content_sha256 == expected_content(root)
    changed.unlink()
    found = index(root)
    assert found.content_sha256 == expected_content(root)
    assert str(changed) not in list(found.paths["val"])


def test_folder_index_follows_a_folder_that_was_moved(root: Path) -> None:
    before = index(root).content_sha256
    moved = root.rename(root.with_name("moved"))
    found = index(moved)
    assert found.content_sha256 == before
    assert all(path.startswith(str(moved)) for path in found.paths["train"])


@pytest.mark.parametrize("place", [5, 300, 0.6, 0.95])
def test_folder_index_is_made_again_when_it_is_damaged(root: Path, place: float) -> None:
    before = list(index(root).paths["train"])
    file = index_path("folder", root)
    payload = bytearray(file.read_bytes())
    at = int(place * len(payload)) if isinstance(place, float) else place
    payload[at : at + 70] = b"\x55" * len(payload[at : at + 70])
    file.write_bytes(payload)
    found = index(root)
    assert list(found.paths["train"]) == before
    assert found.content_sha256 == expected_content(root)


def test_folder_index_works_when_there_is_no_place_for_it(
    root: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(index(root).paths["train"])
    (home / "file").write_text("in the way")
    monkeypatch.setenv("PADDLE_TK_HOME", str(home / "file"))
    assert list(index(root).paths["train"]) == before


def test_paths_travel_as_their_place_in_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "only"
    folder.mkdir(parents=True)
    for i in range(3000):
        (folder / f"a rather long name of an image {i}.png").touch()
    paths = folder_index(tmp_path, {"train": list_classes(tmp_path / "train")}, frozenset()).paths["train"]
    sent = pickle.dumps(paths)
    assert len(sent) < 2000
    assert list(pickle.loads(sent)) == list(paths)


def test_listing_digest_changes_with_name_size_and_time_and_with_nothing_else(root: Path) -> None:
    folder, first = root / "train" / "a", list_images(str(root / "train" / "a")).digest
    assert list_images(str(folder)).digest == first
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes())
    (folder / "folder.png").mkdir()
    assert list_images(str(folder)).digest == first
    seen = {first}
    os.utime(folder / "10.jpg", ns=(5, 5))
    seen.add(list_images(str(folder)).digest)
    os.rename(folder / "10.jpg", folder / "11.jpg")
    seen.add(list_images(str(folder)).digest)
    (folder / "11.jpg").write_bytes(b"")
    os.utime(folder / "11.jpg", ns=(5, 5))
    seen.add(list_images(str(folder)).digest)
    assert len(seen) == 4
