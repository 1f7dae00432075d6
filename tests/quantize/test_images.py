from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.data.boxes import Boxes, DetectionSplit
from paddle_tk.data.bundle import ArraySplit
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.errors import DataError
from paddle_tk.quantize.images import FolderImages, choose_calibration, read_batches
from paddle_tk.types import Preprocessing

_PREPROCESSING = Preprocessing((8, 8))


def _split(counts: tuple[int, ...]) -> ArraySplit:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    return ArraySplit(images, labels, [str(i) for i in range(len(labels))])


def test_choose_calibration_takes_each_class_in_proportion() -> None:
    split = _split((60, 30, 10))
    chosen = choose_calibration(split, 20, seed=3)
    assert np.bincount(split.labels[chosen]).tolist() == [12, 6, 2]
    assert len(set(chosen.tolist())) == 20
    np.testing.assert_array_equal(chosen, choose_calibration(split, 20, seed=3))
    assert set(chosen.tolist()) != set(choose_calibration(split, 20, seed=4).tolist())


def test_choose_calibration_mixes_classes_in_every_batch_and_takes_all_when_there_are_fewer() -> None:
    split = _split((50, 50))
    first = split.labels[choose_calibration(split, 64)][:16]
    assert 0 < first.sum() < 16
    assert sorted(choose_calibration(split, 1000).tolist()) == list(range(100))


def test_choose_calibration_spreads_over_kinds_of_images_when_they_have_boxes() -> None:
    boxes = [Boxes.make([[0, 0, 4, 4]], [0])] * 60 + [Boxes.make([[0, 0, 4, 4]] * 2, [0, 1])] * 30
    boxes += [Boxes.make([], [])] * 10
    split = DetectionSplit(["x"] * 100, np.full((100, 2), 8), boxes)
    chosen = choose_calibration(split, 10)
    assert np.unique(split.labels[chosen], return_counts=True)[1].tolist() == [1, 6, 3]


def test_read_batches_gives_what_the_model_gets() -> None:
    split = _split((5,))
    batches = list(read_batches(split, [3, 1, 4], _PREPROCESSING, 2))
    assert [b.shape for b in batches] == [(2, 3, 8, 8), (1, 3, 8, 8)]
    np.testing.assert_array_equal(np.concatenate(batches)[1], EvalTransform(_PREPROCESSING)(split.image(1)))


def test_folder_images_reads_a_plain_folder_with_sub_folders(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for number, name in enumerate(("a.png", "b.JPG", "more/c.bmp")):
        assert cv2.imwrite(str(tmp_path / name.lower()), np.full((10, 12, 3), 50 * number, np.uint8))
    (tmp_path / "b.jpg").rename(tmp_path / "b.JPG")
    (tmp_path / "notes.txt").write_text("no image")
    images = FolderImages(tmp_path, _PREPROCESSING)
    assert len(images) == 3
    [batch] = images.batches(images.choose(10), 8)
    assert batch.shape == (3, 3, 8, 8)
    assert batch.dtype == np.float32
    assert len(np.unique(batch[:, 0].round(2))) == 3


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_folder_images_says_in_one_line_when_the_folder_holds_no_image(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / content).write_text("no image")
    with pytest.raises(DataError, match="holds no image") as caught:
        FolderImages(tmp_path, _PREPROCESSING)
    assert "\n" not in str(caught.value)


def test_folder_images_names_the_folder_when_it_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*/missing"):
        FolderImages(tmp_path / "missing", _PREPROCESSING)


def test_folder_images_names_the_file_when_it_cannot_be_decoded(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    images = FolderImages(tmp_path, _PREPROCESSING)
    with pytest.raises(DataError, match=r"bad\.png"):
        list(images.batches([0], 1))
