from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.training.pictures import RIGHT_COLOUR, WRONG_COLOUR, confusion_matrix_picture, predictions_picture


def count(picture: np.ndarray, colour: str) -> int:
    """Pixels that have exactly this colour ("#rrggbb")."""
    wanted = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
    return int((picture == wanted).all(axis=-1).sum())


def sheet(true: list[str], predicted: list[str], side: int = 8) -> np.ndarray:
    images = [np.full((side, side, 3), 90, np.uint8) for _ in true]
    return predictions_picture(images, true, predicted, [0.5] * len(true))


def test_confusion_picture_is_rgb_uint8_when_drawn() -> None:
    picture = confusion_matrix_picture(np.eye(3, dtype=np.int64), ["a", "b", "c"])
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert min(picture.shape[:2]) >= 300


def test_confusion_picture_darkens_the_cells_that_hold_the_counts_when_one_class_is_confused() -> None:
    right = confusion_matrix_picture(np.array([[9, 0], [0, 9]]), ["a", "b"]).astype(int)
    wrong = confusion_matrix_picture(np.array([[9, 0], [9, 0]]), ["a", "b"]).astype(int)
    assert right.shape == wrong.shape
    height, width = right.shape[:2]
    lower_left, lower_right = (
        (slice(height // 2, None), slice(0, width // 2)),
        (slice(height // 2, None), slice(width // 2, None)),
    )
    assert wrong[lower_left].mean() < right[lower_left].mean() - 20
    assert wrong[lower_right].mean() > right[lower_right].mean() + 20


def test_confusion_picture_stays_small_when_there_are_many_classes() -> None:
    picture = confusion_matrix_picture(np.eye(200, dtype=np.int64), [f"{n} 类 $x" for n in range(200)])
    assert max(picture.shape[:2]) <= 1200


def test_confusion_picture_is_drawn_when_nothing_was_counted() -> None:
    assert confusion_matrix_picture(np.zeros((2, 2), np.int64), ["a", "b"]).size


def test_confusion_picture_raises_when_names_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        confusion_matrix_picture(np.eye(2, dtype=np.int64), ["a", "b", "c"])


def test_predictions_are_green_when_right_and_red_when_wrong() -> None:
    right, wrong, both = sheet(["a", "b"], ["a", "b"]), sheet(["a", "b"], ["b", "a"]), sheet(["a", "b"], ["a", "a"])
    assert count(right, RIGHT_COLOUR) > 500
    assert count(right, WRONG_COLOUR) == 0
    assert count(wrong, WRONG_COLOUR) > 500
    assert count(wrong, RIGHT_COLOUR) == 0
    assert count(both, RIGHT_COLOUR) > 250
    assert count(both, WRONG_COLOUR) > 250


def test_predictions_are_enlarged_without_smoothing_when_images_are_tiny() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2] = 255
    picture = predictions_picture([image], ["a"], ["a"], [1.0])
    middle = picture[picture.shape[0] // 2 + 10 :, picture.shape[1] // 2]
    grey = (middle > 20) & (middle < 235) & (np.ptp(middle.astype(int), axis=1, keepdims=True) == 0)
    assert grey.sum() <= 0.1 * middle.size
    assert min(picture.shape[:2]) >= 100


def test_predictions_fill_several_rows_when_there_are_many() -> None:
    few, many = sheet(["a"] * 8, ["a"] * 8), sheet(["a"] * 20, ["a"] * 20)
    assert many.shape[1] == few.shape[1]
    assert many.shape[0] == 3 * few.shape[0]


def test_predictions_take_images_of_any_size_when_a_folder_mixes_them() -> None:
    images = [np.zeros((8, 8, 3), np.uint8), np.zeros((300, 200, 3), np.uint8)]
    assert predictions_picture(images, ["a", "猫"], ["a", "$狗$"], [0.1, 0.2]).size


def test_predictions_raise_when_lists_do_not_fit() -> None:
    with pytest.raises(ValueError, match="as many"):
        predictions_picture([np.zeros((8, 8, 3), np.uint8)], ["a"], ["a"], [])
    with pytest.raises(ValueError, match="at least 1"):
        predictions_picture([], [], [], [])
