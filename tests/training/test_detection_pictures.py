from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.training.detection_pictures import (
    FOUND_COLOUR,
    TRUE_COLOUR,
    Found,
    Truth,
    detection_confusion_picture,
    detections_picture,
    precision_recall_picture,
)
from tests.metrics.detection_sets import measured, synthetic

CLASSES = ["cat", "猫", "$dog$ with a very long name"]
NOTHING_TRUE: Truth = (np.zeros((0, 4)), np.zeros(0, np.int64))
NOTHING_FOUND: Found = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
TRUE: Truth = (np.array([[10.0, 10.0, 60.0, 60.0]]), np.array([0]))
FOUND: Found = (np.array([[30, 40, 90, 90]], np.float32), np.array([0.8], np.float32), np.array([2]))


def grey(height: int = 100, width: int = 100) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def places(picture: np.ndarray, colour: str) -> np.ndarray:
    """Rows and columns of the pixels that have about this colour ("#rrggbb")."""
    wanted = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8).astype(int)
    return np.argwhere(np.abs(picture.astype(int) - wanted).max(axis=-1) < 30)


def test_true_boxes_are_green_and_predicted_ones_orange() -> None:
    both = detections_picture([grey()], [TRUE], [FOUND], CLASSES)
    assert both.dtype == np.uint8
    assert both.shape == (400, 400, 3)
    only_true = detections_picture([grey()], [TRUE], [NOTHING_FOUND], CLASSES)
    only_found = detections_picture([grey()], [NOTHING_TRUE], [FOUND], CLASSES)
    neither = detections_picture([grey()], [NOTHING_TRUE], [NOTHING_FOUND], CLASSES)
    for colour, counts in ((TRUE_COLOUR, (1, 1, 0, 0)), (FOUND_COLOUR, (1, 0, 1, 0))):
        found = [len(places(picture, colour)) > 100 for picture in (both, only_true, only_found, neither)]
        assert found == [bool(count) for count in counts]


def test_boxes_lie_where_the_object_is_when_the_image_is_enlarged() -> None:
    image = grey(20, 20)
    image[5:15, 5:15] = 255
    box = np.array([[5.0, 5.0, 15.0, 15.0]])
    picture = detections_picture([image], [NOTHING_TRUE], [(box, np.array([0.5]), np.array([0]))], CLASSES)
    white = np.argwhere((picture == 255).all(axis=-1))
    lit = white[(np.abs(white - 200) < 150).all(axis=1)]  # the square, not the border of the figure
    # The lowest and rightmost lines: above the box stands the label.
    lines = places(picture, FOUND_COLOUR)
    assert abs(lines[:, 0].max() - lit[:, 0].max()) <= 3
    assert abs(lines[:, 1].max() - lit[:, 1].max()) <= 3


def test_predicted_boxes_are_drawn_through_and_true_ones_dashed() -> None:
    edge = np.array([[10.0, 10.0, 90.0, 90.0]])
    true = detections_picture([grey()], [(edge, np.array([0]))], [NOTHING_FOUND], CLASSES)
    found = detections_picture([grey()], [NOTHING_TRUE], [(edge, np.array([0.5]), np.array([0]))], CLASSES)

    def longest_run(picture: np.ndarray, colour: str) -> int:
        lit = places(picture, colour)
        column = np.bincount(lit[lit[:, 1] > 300][:, 1]).argmax()  # the right side
        rows = np.unique(lit[lit[:, 1] == column][:, 0])
        return int(max(len(run) for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)))

    assert longest_run(found, FOUND_COLOUR) > 200
    assert longest_run(true, TRUE_COLOUR) < 50


@pytest.mark.parametrize(("count", "shape"), [(1, (400, 400)), (3, (400, 1200)), (4, (800, 1200)), (12, (1200, 1200))])
def test_sheet_has_three_columns_and_at_most_nine_images(count: int, shape: tuple[int, int]) -> None:
    picture = detections_picture([grey()] * count, [TRUE] * count, [FOUND] * count, CLASSES)
    assert picture.shape[:2] == shape


def test_sheet_is_drawn_when_boxes_are_many_and_images_of_any_size() -> None:
    rng = np.random.default_rng(0)
    corners = rng.random((200, 2)) * 200
    many = (np.concatenate([corners, corners + 20], axis=1), rng.random(200), rng.integers(0, 3, 200))
    edge = (np.array([[0.0, 0.0, 900.0, 30.0]]), np.array([1]))
    picture = detections_picture([grey(8, 8), grey(30, 900)], [NOTHING_TRUE, edge], [NOTHING_FOUND, many], CLASSES)
    assert picture.shape == (400, 800, 3)


def test_sheet_raises_when_lists_do_not_fit() -> None:
    with pytest.raises(ValueError, match="as many"):
        detections_picture([grey()], [TRUE], [], CLASSES)
    with pytest.raises(ValueError, match="at least 1"):
        detections_picture([], [], [], CLASSES)


def test_precision_recall_has_a_line_per_class_when_there_are_few() -> None:
    curves = measured(synthetic(0, 30, 4, 20), 4).precision_recall()
    picture = precision_recall_picture(curves, ["a", "猫", "$c$", "without truth"])
    assert picture.dtype == np.uint8
    assert picture.shape == (600, 900, 3)
    colours = [len(places(picture, colour)) for colour in ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")]
    assert min(colours[:3]) > 50
    assert colours[3] == 0


def test_precision_recall_is_the_mean_alone_when_classes_are_many() -> None:
    curves = measured(synthetic(1, 60, 30, 20), 30).precision_recall()
    picture = precision_recall_picture(curves, [f"c{i}" for i in range(30)])
    saturation = picture.max(axis=-1).astype(int) - picture.min(axis=-1)
    assert saturation.max() == 0
    assert len(places(picture, "#000000")) > 500


def test_precision_recall_is_drawn_when_there_is_no_truth() -> None:
    images = synthetic(0, 4, 2, 5)[3:4]  # an image without objects
    assert precision_recall_picture(measured(images, 2).precision_recall(), ["a", "b"]).shape == (600, 900, 3)
    with pytest.raises(ValueError, match="2 curves for 1 classes"):
        precision_recall_picture(measured(images, 2).precision_recall(), ["a"])


def test_confusion_has_a_row_and_a_column_for_the_background() -> None:
    def drawn(row: int, column: int) -> np.ndarray:
        matrix = np.zeros((3, 3), np.int64)
        matrix[row, column] = 9
        return np.argwhere(detection_confusion_picture(matrix, ["a", "b"])[..., 0] < 30)[:, :2].mean(axis=0)

    missed, false, right = drawn(0, 2), drawn(2, 0), drawn(0, 0)
    assert missed[1] > right[1] + 20
    assert false[0] > right[0] + 20


@pytest.mark.parametrize("count", [1, 80])
def test_confusion_stays_small_when_classes_are_few_or_many(count: int) -> None:
    matrix = np.eye(count + 1, dtype=np.int64) * 3
    matrix[-1, -1] = 0
    picture = detection_confusion_picture(matrix, [f"{i} 类 $x" for i in range(count)])
    assert min(picture.shape[:2]) >= 300
    assert max(picture.shape[:2]) <= 1200
    assert detection_confusion_picture(matrix * 0, ["x"] * count).size


def test_confusion_raises_when_names_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\) for 3 classes"):
        detection_confusion_picture(np.eye(3, dtype=np.int64), ["a", "b", "c"])
    with pytest.raises(ValueError, match="for 0 classes"):
        detection_confusion_picture(np.zeros((1, 1), np.int64), [])
