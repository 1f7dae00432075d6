from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.errors import DataError
from tests.data.detection_sets import (
    HEIGHT,
    WIDTH,
    annotation,
    boxes_by_stem,
    coco_part,
    coco_root,
    counts,
    document,
    load,
    part,
    picture,
    write_json,
)


def test_coco_keeps_published_splits_and_orders_classes_by_category_id(tmp_path: Path) -> None:
    for split, count in (("train2017", 5), ("val2017", 2), ("test2017", 3)):
        coco_part(tmp_path, split, count)
    bundle = load("coco", tmp_path)
    assert counts(bundle) == {"train": (5, 5), "val": (2, 2), "test": (3, 3)}
    assert (bundle.kind, bundle.classes) == ("detection", ("cat", "dog"))
    train = part(bundle, "train")
    np.testing.assert_array_equal(train.boxes(0).xyxy, [[4, 5, 15, 17]])
    assert [train.boxes(i).class_ids.tolist() for i in range(5)] == [[1], [0], [1], [0], [1]]
    assert train.sizes.tolist() == [[HEIGHT, WIDTH]] * 5
    assert train.image(4).shape == (HEIGHT, WIDTH, 3)


def test_coco_draws_the_splits_that_are_missing(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path, 20))
    assert counts(bundle) == {"train": (12, 12), "test": (5, 5), "val": (3, 3)}
    names = [set(part(bundle, name).paths) for name in bundle.splits]
    assert len(set.union(*names)) == 20
    assert np.bincount(part(bundle, "train").labels).tolist() == [6, 6]
    assert bundle.fingerprint != load("coco", tmp_path, split_seed=1).fingerprint
    coco_part(tmp_path, "val", 4)
    published = load("coco", tmp_path)
    assert counts(published) == {"train": (15, 15), "val": (4, 4), "test": (5, 5)}
    assert published.fingerprint == load("coco", tmp_path, val_fraction=0.5).fingerprint


@pytest.mark.parametrize("folder", ["train", "images/train", "images", ""])
def test_coco_finds_the_images_in_each_of_the_usual_folders(tmp_path: Path, folder: str) -> None:
    coco_part(tmp_path, "train", 8, folder)
    assert part(load("coco", tmp_path), "train").name(0).startswith(str(tmp_path / folder))


def test_coco_finds_images_that_are_named_with_their_folder(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "shots" / f"{i}.png")
    write_json(tmp_path / "annotations" / "instances_train.json", document([f"shots/{i}.png" for i in range(6)]))
    assert Path(part(load("coco", tmp_path), "train").name(0)).parent == tmp_path / "shots"


