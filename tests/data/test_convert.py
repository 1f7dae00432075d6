from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.convert import FORMATS, Conversion, Format, convert, file_names
from paddle_tk.errors import DataError
from tests.data.detection_sets import (
    annotation,
    boxes_by_stem,
    coco_part,
    coco_root,
    counts,
    load,
    part,
    picture,
    voc_file,
    voc_object,
    voc_root,
    yolo_root,
)

CLASSES = ("zebra", "ant eater", "größe", "no")


def _converted(bundle: DatasetBundle, folder: Path, to: Format, **options: Any) -> tuple[DatasetBundle, Conversion]:
    folder.mkdir()
    done = convert(bundle, folder, to, **options)
    return load(to, folder), done


@st.composite
def _images(draw: st.DrawFn) -> tuple[tuple[int, int], Boxes]:
    height, width = draw(st.integers(2, 90)), draw(st.integers(2, 90))
    corners, ids = [], []
    for _ in range(draw(st.integers(0, 4))):
        spans = []
        for size in (width, height):
            low = draw(st.floats(0, size - 0.01))
            spans.append((low, draw(st.floats(low + 0.005, size))))
        (x1, x2), (y1, y2) = spans
        corners.append((x1, y1, x2, y2))
        ids.append(draw(st.integers(0, len(CLASSES) - 1)))
    return (height, width), Boxes.make(corners, ids)


def _bundle(folder: Path, images: list[tuple[tuple[int, int], Boxes]]) -> DatasetBundle:
    """A dataset of these images; the first of each split also has a whole-image box, as training needs one."""
    splits = {}
    shares = {"train": images[2:], "val": images[:1], "test": images[1:2]}
    for name, found in shares.items():
        paths = [
            picture(folder / name / f"img {i}.png", size[1], size[0], level=i) for i, (size, _) in enumerate(found)
        ]
        sizes = np.array([size for size, _ in found], np.int64)
        boxes = [one for _, one in found]
        whole = Boxes.make([[*boxes[0].xyxy.ravel(), 0, 0, sizes[0][1], sizes[0][0]]], [*boxes[0].class_ids, 1])
        splits[name] = DetectionSplit(paths, sizes, [whole, *boxes[1:]])
    return DatasetBundle("made", "detection", splits, CLASSES, "here", "free", "0")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(_images(), min_size=4, max_size=6))
