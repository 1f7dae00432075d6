from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddle_tk.errors import DataError
from tests.data.detection_sets import HEIGHT, WIDTH, boxes_by_stem, counts, load, part, picture, yolo_file, yolo_root


def _fill(root: Path, **splits: int) -> None:
    for split, count in splits.items():
        for i in range(count):
            yolo_file(root, split, f"{split}{i}", ["0 0.5 0.5 0.5 0.5"])


def test_yolo_turns_shares_into_pixels(tmp_path: Path) -> None:
    yolo_file(yolo_root(tmp_path), "train", "x", ["1 0.5 0.5 0.25 0.2", "", "0 .9 .5 .2 1", "1.0 .05 .5 .1002 .4"])
    boxes = boxes_by_stem(load("yolo", tmp_path))["x"]
    assert boxes.class_ids.tolist() == [1, 0, 1]
    np.testing.assert_allclose(boxes.xyxy, [[15, 12, 25, 18], [32, 0, 40, 30], [0, 9, 4.004, 21]], atol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/valid\ntest: images/test\nnc: 2\nnames:\n  0: cat\n  1: dog\n",
        "path: /nowhere\ntrain: ../images/train\nval: ../images/valid\ntest: ../images/test\nnames: [cat, dog]\n",
        "train: [images/train/a, images/train/b]\nval: lists/val.txt\ntest: lists/test.txt\nnames: [cat, dog]\n",
    ],
    ids=["folders", "roboflow", "lists"],
)
def test_yolo_reads_the_splits_that_data_yaml_names(tmp_path: Path, text: str) -> None:
    _fill(tmp_path, **{"train/a": 3, "train/b": 2, "valid": 2, "test": 1})
    for split in ("valid", "test"):
        for path in (tmp_path / "images" / split).glob(f"{split}*"):
            assert path.suffix == ".png"
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.txt").write_text("../images/valid/valid0.png\n\n../images/valid/valid1.png\n")
    (tmp_path / "lists" / "test.txt").write_text("./images/test/test0.png\n")
    (tmp_path / "data.yaml").write_text(text)
    bundle = load("yolo", tmp_path)
    assert counts(bundle) == {"train": (5, 5), "val": (2, 2), "test": (1, 1)}
    assert bundle.classes == ("cat", "dog")
    (tmp_path / "data.yaml").rename(tmp_path / "pets.yml")
    assert load("yolo", tmp_path / "pets.yml").fingerprint == bundle.fingerprint


def test_yolo_reads_folders_without_data_yaml(tmp_path: Path) -> None:
    _fill(tmp_path, train=6, val=2, test=1)
    assert counts(load("yolo", tmp_path)) == {"train": (6, 6), "val": (2, 2), "test": (1, 1)}
    assert load("yolo", tmp_path).classes == ("0",)
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert load("yolo", tmp_path).classes == ("cat", "dog")


def test_yolo_draws_splits_when_images_lie_in_no_folder_of_a_split(tmp_path: Path) -> None:
    _fill(tmp_path, more=12)
    for i in range(8):
        yolo_file(tmp_path, ".", f"loose{i}", ["0 0.5 0.5 0.5 0.5"])
    assert counts(load("yolo", tmp_path)) == {"train": (12, 12), "test": (5, 5), "val": (3, 3)}


