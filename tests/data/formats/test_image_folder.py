import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from paddle_tk.data import verify
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.home import cache_folder
from paddle_tk.errors import DataError


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PADDLE_TK_HOME", str(folder))
    return folder


def write(path: Path, level: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), np.full((6, 8, 3), level, np.uint8))[1].tobytes())


def fill(folder: Path, counts: dict[str, int], suffix: str = ".png") -> None:
    for name, count in counts.items():
        for i in range(count):
            write(folder / name / f"bild {i:03d}{suffix}", level=10 * (i % 25))


def load(root: Path, **changes: Any) -> DatasetBundle:
    settings: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.25, "split_seed": 0} | changes
    return load_dataset("image_folder", root=str(root), **settings)


def names(bundle: DatasetBundle, split: str) -> set[str]:
    part = bundle.splits[split]
    return {part.name(i) for i in range(len(part))}


def test_image_folder_uses_the_published_splits_when_they_exist(tmp_path: Path) -> None:
    root = tmp_path / "größe und platz"
    fill(root / "train", {"katze": 5, "hund": 4})
    fill(root / "validation", {"katze": 2, "hund": 1})
    fill(root / "test", {"katze": 1, "hund": 3})
    bundle = load(root)
    assert bundle.classes == ("hund", "katze")
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 9, "val": 3, "test": 4}
    assert bundle.splits["train"].labels.tolist() == [0] * 4 + [1] * 5
    assert bundle.splits["train"].labels.dtype == np.int64
    assert bundle.splits["val"].name(2).endswith("validation/katze/bild 001.png")
    np.testing.assert_array_equal(bundle.splits["train"].image(3), np.full((6, 8, 3), 30, np.uint8))
    assert bundle.skipped == ()


def test_image_folder_splits_by_fractions_when_classes_lie_at_the_root(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 20, "b": 40})
    bundle = load(tmp_path)
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 36, "val": 9, "test": 15}
    assert np.bincount(bundle.splits["test"].labels).tolist() == [5, 10]
    assert np.bincount(bundle.splits["val"].labels).tolist() == [3, 6]
    parts = [names(bundle, split) for split in bundle.splits]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60
    for split in bundle.splits.values():
        assert all((f"{os.sep}b{os.sep}" in split.name(i)) == (split.labels[i] == 1) for i in range(len(split)))


def test_image_folder_makes_only_the_missing_split_when_one_is_published(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 10, "b": 10})
    fill(tmp_path / "val", {"a": 2, "b": 2})
    bundle = load(tmp_path)
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 15, "val": 4, "test": 5}
    assert bundle.fingerprint == load(tmp_path, val_fraction=0.5).fingerprint
    assert bundle.fingerprint != load(tmp_path, test_fraction=0.5).fingerprint


def test_image_folder_takes_all_suffixes_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    for suffix in (".jpg", ".JPEG", ".Png", ".bmp", ".WEBP"):
        write(tmp_path / "a" / f"x{suffix}")
        write(tmp_path / "b" / f"y{suffix}")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.jpg").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "readme.jpg").write_text("beside the classes")
    bundle = load(tmp_path)
    assert sum(len(split) for split in bundle.splits.values()) == 10
    assert bundle.classes == ("a", "b")


def test_image_folder_is_the_same_when_it_is_moved_and_another_when_a_file_is_added(tmp_path: Path) -> None:
    fill(tmp_path / "one", {"a": 6, "b": 6})
    before = load(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    after = load(tmp_path / "two")
    assert after.fingerprint == before.fingerprint
    assert {Path(n).name for n in names(after, "val")} == {Path(n).name for n in names(before, "val")}
    write(tmp_path / "two" / "a" / "new.png")
    assert load(tmp_path / "two").fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "prepare",
    [
        lambda root: None,
        lambda root: write(root / "loose.png"),
        lambda root: (root / "a").mkdir(),
        lambda root: fill(root / "val", {"a": 2, "b": 2}),
        lambda root: (root / "train").mkdir(),
    ],
    ids=["empty", "loose images", "an empty class", "only val", "an empty train"],
)
def test_image_folder_shows_the_layout_when_there_are_no_classes(tmp_path: Path, prepare: Any) -> None:
    prepare(tmp_path)
    with pytest.raises(
        DataError, match=r"holds no class folders with images.*expected root/\{train,val,test\}/<class>"
    ):
        load(tmp_path)


def test_image_folder_names_the_folder_when_it_is_missing(tmp_path: Path, home: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="datasets/image_folder is not a folder"):
        load_dataset("image_folder", root=None, val_fraction=0.1, test_fraction=0.1, split_seed=0)


def test_image_folder_raises_when_one_class_is_empty_or_alone(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3})
    with pytest.raises(DataError, match="holds only one class, 'a'"):
        load(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="no readable images for class b in"):
        load(tmp_path)


