from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddle_tk.data.formats.voc import VOC_CLASSES
from paddle_tk.data.formats.voc_xml import voc_side
from paddle_tk.errors import DataError
from tests.data.detection_sets import (
    HEIGHT,
    WIDTH,
    boxes_by_stem,
    counts,
    load,
    part,
    picture,
    voc_file,
    voc_object,
    voc_root,
)


def _lists(root: Path, **stems: list[int]) -> None:
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in stems.items():
        (folder / f"{name}.txt").write_text("".join(f"{number:06d}\n" for number in numbers))


def _stems(root: Path) -> dict[str, list[int]]:
    bundle = load("voc", root)
    return {name: [int(Path(path).stem) for path in part(bundle, name).paths] for name in bundle.splits}


def test_voc_counts_pixels_from_one_and_includes_the_last(tmp_path: Path) -> None:
    whole = voc_object("cat", (1, 1, WIDTH, HEIGHT), "<difficult>1</difficult>")
    pixel = voc_object("dog", (7, 8, 7, 8), "")
    decimals = voc_object("dog", ("1.5", "2.25", "9.75", "8"))
    beyond = voc_object("dog", (0, 20, 50, 31))
    voc_file(voc_root(tmp_path), "000100", [whole, pixel, decimals, beyond])
    boxes = boxes_by_stem(load("voc", tmp_path))["000100"]
    np.testing.assert_array_equal(
        boxes.xyxy, [[0, 0, WIDTH, HEIGHT], [6, 7, 7, 8], [0.5, 1.25, 9.75, 8], [0, 19, WIDTH, HEIGHT]]
    )
    assert boxes.difficult.tolist() == [True, False, False, False]
    assert boxes.areas.tolist() == [WIDTH * HEIGHT, 1.0, 9.25 * 6.75, WIDTH * 11]


def test_voc_draws_all_splits_when_none_is_published(tmp_path: Path) -> None:
    bundle = load("voc", voc_root(tmp_path, 20))
    assert counts(bundle) == {"train": (12, 12), "test": (5, 5), "val": (3, 3)}
    assert bundle.kind == "detection"


def test_voc_keeps_published_splits_and_needs_no_other_image(tmp_path: Path) -> None:
    voc_root(tmp_path)
    _lists(tmp_path, train=[3, 1, 2], val=[5], test=[7, 4], trainval=[3, 1, 2, 5])
    assert _stems(tmp_path) == {"train": [3, 1, 2], "val": [5], "test": [7, 4]}


def test_voc_takes_trainval_when_train_is_missing(tmp_path: Path) -> None:
    voc_root(tmp_path)
    _lists(tmp_path, trainval=[0, 1, 2, 3, 4, 5, 6, 7], test=[8, 9])
    found = _stems(tmp_path)
    assert found["test"] == [8, 9]
    assert sorted(found["train"] + found["val"]) == list(range(8))
    _lists(tmp_path, val=[6, 7])
    assert _stems(tmp_path) == {"train": [0, 1, 2, 3, 4, 5], "val": [6, 7], "test": [8, 9]}


@pytest.mark.parametrize("base", ["VOCdevkit", "."])
def test_voc_reads_both_years_together(tmp_path: Path, base: str) -> None:
    for year, test in (("VOC2007", {"test": [4]}), ("VOC2012", {})):
        voc_root(tmp_path / base / year, 6)
        _lists(tmp_path / base / year, train=[0, 1, 2], val=[3], **test)
    assert {name: images for name, (images, _) in counts(load("voc", tmp_path)).items()} == {
        "train": 6,
        "val": 2,
        "test": 1,
    }


def test_voc_takes_its_own_classes_else_listed_ones_else_those_found(tmp_path: Path) -> None:
    voc_root(tmp_path)
    assert load("voc", tmp_path).classes == VOC_CLASSES
    voc_file(tmp_path, "000100", [voc_object("axolotl", (1, 2, 3, 4))])
    assert load("voc", tmp_path).classes == ("axolotl", "cat", "dog")
    (tmp_path / "labels.txt").write_text("dog\nemu\n\naxolotl\ncat\n")
    bundle = load("voc", tmp_path)
    assert bundle.classes == ("dog", "emu", "axolotl", "cat")
    assert boxes_by_stem(bundle)["000100"].class_ids.tolist() == [2]


def test_voc_reads_an_objects_own_box_when_its_parts_have_boxes_too(tmp_path: Path) -> None:
    parts = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc_file(voc_root(tmp_path), "000100", [voc_object("person", (5, 6, 9, 10), parts)])
    bundle = load("voc", tmp_path)
    assert bundle.classes == VOC_CLASSES
    np.testing.assert_array_equal(boxes_by_stem(bundle)["000100"].xyxy, [[4, 5, 9, 10]])


def test_voc_keeps_images_without_objects_and_sizes_that_are_not_stated(tmp_path: Path) -> None:
    voc_root(tmp_path)
    voc_file(tmp_path, "000100", [], size=None)
    voc_file(tmp_path, "000101", [voc_object("cat", (1, 1, 2, 2))], size=(0, 0))
    boxes = boxes_by_stem(load("voc", tmp_path))
    assert (len(boxes["000100"]), len(boxes["000101"]), len(boxes)) == (0, 1, 14)