def test_yolo_reads_labels_beside_the_images(tmp_path: Path) -> None:
    root = tmp_path / "images" / "mine"  # a folder "images" above that has nothing to do with it
    for i in range(6):
        picture(root / "shots" / f"{i}.jpg")
        (root / "shots" / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    (root / "shots" / "notes.txt").write_text("no labels\n")
    (root / "data.yaml").write_text("train: shots\nnames: [a]\n")
    bundle = load("yolo", root)
    assert sum(boxes for _, boxes in counts(bundle).values()) == 6
    assert bundle.notes == ()


def test_yolo_takes_class_names_as_text_when_yaml_would_not(tmp_path: Path) -> None:
    yolo_root(tmp_path, yaml="train: images/train\nval:\ntest: null\nnc: 4\nnames: [no, 1.0, null, 'größe']\n")
    assert load("yolo", tmp_path).classes == ("no", "1.0", "null", "größe")


def test_yolo_takes_images_without_label_file_as_empty(tmp_path: Path) -> None:
    yolo_root(tmp_path)
    yolo_file(tmp_path, "train", "nothing", None)
    yolo_file(tmp_path, "train", "empty", [])
    boxes = boxes_by_stem(load("yolo", tmp_path))
    assert (len(boxes["nothing"]), len(boxes["empty"]), len(boxes)) == (0, 0, 14)


def test_yolo_notes_label_files_without_image(tmp_path: Path) -> None:
    yolo_root(tmp_path)
    for name in ("gone", "lost"):
        (tmp_path / "labels" / "train" / f"{name}.txt").write_text("0 .5 .5 .5 .5\n")
    (note,) = load("yolo", tmp_path).notes
    assert note.startswith("2 label file(s) without an image were left out, the first is ")
    assert note.endswith("gone.txt")


def test_yolo_uses_the_size_of_the_turned_image(tmp_path: Path) -> None:
    yolo_root(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    yolo_file(tmp_path, "train", "turned", ["0 0.5 0.5 0.5 0.5"])
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "train" / "turned.png", exif=exif)
    bundle = load("yolo", tmp_path)
    np.testing.assert_array_equal(boxes_by_stem(bundle)["turned"].xyxy, [[7.5, 10, 22.5, 30]])
    split, index = next(
        (part(bundle, name), i)
        for name in bundle.splits
        for i, path in enumerate(part(bundle, name).paths)
        if path.endswith("turned.png")
    )
    assert split.image(index).shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 0.5 0.5 0.5", r"has 4 columns \('0 0\.5 0\.5 0\.5'\), 5 are expected"),
        ("0 .1 .2 .3 .4 .5 .6", "has 7 columns"),
        ("0 0.5 0.5 0.5 x", "is not 5 numbers: '0 0.5 0.5 0.5 x'"),
        ("2 0.5 0.5 0.5 0.5", "has the class id 2, but there are 2 classes"),
        ("-1 0.5 0.5 0.5 0.5", "has the class id -1"),
        ("0.5 0.5 0.5 0.5 0.5", "has the class id 0.5"),
        ("nan 0.5 0.5 0.5 0.5", "has the class id nan"),
        ("1e300 0.5 0.5 0.5 0.5", "has the class id 1e300"),
        ("0 nan 0.5 0.5 0.5", "has the value nan"),
        ("0 0.5 inf 0.5 0.5", "has the value inf"),
        ("0 20 15 10 10", r"has the value 20 \('0 20 15 10 10'\), which is not within 0 and 1"),
        ("0 0.5 0.5 -0.1 0.5", "has the value -0.1"),
        ("0 0.9 0.5 0.4 0.5", r"the box from x, y to x, y = 0\.7, 0\.25, 1\.1, 0\.75 leaves the image"),
        ("0 0.5 0.5 0 0.5", r"\('0 0\.5 0\.5 0 0\.5'\) has no area"),
        ("0 1.0005 0.5 0.0002 0.5", "lies outside its image of 40x30 px"),
    ],
)
def test_yolo_names_file_and_line_when_it_is_wrong(tmp_path: Path, line: str, told: str) -> None:
    yolo_file(yolo_root(tmp_path), "train", "wrong", ["0 0.5 0.5 0.5 0.5", line])
    with pytest.raises(DataError, match=told) as caught:
        load("yolo", tmp_path)
    assert "wrong.txt: line 2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: images/train\n", "has no entry 'names'"),
        ("- 1\n", "has no entry 'names'"),
        ("names: [a\n", "is no YAML"),
        ("names: [a, b]\n", "has no entry 'train'"),
        ("train: images/train\nnames: a\n", "names is 'a'"),
        ("train: images/train\nnames: []\n", "names no classes"),
        ("train: images/train\nnames: [a, a]\n", "names the class 'a' twice"),
        ("train: images/train\nnames: [a, ' ']\n", "class 1 has no name"),
        ("train: images/train\nnames: [[a], b]\n", "class 0 has no name"),
        ("train: images/train\nnames: {0: a, 2: b}\n", r"names has the ids \['0', '2'\]"),
        ("train: images/train\nnc: 3\nnames: [a, b]\n", "says nc: 3 but names 2 classes"),
        ("train: images/nowhere\nnames: [a, b]\n", "train names 'images/nowhere', which does not exist"),
        ("train: labels/train\nnames: [a, b]\n", "labels/train holds no images"),
        ("train: images/train\nval: images/train\nnames: [a, b]\n", "is in the train split and in the val split"),
        ("train: [images/train, images]\nnames: [a, b]\n", r"names .*000\.png twice"),
        ("train: data.yaml\nnames: [a, b]\n", r"data\.yaml: line 1 names the image .*, which does not exist"),
    ],
)
def test_yolo_names_the_entry_of_data_yaml_when_it_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    yolo_root(tmp_path, yaml=text)
    with pytest.raises(DataError, match=told) as caught:
        load("yolo", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yolo_says_where_labels_are_looked_for_when_there_are_none(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "train" / "a.png")
    with pytest.raises(DataError, match=r"none of the 1 images of the train split has a.*labels/train/a\.txt"):
        load("yolo", tmp_path)


def test_yolo_shows_the_layout_when_nothing_is_found(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"expected root/data\.yaml with names"):
            load("yolo", root)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load("yolo", tmp_path)
    _fill(tmp_path, val=2)
    with pytest.raises(DataError, match="holds no folder 'train'"):
        load("yolo", tmp_path)
    _fill(tmp_path, train=2, train2017=2)
    with pytest.raises(DataError, match=r"both .*train and .*train2017 are a train split"):
        load("yolo", tmp_path)


def test_yolo_names_an_empty_jpeg_and_leaves_it_out_when_asked(tmp_path: Path) -> None:
    yolo_root(tmp_path)
    (tmp_path / "images" / "train" / "zero.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 image file\(s\) cannot be decoded: .*zero\.jpg"):
        load("yolo", tmp_path)
    assert [Path(path).name for path in load("yolo", tmp_path, skip_unreadable=True).skipped] == ["zero.jpg"]