def test_coco_reads_a_roboflow_export_without_its_root_category(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    for folder, count in (("train", 4), ("valid", 2), ("test", 1)):
        names = [f"{folder}{i}.jpg" for i in range(count)]
        for name in names:
            picture(tmp_path / folder / name)
        found = document(names, [annotation(i, i + 1, 1 + i % 2, (1, 2, 3, 4)) for i in range(count)])
        write_json(tmp_path / folder / "_annotations.coco.json", found | {"categories": categories})
    bundle = load("coco", tmp_path)
    assert counts(bundle) == {"train": (4, 4), "val": (2, 2), "test": (1, 1)}
    assert bundle.classes == ("cat", "dog")
    assert part(bundle, "train").boxes(1).class_ids.tolist() == [1]


def test_coco_keeps_crowd_ignore_areas_and_images_without_boxes(tmp_path: Path) -> None:
    found = [
        annotation(1, 2, 7, (0, 0, 8, 8), iscrowd=1, area=17.5, segmentation={"counts": [1], "size": [3, 3]}),
        annotation(2, 1, 3, (30, 20, 20, 20), ignore=1),
        annotation(3, 2, 3, (-3, 1, 5, 2), area=4.25),
    ]
    coco_part(tmp_path, "train", 9, annotations=found)
    boxes = boxes_by_stem(load("coco", tmp_path))
    assert sorted(len(one) for one in boxes.values()) == [0] * 7 + [1, 2]
    first, second = boxes["train_001"], boxes["train_002"]
    np.testing.assert_array_equal(first.xyxy, [[30, 20, 40, 30]])  # cut at the edge, and the area with it
    assert (first.areas.tolist(), first.difficult.tolist(), first.crowd.tolist()) == ([100.0], [True], [False])
    np.testing.assert_array_equal(second.xyxy, [[0, 0, 8, 8], [0, 1, 2, 3]])
    assert (second.areas.tolist(), second.crowd.tolist()) == ([17.5, 4.25], [True, False])
    assert second.class_ids.tolist() == [1, 0]


def test_coco_takes_sizes_from_the_images_when_none_are_stated(tmp_path: Path) -> None:
    found = coco_part(tmp_path, "train", 8)
    for image in found["images"]:
        del image["width"], image["height"]
    write_json(tmp_path / "annotations" / "instances_train.json", found)
    assert part(load("coco", tmp_path), "train").sizes[0].tolist() == [HEIGHT, WIDTH]


def test_coco_is_the_same_when_moved_and_another_when_a_box_or_an_image_changes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    found = coco_part(one, "train", 10)
    before = load("coco", one).fingerprint
    one.rename(two)
    assert load("coco", two).fingerprint == before
    found["annotations"][3]["bbox"][2] += 0.5
    write_json(two / "annotations" / "instances_train.json", found)
    changed = load("coco", two).fingerprint
    assert changed != before
    picture(two / "train" / "train_004.png", level=7).open("ab").write(b"longer")
    assert load("coco", two).fingerprint not in (before, changed)


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(found: Any) -> None:
        for key in path[:-1]:
            found = found[key]
        found[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            _set("annotations", 2, "bbox", value=[4, 5, 0, 9]),
            r"annotation 3 of image 3: bbox \[4, 5, 0, 9\] has no area",
        ),
        (_set("annotations", 2, "bbox", value=[4, 5, 6, -9]), r"annotation 3 of image 3: bbox \[4, 5, 6, -9\] has no"),
        (
            _set("annotations", 2, "bbox", value=[40, 5, 3, 4]),
            r"bbox \[40, 5, 3, 4\] lies outside its image of 40x30 px",
        ),
        (_set("annotations", 2, "bbox", 1, value=float("nan")), r"\$\.annotations\[2\]\.bbox\[1\] is nan"),
        (_set("annotations", 2, "bbox", 1, value=float("inf")), r"\$\.annotations\[2\]\.bbox\[1\] is inf"),
        (
            _set("annotations", 2, "bbox", value=[1, 2, 3]),
            r"array` of length 4.* at \$\.annotations\[2\]\.bbox = \[1, 2, 3\]",
        ),
        (_set("annotations", 2, "bbox", 0, value="1"), r"at \$\.annotations\[2\]\.bbox\[0\] = \"1\""),
        (
            _set("annotations", 2, "category_id", value=9),
            "annotation 3 has the category_id 9, but there is no category",
        ),
        (_set("annotations", 2, "image_id", value=99), "annotation 3 has the image_id 99, but there is no image"),
        (_set("annotations", 2, "id", value=1), "two annotations have the id 1"),
        (_set("annotations", 2, "area", value=-1.0), "annotation 3 has the area -1.0"),
        (_set("images", 2, "id", value=1), "two images have the id 1"),
        (_set("images", 2, "file_name", value="train_001.png"), "two images have the file_name 'train_001.png'"),
        (
            _set("images", 2, "file_name", value="gone.png"),
            r"image 3 names the image .*gone\.png, which does not exist",
        ),
        (_set("images", 2, "file_name", value="../a.png"), r"image 3 has the file_name '\.\./a\.png'"),
        (_set("images", 2, "width", value=30), r"image 3 says 30x30 px, but .*train_003\.png is 40x30 px"),
        (_set("images", 2, value={"id": 3}), r"missing required field `file_name` at \$\.images\[2\] = {\"id\": 3}"),
        (_set("categories", 0, "name", value="cat"), "names the class 'cat' twice"),
        (_set("categories", 0, "name", value=" "), "class 1 has no name"),
        (_set("categories", 0, "id", value=3), "category id 3 occurs twice"),
        (_set("categories", value=[]), "has the category_id 7, but there is no category"),
        (_set("annotations", value=[]), "not one box is annotated in the 12 training images"),
        (_set("images", value=[]), "names no images"),
    ],
)
def test_coco_names_file_and_entry_when_an_annotation_is_wrong(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    found = coco_part(tmp_path, "train", 12)
    change(found)
    write_json(tmp_path / "annotations" / "instances_train.json", found)
    with pytest.raises(DataError, match=told) as caught:
        load("coco", tmp_path)
    assert "\n" not in str(caught.value)
    assert "train" in str(caught.value)


def test_coco_says_that_sizes_are_swapped_when_the_image_was_turned(tmp_path: Path) -> None:
    found = coco_part(tmp_path, "train", 4)
    found["images"][0].update(width=HEIGHT, height=WIDTH)
    write_json(tmp_path / "annotations" / "instances_train.json", found)
    with pytest.raises(DataError, match="they are swapped: was the image turned by its EXIF orientation"):
        load("coco", tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON, or cut off"),
        ("no json", "not JSON, or cut off"),
        (json.dumps(document(["a.png"]))[:-30], "not JSON, or cut off"),
        ("[1, 2]", r"Expected `object`, got `array`: \[1, 2\]"),
        ('{"images": [], "categories": []}', "missing required field `annotations`"),
        ('{"images": [], "annotations": [], "categories": []}', "names no images"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "names no images"),
    ],
)
def test_coco_says_what_is_wrong_when_the_file_is_no_coco_json(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "annotations" / "instances_train.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(DataError, match=told) as caught:
        load("coco", tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_coco_shows_the_layout_when_nothing_is_found(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"expected root/annotations/instances_\{train,val,test\}"):
            load("coco", root)
    coco_part(tmp_path, "val", 3)
    with pytest.raises(DataError, match="holds no COCO annotations of a training split"):
        load("coco", tmp_path)


def test_coco_refuses_splits_that_contradict_each_other(tmp_path: Path) -> None:
    coco_part(tmp_path, "train", 6, "images")
    other = coco_part(tmp_path, "val", 3, "images")
    write_json(tmp_path / "annotations" / "instances_val.json", other | {"categories": [{"id": 3, "name": "cow"}]})
    with pytest.raises(DataError, match=r"instances_val\.json has other categories than .*instances_train\.json"):
        load("coco", tmp_path)
    other["images"][0]["file_name"] = "train_001.png"
    write_json(tmp_path / "annotations" / "instances_val.json", other)
    with pytest.raises(DataError, match=r"train_001\.png is in the train split and in the val split"):
        load("coco", tmp_path)
    write_json(tmp_path / "annotations" / "instances_train2017.json", other)
    with pytest.raises(
        DataError, match=r"both .*instances_train\.json and .*instances_train2017\.json are a train split"
    ):
        load("coco", tmp_path)


def test_coco_names_unreadable_images_once_and_leaves_them_out_when_asked(tmp_path: Path) -> None:
    coco_root(tmp_path, 12)
    (tmp_path / "train" / "train_003.png").write_bytes(b"")
    (tmp_path / "train" / "train_007.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 image file\(s\) cannot be decoded: .*train_003\.png, .*train_007\.png"):
        load("coco", tmp_path)
    bundle = load("coco", tmp_path, skip_unreadable=True)
    assert [Path(path).name for path in bundle.skipped] == ["train_003.png", "train_007.png"]
    assert (
        sum(images for images, _ in counts(bundle).values()) == sum(boxes for _, boxes in counts(bundle).values()) == 10
    )


def test_coco2017_uses_val2017_as_test_and_leaves_out_the_two_boxes_known_to_be_flat(tmp_path: Path) -> None:
    train = coco_part(tmp_path, "train2017", 20)
    train["annotations"][4].update(id=918, bbox=[4.5, 5.0, 1.03, 0.0])
    train["annotations"][5].update(id=2206849, bbox=[9.98, 8.5, 5.54, 0.0])
    write_json(tmp_path / "annotations" / "instances_train2017.json", train)
    coco_part(tmp_path, "val2017", 7)
    bundle = load("coco2017", tmp_path)
    assert {name: images for name, (images, _) in counts(bundle).items()} == {"train": 16, "val": 4, "test": 7}
    assert sum(boxes for _, boxes in counts(bundle).values()) == 25
    assert "val2017_001.png" in part(bundle, "test").name(0)
    assert bundle.skipped == ()
    assert [note.split(" has ")[0] for note in bundle.notes] == [
        "annotation 918 of instances_train2017.json",
        "annotation 2206849 of instances_train2017.json",
    ]
    with pytest.raises(DataError, match=r"annotation 918 of image 5: .* has no area"):
        load("coco", tmp_path)
    train["annotations"][0]["bbox"][3] = 0
    write_json(tmp_path / "annotations" / "instances_train2017.json", train)
    with pytest.raises(DataError, match=r"annotation 1 of image 1: .* has no area"):
        load("coco2017", tmp_path)


def test_coco2017_names_the_missing_file(tmp_path: Path) -> None:
    coco_part(tmp_path, "train2017", 3)
    with pytest.raises(DataError, match=r"instances_val2017\.json does not exist"):
        load("coco2017", tmp_path)
