from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from paddle_tk.data.check import Expected, check_dataset, published
from paddle_tk.data.checks.findings import FAULTS, Finding, Report
from paddle_tk.errors import DataError
from tests.data.checked_sets import MAKERS, sound_coco, sound_folder, sound_voc, sound_yolo
from tests.data.detection_sets import (
    annotation,
    picture,
    voc_file,
    voc_object,
)


def _found(report: Report) -> list[tuple[str, str, str]]:
    return [(f.kind, report.relative(f.file), f.entry) for f in report.findings]


def _change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", MAKERS)
def test_check_finds_nothing_when_the_dataset_is_sound(tmp_path: Path, name: str) -> None:
    report = check_dataset(name, str(MAKERS[name](tmp_path / "set")))
    assert report.findings == ()
    assert report.images == len(report.samples) > 0
    assert report.to_dict()["clean"] is True


@pytest.mark.parametrize(("name", "of"), [("digits", 1797), ("digits_detection", 580)])
def test_check_finds_nothing_when_the_dataset_is_embedded(name: str, of: int) -> None:
    report = check_dataset(name, None)
    assert (report.findings, report.images) == ((), of)


@pytest.mark.parametrize("name", MAKERS)
def test_check_names_damaged_files_when_there_are_some(tmp_path: Path, name: str) -> None:
    root = MAKERS[name](tmp_path / "set")
    cut, empty, text, other, again = sorted(p for p in root.rglob("*") if p.suffix in (".png", ".jpg"))[:5]
    cut.write_bytes(cut.read_bytes()[:-40])
    empty.write_bytes(b"")
    text.write_text("<html>404</html>")
    Image.new("RGB", (40, 30), (1, 2, 3)).save(other, "BMP")
    kept = max(p for p in root.rglob("*") if (p.suffix == again.suffix and "val" in p.parts) or p.stem == "000007")
    shutil.copyfile(kept, again)
    report = check_dataset(name, str(root))
    found = {(f.kind, Path(f.file).name) for f in report.findings}
    assert found == {
        ("truncated_image", cut.name),
        ("empty_file", empty.name),
        ("not_an_image", text.name),
        ("wrong_extension", other.name),
        ("leakage", again.name),
    }
    assert "<html>404" in str(next(f.problem for f in report.findings if f.kind == "not_an_image"))


