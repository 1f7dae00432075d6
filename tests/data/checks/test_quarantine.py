from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from paddle_tk.data.check import check_dataset
from paddle_tk.data.checks.quarantine import put_aside, put_back, quarantine_folder
from paddle_tk.data.checks.sheet import write_sheet
from paddle_tk.errors import BadInput
from tests.data.checked_sets import MAKERS, sound_voc, sound_yolo
from tests.data.detection_sets import annotation, load, picture, write_json, yolo_file


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _spoil(name: str, root: Path) -> None:
    first, second, *_ = sorted(p for p in root.rglob("*") if p.suffix in (".png", ".jpg") and "train" in str(p))
    first.write_bytes(b"")
    shutil.copyfile(second, second.with_name("copy" + second.suffix))
    if name == "yolo":
        (root / "labels" / "train" / "copy.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        (root / "labels" / "train" / "003.txt").write_text("0 nan 0.5 0.2 0.2\n")
        (root / "labels" / "train" / "stray.txt").write_text("")
    if name == "coco":
        raw = json.loads((root / "annotations" / "instances_train.json").read_text())
        raw["images"].append({"id": 50, "file_name": "copy.png", "width": 40, "height": 30})
        raw["annotations"] += [annotation(51, 4, 3, (1, 1, -5, 5)), annotation(52, 99, 3, (1, 1, 5, 5))]
        write_json(root / "annotations" / "instances_train.json", raw)


@pytest.mark.parametrize("name", ["yolo", "coco", "image_folder"])
def test_fix_leaves_a_dataset_without_faults_and_can_be_undone(tmp_path: Path, name: str) -> None:
    root = MAKERS[name](tmp_path / "set")
    _spoil(name, root)
    before = _tree(root)
    report = check_dataset(name, str(root))
    assert len(report.findings) >= 2
    done = put_aside(report)
    assert done.left == 0
    assert done.folder == tmp_path / "quarantine" / "set"
    assert check_dataset(name, str(root)).findings == ()
    assert load(name, root).splits  # the reader agrees
    moved = _tree(done.folder)
    assert all(moved[file] == before[file] for file in (*done.moved, *done.rewritten))
    assert {**_tree(root), **dict.fromkeys(done.moved, b"")}.keys() == before.keys()
    assert sorted(put_back(root)) == sorted((*done.moved, *done.rewritten))
    assert _tree(root) == before
    assert not done.folder.exists()


def test_fix_strikes_samples_out_of_the_lists_of_a_voc_dataset(tmp_path: Path) -> None:
    root = sound_voc(tmp_path / "set")
    (root / "JPEGImages" / "000002.jpg").write_bytes(b"")
    with (root / "ImageSets" / "Main" / "val.txt").open("a") as stream:
        stream.write("ghost\n")
    before = _tree(root)
    done = put_aside(check_dataset("voc", str(root)))
    assert sorted(done.moved) == ["Annotations/000002.xml", "JPEGImages/000002.jpg"]
    assert sorted(done.rewritten) == ["ImageSets/Main/train.txt", "ImageSets/Main/val.txt"]
    assert check_dataset("voc", str(root)).findings == ()
    put_back(root)
    assert _tree(root) == before


def test_fix_strikes_images_out_of_a_yolo_list(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    (root / "train.txt").write_text("".join(f"./images/train/{i:03d}.png\n" for i in range(8)))
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "images" / "train" / "002.png").unlink()
    (root / "images" / "train" / "003.png").write_text("no image")
    done = put_aside(check_dataset("yolo", str(root)))
    assert (root / "train.txt").read_text().count("\n") == 6
    assert sorted(done.moved) == ["images/train/003.png", "labels/train/002.txt", "labels/train/003.txt"]
    assert check_dataset("yolo", str(root)).findings == ()


def test_fix_keeps_an_earlier_quarantine_and_undoes_both_or_nothing(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    label = root / "labels" / "train" / "001.txt"
    label.write_text("nonsense\n")
    put_aside(check_dataset("yolo", str(root)))
    yolo_file(root, "train", "001", ["also nonsense"])
    folder = put_aside(check_dataset("yolo", str(root))).folder
    before = _tree(folder)
    assert before["labels/train/001.txt"] == b"nonsense\n"
    assert before["labels/train/001-2.txt"] == b"also nonsense\n"
    with pytest.raises(BadInput, match=r"two files of .* had that place"):
        put_back(root)
    assert _tree(folder) == before
    for name in ("labels/train/001-2.txt", "images/train/001-2.png"):
        (folder / name).unlink()
    assert sorted(put_back(root)) == ["images/train/001.png", "labels/train/001.txt"]
    assert label.read_text() == "nonsense\n"


def test_fix_undoes_a_list_that_was_rewritten_twice(tmp_path: Path) -> None:
    root = sound_voc(tmp_path / "set")
    before = _tree(root)
    for stem in ("000001", "000002"):
        (root / "JPEGImages" / f"{stem}.jpg").write_bytes(b"")
        put_aside(check_dataset("voc", str(root)))
    put_back(root)
    assert {k: v for k, v in _tree(root).items() if "JPEG" not in k} == {
        k: v for k, v in before.items() if "JPEG" not in k
    }


def test_put_back_refuses_to_write_over_a_new_file(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    label = root / "labels" / "train" / "001.txt"
    label.write_text("nonsense\n")
    put_aside(check_dataset("yolo", str(root)))
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(BadInput, match=r"labels/train/001\.txt .* is not what --fix left there"):
        put_back(root)
    assert label.read_text() == "0 0.5 0.5 0.2 0.2\n"
    assert (quarantine_folder(root) / "labels" / "train" / "001.txt").read_text() == "nonsense\n"


def test_fix_refuses_what_lies_outside_of_the_dataset(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    outside = picture(tmp_path / "elsewhere" / "a.png")
    outside.write_bytes(b"")
    (root / "train.txt").write_text(f"{outside}\n{root}/images/train/000.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(BadInput, match="lies outside of"):
        put_aside(check_dataset("yolo", str(root)))
    assert outside.exists()
    assert not quarantine_folder(root).exists()


def test_fix_refuses_what_is_drawn_anew_anyway() -> None:
    report = check_dataset("digits_detection", None)
    with pytest.raises(BadInput, match="unpacked or drawn anew"):
        put_aside(report)


def test_sheet_shows_every_image_at_fault(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    for i in range(6):
        (root / "labels" / "train" / f"{i:03d}.txt").write_text("nonsense \N{SNOWMAN}\n")
    (root / "images" / "train" / "007.png").write_bytes(b"")
    report = check_dataset("yolo", str(root))
    assert write_sheet(report, tmp_path / "sheet.png") == 7
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (5 * 240, 2 * 216)
        colours = {sheet.convert("RGB").getpixel((x, 80)) for x in range(10, 1200, 30)}
    assert len(colours) > 5