def test_convert_keeps_every_box_class_image_and_split_when_it_goes_through_all_formats(
    images: list[tuple[tuple[int, int], Boxes]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = first = _bundle(folder / "made", images)
        for number, to in enumerate(("coco", "voc", "yolo", "coco")):
            found, _ = _converted(found, folder / str(number), to)
            if number == 0:
                assert found.classes == CLASSES
                first = found
        assert found.classes == CLASSES
        for split in first.splits:
            before, after = part(first, split), part(found, split)
            assert [Path(path).name for path in after.paths] == [Path(path).name for path in before.paths]
            np.testing.assert_array_equal(after.sizes, before.sizes)
            for i in range(len(before)):
                np.testing.assert_array_equal(after.image(i), before.image(i))
                np.testing.assert_array_equal(after.boxes(i).class_ids, before.boxes(i).class_ids)
                # Half a pixel from VOC, and the sixth decimal of a share of at most 90 px from YOLO.
                np.testing.assert_allclose(after.boxes(i).xyxy, before.boxes(i).xyxy, rtol=0, atol=0.5 + 1e-4)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(_images(), min_size=4, max_size=6))
def test_convert_keeps_boxes_to_a_billionth_in_coco_and_to_the_sixth_decimal_in_yolo(
    images: list[tuple[tuple[int, int], Boxes]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        bundle = _bundle(Path(name) / "made", images)
        for to, tolerance in (("coco", 1e-9), ("yolo", 1e-4)):
            found, done = _converted(bundle, Path(name) / to, to)
            assert done.lost == {}
            for split in bundle.splits:
                for i, boxes in enumerate(part(bundle, split).annotations):
                    np.testing.assert_allclose(part(found, split).boxes(i).xyxy, boxes.xyxy, rtol=0, atol=tolerance)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_convert_reads_every_format_and_writes_every_other(tmp_path: Path, source: str, to: Format) -> None:
    make = {"coco": coco_root, "voc": voc_root, "yolo": yolo_root}[source]
    bundle = load(source, make(tmp_path / "in"))
    seen: list[int] = []
    found, done = _converted(bundle, tmp_path / "out", to, advance=seen.append)
    assert counts(found) == counts(bundle) == {"train": (7, 7), "test": (3, 3), "val": (2, 2)}
    assert found.classes == bundle.classes == done.classes
    assert len(seen) == 12
    before, after = boxes_by_stem(bundle), boxes_by_stem(found)
    assert before.keys() == after.keys()
    for stem, boxes in before.items():
        np.testing.assert_array_equal(after[stem].class_ids, boxes.class_ids)
        np.testing.assert_allclose(after[stem].xyxy, boxes.xyxy, atol=0.5 if to == "voc" else 1e-3)


def _rich(root: Path) -> DatasetBundle:
    """A COCO dataset with a crowd region, an ignored box and a mask's area."""
    own = [
        annotation(1, 1, 3, (0, 0, 10, 10), iscrowd=1, area=30.0),
        annotation(2, 1, 7, (2, 2, 4, 4), ignore=1),
        annotation(3, 2, 3, (5, 5, 8, 4), area=20.0),
        annotation(4, 2, 3, (5.2, 5, 0.2, 4)),
    ]
    coco_part(root, "train", 2, annotations=own)
    coco_part(root, "val", 1)
    coco_part(root, "test", 1)
    return load("coco", root)


def test_convert_to_coco_keeps_crowd_difficult_and_areas(tmp_path: Path) -> None:
    bundle = _rich(tmp_path / "in")
    found, done = _converted(bundle, tmp_path / "out", "coco")
    assert done.lost == {}
    for stem, boxes in boxes_by_stem(bundle).items():
        for key in ("class_ids", "crowd", "difficult", "areas"):
            np.testing.assert_array_equal(getattr(boxes_by_stem(found)[stem], key), getattr(boxes, key))


@pytest.mark.parametrize(
    ("to", "told"), [("voc", r"voc cannot hold 1 crowd region\(s\) of coco"), ("yolo", r"1 crowd .* and 1 difficult")]
)
def test_convert_refuses_to_lose_annotations_silently(tmp_path: Path, to: Format, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        _converted(_rich(tmp_path / "in"), tmp_path / "out", to)
    assert "--lossy" in caught.value.fix


def test_convert_counts_what_is_lost_when_that_is_allowed(tmp_path: Path) -> None:
    bundle = _rich(tmp_path / "in")
    voc, done = _converted(bundle, tmp_path / "voc", "voc", lossy=True)
    assert (done.lost, done.decimals, done.boxes["train"]) == ({"crowd": 1, "areas": 1}, 1, 3)
    boxes = boxes_by_stem(voc)["train_001"]
    assert (boxes.class_ids.tolist(), boxes.difficult.tolist()) == ([1], [True])
    _, done = _converted(bundle, tmp_path / "yolo", "yolo", lossy=True)
    assert (done.lost, done.decimals) == ({"crowd": 1, "difficult": 1, "areas": 1}, 0)


def test_convert_keeps_the_difficult_flag_from_voc_to_coco_and_back(tmp_path: Path) -> None:
    voc_root(tmp_path / "in")
    flagged = voc_object("sofa", (2, 3, 30, 20), "<difficult>1</difficult>")
    voc_file(tmp_path / "in", "hard", [flagged, voc_object("cat", (1, 1, 5, 5))])
    bundle = load("voc", tmp_path / "in")
    coco, _ = _converted(bundle, tmp_path / "coco", "coco")
    back, _ = _converted(coco, tmp_path / "back", "voc")
    for found in (coco, back):
        boxes = boxes_by_stem(found)["hard"]
        assert boxes.difficult.tolist() == [True, False]
        np.testing.assert_array_equal(boxes.xyxy, [[1, 2, 30, 20], [0, 0, 5, 5]])
    assert back.classes == bundle.classes


def test_convert_writes_ids_that_differ_over_all_splits_of_coco(tmp_path: Path) -> None:
    _converted(load("voc", voc_root(tmp_path / "in")), tmp_path / "out", "coco")
    documents = [json.loads(path.read_bytes()) for path in (tmp_path / "out" / "annotations").iterdir()]
    for key in ("images", "annotations"):
        ids = [entry["id"] for document in documents for entry in document[key]]
        assert sorted(ids) == list(range(1, 13))
    assert all(document["categories"][0] == {"id": 1, "name": "aeroplane"} for document in documents)


def test_convert_writes_what_other_readers_of_the_formats_expect(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "in"))
    _converted(bundle, tmp_path / "voc", "voc")
    lists = {path.stem: path.read_text().split() for path in (tmp_path / "voc" / "ImageSets" / "Main").iterdir()}
    assert lists["trainval"] == lists["train"] + lists["val"]
    assert {f"{stem}.xml" for stem in lists["trainval"] + lists["test"]} == {
        path.name for path in (tmp_path / "voc" / "Annotations").iterdir()
    }
    _converted(bundle, tmp_path / "yolo", "yolo")
    described = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())
    assert described == {
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
        "nc": 2,
        "names": {0: "cat", 1: "dog"},
    }
    images, labels = (tmp_path / "yolo" / name for name in ("images", "labels"))
    stems = {path.relative_to(images).with_suffix("") for path in images.rglob("*.png")}
    assert stems == {path.relative_to(labels).with_suffix("") for path in labels.rglob("*.txt")}
    assert len(stems) == 12


def test_convert_records_every_file_it_wrote(tmp_path: Path) -> None:
    _converted(load("coco", coco_root(tmp_path / "in")), tmp_path / "out", "yolo")
    record = json.loads((tmp_path / "out" / "conversion.json").read_bytes())
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(record["files"]) == written


def test_convert_links_images_when_asked(tmp_path: Path) -> None:
    bundle = load("coco", coco_root(tmp_path / "in"))
    found, _ = _converted(bundle, tmp_path / "out", "voc", link=True)
    one, other = Path(part(bundle, "val").name(0)), Path(part(found, "val").name(0))
    assert one.samefile(other)
    assert one != other


def test_file_names_differ_in_their_stems_whatever_the_folders_and_cases() -> None:
    empty = Boxes.make([], [])

    def split(*paths: str) -> DetectionSplit:
        return DetectionSplit(paths, np.ones((len(paths), 2), np.int64), [empty] * len(paths))

    val = split("v/x.jpg", "v/x_2.jpg", "v/\n.jpg")
    names = file_names({"train": split("a/x.jpg", "b/X.png", "c/y.b.jpg"), "val": val})
    assert names == {"train": ["x.jpg", "X_2.png", "y.b.jpg"], "val": ["x_3.jpg", "x_2_2.jpg", "_.jpg"]}


def test_convert_refuses_class_names_that_would_change(tmp_path: Path) -> None:
    bundle = replace(load("coco", coco_root(tmp_path / "in")), classes=("cat", "two\nlines"))
    for to in ("voc", "yolo"):
        with pytest.raises(DataError, match=rf"{to} cannot hold the class name 'two\\nlines'"):
            convert(bundle, tmp_path, to)


def test_convert_refuses_a_dataset_without_boxes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digits is a classification dataset and has no boxes"):
        convert(load("digits", None), tmp_path, "coco")