def test_image_folder_names_the_classes_when_splits_disagree(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / "test", {"a": 3, "c": 3})
    with pytest.raises(DataError, match=r"test differ from those in .*train: without b, with unknown c"):
        load(tmp_path)


def test_image_folder_raises_when_val_and_validation_both_exist(tmp_path: Path) -> None:
    for split in ("train", "val", "validation"):
        fill(tmp_path / split, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="both a 'val' and a 'validation' folder"):
        load(tmp_path)


def damage(path: Path) -> None:
    payload = path.read_bytes()
    path.write_bytes(payload[: len(payload) // 2])


def test_image_folder_names_the_unreadable_image_when_the_others_are_good(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"a": 10, "b": 10})
    damage(tmp_path / "b" / "bild 004.png")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError) as caught:
            load(tmp_path)
        assert "1 image file(s) cannot be decoded" in caught.value.problem
        assert str(tmp_path / "b" / "bild 004.png") in caught.value.problem
        assert "data.skip_unreadable=true" in caught.value.fix
    assert capfd.readouterr().err == "", "the decoder's own complaints are kept from the user"


def test_image_folder_goes_on_without_unreadable_images_when_asked(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 10, "b": 10})
    whole = load(tmp_path)
    damage(tmp_path / "b" / "bild 004.png")
    (tmp_path / "a" / "bild 000.png").write_bytes(b"")
    bundle = load(tmp_path, skip_unreadable=True)
    assert bundle.skipped == (str(tmp_path / "a" / "bild 000.png"), str(tmp_path / "b" / "bild 004.png"))
    assert sum(len(split) for split in bundle.splits.values()) == 18
    assert bundle.fingerprint != whole.fingerprint
    for split in bundle.splits.values():
        assert all(split.image(i).shape == (6, 8, 3) for i in range(len(split)))


def test_image_folder_shortens_the_list_when_many_images_are_unreadable(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 9, "b": 9})
    for i in range(8):
        damage(tmp_path / "a" / f"bild {i:03d}.png")
    with pytest.raises(DataError, match=r"8 image file\(s\) cannot be decoded: .*bild 004\.png and 3 more"):
        load(tmp_path)


def test_image_folder_names_every_unreadable_image_when_they_are_decoded_in_several_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_AT_ONCE", 3)
    fill(tmp_path, {"a": 10, "b": 10})
    for name in ("a/bild 000.png", "a/bild 009.png", "b/bild 004.png"):
        damage(tmp_path / name)
    for _ in range(2):  # the second time from the cache
        skipped = load(tmp_path, skip_unreadable=True).skipped
        assert [str(Path(path).relative_to(tmp_path)) for path in skipped] == [
            "a/bild 000.png",
            "a/bild 009.png",
            "b/bild 004.png",
        ]


def test_image_folder_raises_when_skipping_leaves_a_class_empty(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 9, "b": 1})
    damage(tmp_path / "b" / "bild 000.png")
    with pytest.raises(DataError, match="no readable images for class b"):
        load(tmp_path, skip_unreadable=True)


def test_image_folder_decodes_again_when_a_file_has_changed(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    load(tmp_path)
    path = tmp_path / "a" / "bild 002.png"
    payload = path.read_bytes()
    damage(path)
    with pytest.raises(DataError, match=r"a/bild 002\.png"):
        load(tmp_path)
    path.write_bytes(payload)
    assert sum(len(split) for split in load(tmp_path).splits.values()) == 8


def test_image_folder_trusts_the_cache_when_path_size_and_time_are_the_same(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    load(tmp_path)
    path = tmp_path / "a" / "bild 002.png"
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    load(tmp_path)  # not decoded: nothing about the file says that it changed
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"bild 002\.png"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": 3}', b"\xff\xfe", b'{"a": {"digest": "x"}}'])
def test_image_folder_starts_afresh_when_the_cache_is_damaged(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    damage(tmp_path / "a" / "bild 002.png")
    assert len(load(tmp_path, skip_unreadable=True).skipped) == 1
    (cache,) = cache_folder().glob("images-*.json")
    cache.write_bytes(content)
    assert len(load(tmp_path, skip_unreadable=True).skipped) == 1
    assert set(json.loads(cache.read_bytes())) == {"a", "b"}


def test_image_folder_works_when_the_cache_cannot_be_written(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("in the way")
    monkeypatch.setenv("PADDLE_TK_HOME", str(home / "file"))
    fill(tmp_path, {"a": 4, "b": 4})
    assert sum(len(split) for split in load(tmp_path).splits.values()) == 8


def test_image_folder_reads_files_when_their_names_are_no_text(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    os.rename(os.fsencode(tmp_path / "a" / "bild 002.png"), os.fsencode(tmp_path / "a") + b"/\xff\xfe.png")
    assert sum(len(split) for split in load(tmp_path).splits.values()) == 8