def test_voc_finds_the_image_by_stem_and_by_the_name_in_the_file(tmp_path: Path) -> None:
    voc_root(tmp_path)
    voc_file(tmp_path, "a.b", [], image="a.b.png")
    voc_file(tmp_path, "renamed", [], image="").write_text(
        "<annotation><filename>C.JPG</filename></annotation>", encoding="utf-8"
    )
    picture(tmp_path / "JPEGImages" / "C.JPG")
    assert {"a.b", "C"} <= set(boxes_by_stem(load("voc", tmp_path)))
    picture(tmp_path / "JPEGImages" / "a.b.bmp")
    with pytest.raises(DataError, match=r"a\.b\.xml may belong to a\.b\.bmp or a\.b\.png"):
        load("voc", tmp_path)


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ([voc_object("cat", (9, 2, 8, 4))], r"object 1 \(cat\): xmin 9, ymin 2, xmax 8, ymax 4 has no area"),
        ([voc_object("cat", (41, 2, 48, 4))], r"xmin 41, ymin 2, xmax 48, ymax 4 lies outside its image of 40x30 px"),
        ([voc_object("cat", ("nan", 2, 8, 4))], "xmin nan, ymin 2, xmax 8, ymax 4 is not finite"),
        ([voc_object("cat", (1, 2, "1e999", 4))], "xmax inf, ymax 4 is not finite"),
        ([voc_object("cat", (1, 2, 3, "four"))], r"object 1 \(cat\) has 'four' as <ymax>"),
        ([voc_object("cat", (1, 2, 3, 4)).replace("ymax", "y")], r"object 1 \(cat\) has no <ymax>"),
        ([voc_object("dog", (1, 1, 2, 2)), "<object><name>cat</name></object>"], "object 2 has no <bndbox>"),
        ([voc_object("", (1, 2, 3, 4))], "object 1 has no <name>"),
        ([voc_object("cat", (1, 2, 3, 4), "<difficult>x</difficult>")], "has <difficult> 'x'"),
        ([voc_object("gnu", (1, 2, 3, 4))], "class 'gnu' is none of the 2 listed classes"),
    ],
)
def test_voc_names_file_and_object_when_it_is_wrong(tmp_path: Path, objects: list[str], told: str) -> None:
    voc_root(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    voc_file(tmp_path, "000100", objects)
    with pytest.raises(DataError, match=told) as caught:
        load("voc", tmp_path)
    assert "000100.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>', r"declares a document type or entities \(line 1\)"),
        ('<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY e "lol"><!ENTITY f "&e;&e;">]>', r"declares .* \(line 2\)"),
        ('<!DOCTYPE annotation SYSTEM "voc.dtd">', "declares a document type"),
        ("<open>", "is no XML, or cut off"),
        ("no xml", "is no XML, or cut off"),
    ],
)
def test_voc_refuses_files_with_entities_and_such_that_are_no_xml(tmp_path: Path, head: str, told: str) -> None:
    voc_file(voc_root(tmp_path), "000100", [voc_object("&e;", (1, 2, 3, 4))], head=head)
    with pytest.raises(DataError, match=told) as caught:
        load("voc", tmp_path)
    assert "000100.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_voc_names_the_file_when_it_is_empty_or_of_another_kind(tmp_path: Path) -> None:
    path = voc_file(voc_root(tmp_path), "000100", [])
    for text, told in (
        ("", "no XML, or cut off"),
        ("<data/>", "holds <data> where <annotation> is expected"),
        ("<annotation><size><width>nan</width><height>3</height></size></annotation>", "size is nanx3"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=f"000100.xml.*{told}"):
            load("voc", tmp_path)


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ({"train": [0, 77]}, r"train\.txt names '000077', but .*000077\.xml does not exist"),
        ({"train": [0, 1, 1]}, r"train\.txt names '000001' twice"),
        ({"train": [0, 1, 2], "val": [1]}, r"000001\.jpg is in the train split and in the val split"),
        ({"train": []}, r"train\.txt names no images"),
        ({"test": [0, 1]}, r"train\.txt names no images"),
    ],
)
def test_voc_names_the_list_when_it_is_wrong(tmp_path: Path, lists: dict[str, list[int]], told: str) -> None:
    _lists(voc_root(tmp_path), **lists)
    with pytest.raises(DataError, match=told):
        load("voc", tmp_path)


def test_voc_names_the_image_when_it_is_missing_or_of_another_size(tmp_path: Path) -> None:
    voc_root(tmp_path)
    (tmp_path / "JPEGImages" / "000003.jpg").unlink()
    with pytest.raises(DataError, match=r"000003\.xml names the image .*000003\.jpg, which does not exist"):
        load("voc", tmp_path)
    picture(tmp_path / "JPEGImages" / "000003.jpg", WIDTH + 1)
    with pytest.raises(DataError, match=r"000003\.xml says 40x30 px, but .*000003\.jpg is 41x30 px"):
        load("voc", tmp_path)


def test_voc_names_an_empty_jpeg_and_leaves_it_out_when_asked(tmp_path: Path) -> None:
    voc_root(tmp_path)
    (tmp_path / "JPEGImages" / "000004.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 image file\(s\) cannot be decoded: .*000004\.jpg"):
        load("voc", tmp_path)
    bundle = load("voc", tmp_path, skip_unreadable=True)
    assert [Path(path).name for path in bundle.skipped] == ["000004.jpg"]
    assert "000004" not in boxes_by_stem(bundle)


def test_voc_shows_the_layout_when_nothing_is_found(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"expected root/Annotations/\*\.xml"):
            load("voc", root)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(DataError, match="has no images in its train split"):
        load("voc", tmp_path)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 40.0), (3.4, 9.6), (0.5, 1.5), (7.49, 8.5), (2.2, 2.3), (0.3, 0.3 + 9e-17)]
)
def test_voc_side_keeps_within_half_a_pixel_and_never_empty(low: float, high: float) -> None:
    first, last = map(float, voc_side(low, high))
    assert abs(first - 1 - low) <= 0.5
    assert abs(last - high) <= 0.5
    assert first - 1 < last