def test_check_sees_a_jpeg_that_is_cut_off_although_it_can_be_decoded(tmp_path: Path) -> None:
    root = sound_voc(tmp_path / "set")
    path = root / "JPEGImages" / "000000.jpg"
    noise = np.random.default_rng(9).integers(0, 255, (30, 40, 3), np.uint8)
    payload = cv2.imencode(".jpg", noise)[1].tobytes()
    path.write_bytes(payload[: len(payload) // 2])
    assert cv2.imread(str(path)) is not None
    assert _found(check_dataset("voc", str(root))) == [("truncated_image", "JPEGImages/000000.jpg", "")]
    path.write_bytes(payload + b"\0\0\0")  # a tail is harmless
    assert check_dataset("voc", str(root)).findings == ()


def test_check_names_every_faulty_line_of_yolo_files(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    lines = {
        "000": ("0 nan 0.5 0.2 0.2", "box_not_finite"),
        "001": ("0 0.95 0.5 0.2 0.2", "box_outside"),
        "002": ("0 0.5 0.5 -0.2 0.2", "box_inverted"),
        "003": ("0 0.5 0.5 0 0.2", "box_zero_area"),
        "004": ("7 0.5 0.5 0.2 0.2", "unknown_class"),
        "005": ("0 0.5 0.5", "malformed_entry"),
        "006": ("0 0.1 0.1 0.1 0.1\n0 0.1 0.1 0.1 0.1", "duplicate_box"),
    }
    for stem, (text, _) in lines.items():
        (root / "labels" / "train" / f"{stem}.txt").write_text(f"{text}\n1 0.5 0.5 0.4 0.4\n")
    (root / "labels" / "train" / "007.txt").write_bytes(b"\xff\xfe\x00")
    (root / "labels" / "train" / "nobody.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    wanted = [(kind, f"labels/train/{stem}.txt") for stem, (_, kind) in lines.items()]
    wanted += [("unreadable_text", "labels/train/007.txt"), ("orphan_label", "labels/train/nobody.txt")]
    found = _found(check_dataset("yolo", str(root)))
    assert [(kind, file) for kind, file, _ in found] == wanted
    assert [entry for _, _, entry in found] == [*["line 1"] * 6, "line 2", "", ""]


def test_check_reads_on_when_yolo_class_ids_have_a_gap(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: cat, 1: dog, 3: cow}\n")
    report = check_dataset("yolo", str(root))
    assert [(f.kind, f.problem) for f in report.findings] == [
        ("class_id_gap", "names has 3 classes with ids up to 3; without a name: [2]")
    ]


def test_check_tells_a_missing_image_from_an_orphan_label_when_images_are_listed(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    (root / "train.txt").write_text("".join(f"images/train/{i:03d}.png\n" for i in range(8)))
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "images" / "train" / "002.png").unlink()
    assert _found(check_dataset("yolo", str(root))) == [
        ("missing_image", "labels/train/002.txt", f"{root / 'train.txt'}: line 3")
    ]


def test_check_names_every_faulty_entry_of_a_coco_file(tmp_path: Path) -> None:
    root = sound_coco(tmp_path / "set")
    boxes = [(4, 5, float("nan"), 3), (35, 5, 10, 3), (4, 5, -3, 3), (4, 5, 0, 3), (4, 5, 6, 3)]
    own = [annotation(i, i, 3, box) for i, box in enumerate(boxes, 1)]
    own += [annotation(6, 5, 3, boxes[4]), annotation(7, 6, 99, (1, 1, 5, 5)), annotation(8, 77, 3, (1, 1, 5, 5))]
    own += [{"id": 9, "image_id": 7, "category_id": 3, "bbox": [1, 2]}, annotation(9, 8, 3, (1, 1, 5, 5))]
    path = root / "annotations" / "instances_train.json"
    _change(path, annotations=own)
    report = check_dataset("coco", str(root))
    assert {(f.kind, f.entry) for f in report.findings} == {
        ("box_not_finite", "annotation 1 of image 1"),
        ("box_outside", "annotation 2 of image 2"),
        ("box_inverted", "annotation 3 of image 3"),
        ("box_zero_area", "annotation 4 of image 4"),
        ("duplicate_box", "annotation 6 of image 5"),
        ("unknown_class", "annotation 7 of image 6"),
        ("orphan_label", "annotation 8 of image 77"),
        ("malformed_entry", "annotations[8]"),
    }
    assert {f.file for f in report.findings} == {str(path)}


def test_check_compares_the_splits_of_a_coco_dataset(tmp_path: Path) -> None:
    root = sound_coco(tmp_path / "set")
    path = root / "annotations" / "instances_val.json"
    raw = json.loads(path.read_text())
    raw["images"][0]["width"] = 30
    raw["images"][1]["id"] = 3
    _change(path, images=raw["images"], categories=[{"id": 3, "name": "cat"}, {"id": 7, "name": "bird"}])
    kinds = [f.kind for f in check_dataset("coco", str(root)).findings]
    assert sorted(kinds) == ["class_mismatch", "duplicate_id", "orphan_label", "size_mismatch"]


@pytest.mark.parametrize("payload", [b'{"images": [', b"[]", b"\xff\xfe"])
def test_check_names_a_coco_file_that_is_none(tmp_path: Path, payload: bytes) -> None:
    root = sound_coco(tmp_path / "set")
    (root / "annotations" / "instances_val.json").write_bytes(payload)
    (found,) = check_dataset("coco", str(root)).findings
    assert found.kind in ("malformed_entry", "unreadable_text")
    assert found.file.endswith("instances_val.json")


def test_check_names_every_faulty_file_of_a_voc_dataset(tmp_path: Path) -> None:
    root = sound_voc(tmp_path / "set")
    for stem, objects in {
        "000000": [voc_object("cat", ("nan", 1, 9, 9))],
        "000001": [voc_object("cat", (9, 1, 3, 9))],
        "000002": [voc_object("cow", (1, 1, 9, 9))],
        "000003": ["<object><name>cat</name></object>"],
        "000004": [voc_object("cat", (1, 1, 99, 9))],
    }.items():
        voc_file(root, stem, objects, image="")
    voc_file(root, "lonely", [], image="")
    (root / "JPEGImages" / "000006.jpg").unlink()
    with (root / "ImageSets" / "Main" / "val.txt").open("a") as stream:
        stream.write("ghost\n")
    found = [(kind, file) for kind, file, _ in _found(check_dataset("voc", str(root)))]
    assert sorted(found) == [
        ("box_inverted", "Annotations/000001.xml"),
        ("box_not_finite", "Annotations/000000.xml"),
        ("box_outside", "Annotations/000004.xml"),
        ("malformed_entry", "Annotations/000003.xml"),
        ("missing_image", "Annotations/000006.xml"),
        ("missing_label", "ImageSets/Main/val.txt"),
        ("orphan_label", "Annotations/lonely.xml"),
        ("unknown_class", "Annotations/000002.xml"),
    ]


def test_check_compares_the_class_folders_of_an_image_folder(tmp_path: Path) -> None:
    root = sound_folder(tmp_path / "set")
    for path in (root / "val" / "dog").iterdir():
        path.unlink()
    (root / "train" / "cow").mkdir()
    picture(root / "train" / "cow" / "1.png", level=7)
    picture(root / "train" / "loose.png", level=9)
    assert sorted(_found(check_dataset("image_folder", str(root)))) == [
        ("class_mismatch", "val", ""),
        ("empty_class", "val/dog", ""),
        ("layout", "train", ""),
    ]


def test_check_compares_counts_when_they_are_published(tmp_path: Path) -> None:
    root = str(sound_yolo(tmp_path / "set"))
    assert check_dataset("yolo", root, expected=Expected({"train": 8, "all": 11}, 11, 2)).findings == ()
    found = check_dataset("yolo", root, expected=Expected({"train": 9}, 12, 80)).findings
    assert [f.problem for f in found] == [
        "8 images in train, 9 are published",
        "11 boxes, 12 are published",
        "2 classes, 80 are published",
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_check_names_the_layout_when_there_is_nothing_of_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    assert {f.kind for f in check_dataset(name, str(tmp_path / "set")).findings} == {"layout"}
    with pytest.raises(DataError, match="does not exist"):
        check_dataset(name, str(tmp_path / "none"))


def test_finding_refuses_a_kind_that_is_not_described() -> None:
    assert all(FAULTS.values())
    with pytest.raises(ValueError, match="unknown kind"):
        Finding("oddness", "file", "problem")


@pytest.mark.parametrize(
    ("name", "images", "classes"),
    [
        ("coco128", {"all": 128}, 80),
        ("coco2017", {"train": 118287, "val": 5000}, 80),
        ("cifar10", {"all": 60000}, 10),
        ("imagenet1k", {"train": 1281167, "val": 50000}, 1000),
        ("voc", {}, None),
    ],
)
def test_published_counts_are_those_of_the_catalog(name: str, images: dict[str, int], classes: int | None) -> None:
    assert published(name) == Expected(images, None, classes)
