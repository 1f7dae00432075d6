from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.data import content
from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import DatasetBundle, array_digest, fingerprint
from paddle_tk.data.columns import MappedColumn, index_path
from paddle_tk.data.formats.coco import read_coco
from paddle_tk.data.formats.detection_bundle import Annotated
from paddle_tk.errors import DataError
from paddle_tk.files import canonical_json, sha256_bytes
from tests.data.detection_sets import annotation, coco_part, load, part, picture, write_json

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PADDLE_TK_HOME", str(folder))
    monkeypatch.setattr(content, "_SETTLED_NS", 0)  # a test does not wait until its files have settled
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    boxes = [annotation(i, 1 + i * 7 % 12, 3 + 4 * (i % 2), (i % 9, 3, 4 + i % 5, 6.5)) for i in range(1, 30)]
    coco_part(tmp_path / "set", "train", 12, annotations=boxes)
    coco_part(tmp_path / "set", "val", 5)
    return tmp_path / "set"


def told(bundle: DatasetBundle) -> list[Any]:
    """Everything of a dataset that its user can see."""
    splits = {name: part(bundle, name) for name in bundle.splits}
    return [
        bundle.fingerprint,
        bundle.classes,
        bundle.skipped,
        bundle.notes,
        {
            name: [
                [split.name(i) for i in range(len(split))],
                split.sizes.tolist(),
                split.labels.tolist(),
                [[getattr(split.boxes(i), f.name).tolist() for f in fields(Boxes)] for i in range(len(split))],
            ]
            for name, split in splits.items()
        },
    ]


def mapped(found: Annotated) -> bool:
    """Whether the boxes are pages of the file."""
    return all(isinstance(split.annotations.every.xyxy, MappedColumn) for split in found.splits.values())


def test_coco_dataset_is_the_same_from_the_index_as_from_its_files(
    root: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = told(load("coco", root))
    assert told(load("coco", root)) == first
    assert mapped(read_coco(root, skip_unreadable=False))
    (home / "file").write_text("in the way")
    monkeypatch.setenv("PADDLE_TK_HOME", str(home / "file"))
    assert told(load("coco", root)) == first
    assert not mapped(read_coco(root, skip_unreadable=False))


def test_coco_fingerprint_is_what_earlier_releases_computed(root: Path) -> None:
    def content_of(split: DetectionSplit) -> dict[str, Any]:
        every = [split.boxes(i) for i in range(len(split))]
        columns = (np.concatenate([getattr(boxes, f.name) for boxes in every]) for f in fields(Boxes))
        sizes = [os.stat(path).st_size for path in split.paths]
        names = [os.fsencode(os.path.relpath(path, root)).hex() for path in split.paths]
        digest = array_digest(split.sizes, np.array([len(boxes) for boxes in every], np.int64), *columns)
        return {"files": [list(row) for row in zip(names, sizes, strict=True)], "boxes": digest}

    found = read_coco(root, skip_unreadable=False)
    written = {"classes": found.classes, "splits": {name: content_of(split) for name, split in found.splits.items()}}
    for _ in range(2):
        expected = fingerprint(
            sha256_bytes(canonical_json(written)), val_fraction=None, test_fraction=0.25, split_seed=0
        )
        assert load("coco", root).fingerprint == expected


def test_coco_images_are_looked_at_but_not_opened_when_the_index_is_there(root: Path) -> None:
    before = told(load("coco", root))
    path = root / "train" / "train_003.png"
    found = path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert told(load("coco", root)) == before  # of an image, path, size and time are trusted: see docs/data.md
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"cannot be decoded: .*train_003\.png"):
        load("coco", root)


def _larger(root: Path) -> None:
    for image in (root / "train").iterdir():
        picture(image, 41, 30)


def _moved_box(root: Path) -> None:
    path = root / "annotations" / "instances_val.json"
    before = path.stat()
    path.write_text(path.read_text().replace("[4, 5, 11, 12]", "[5, 4, 11, 12]"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _longer_image(root: Path) -> None:
    with (root / "val" / "val_002.png").open("ab") as stream:
        stream.write(b"more")


@pytest.mark.parametrize("change", [_moved_box, _longer_image])
def test_coco_dataset_is_read_again_when_something_has_changed(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
) -> None:
    before = told(load("coco", root))
    change(root)
    after = told(load("coco", root))
    assert after != before
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path_factory.mktemp("new home")))
    assert told(load("coco", root)) == after


def test_coco_images_are_taken_from_the_folder_that_comes_first_when_it_appears_later(root: Path) -> None:
    (root / "images").mkdir()
    (root / "train").rename(root / "images" / "train")
    assert part(load("coco", root), "train").name(0).startswith(str(root / "images"))
    shutil.copytree(root / "images" / "train", root / "train")
    assert part(load("coco", root), "train").name(0).startswith(str(root / "train"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda root: (root / "train" / "train_004.png").unlink(), r"image 4 names the image .*train_004\.png, which"),
        (lambda root: (root / "annotations" / "instances_train.json").unlink(), "no COCO annotations of a training"),
        (lambda root: write_json(root / "annotations" / "instances_val.json", {}), "missing required field"),
        (_larger, r"image 1 says 40x30 px, but .* is 41x30 px"),
    ],
)
def test_coco_dataset_is_refused_when_it_was_damaged_after_it_was_indexed(
    root: Path, change: Callable[[Path], None], match: str
) -> None:
    load("coco", root)
    change(root)
    with pytest.raises(DataError, match=match):
        load("coco", root)


def test_coco_unreadable_images_are_refused_again_when_they_were_skipped_before(root: Path) -> None:
    (root / "train" / "train_005.png").write_bytes(b"no image")
    first = load("coco", root, skip_unreadable=True)
    assert [Path(path).name for path in first.skipped] == ["train_005.png"]
    assert told(load("coco", root, skip_unreadable=True)) == told(first)
    with pytest.raises(DataError, match=r"train_005\.png"):
        load("coco", root)


@pytest.mark.parametrize("place", [5, 300, 0.6, 0.95])
def test_coco_dataset_is_read_again_when_the_index_is_damaged(root: Path, place: float) -> None:
    before = told(load("coco", root))
    index = index_path("coco-set", root)
    payload = bytearray(index.read_bytes())
    at = int(place * len(payload)) if isinstance(place, float) else place
    payload[at : at + 70] = b"\x55" * len(payload[at : at + 70])
    index.write_bytes(payload)
    assert told(load("coco", root)) == before


def test_coco_split_travels_to_another_process_as_its_place_in_the_index(root: Path, tmp_path: Path) -> None:
    split = part(load("coco", root), "train")
    sent = tmp_path / "sent"
    sent.write_bytes(pickle.dumps(split))
    code = (
        "import pickle, sys\n"
        "split = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print([(split.name(i), split.boxes(i).xyxy.tolist(), split.image(i).shape) for i in range(len(split))])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(sent)], cwd=ROOT, check=True, capture_output=True, text=True)
    here = [(split.name(i), split.boxes(i).xyxy.tolist(), split.image(i).shape) for i in range(len(split))]
    assert done.stdout.strip() == str(here)
