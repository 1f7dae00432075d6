from __future__ import annotations

import numpy as np
import pytest

from paddle_tk.pipelines.box_picture import box_picture, class_colour

BOX = np.array([[40.0, 60.0, 200.0, 220.0]])


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def places(picture: np.ndarray, class_id: int) -> np.ndarray:
    return np.argwhere((picture == class_colour(class_id)).all(axis=-1))


def test_box_lines_lie_inside_the_box_and_the_label_above_it() -> None:
    image = grey(300, 400)
    picture = box_picture(image, BOX, ["cat"], [3], [0.9])
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    assert (image == 128).all()  # a copy was drawn on
    lit = places(picture, 3)
    label, box = lit[lit[:, 0] < 60], lit[lit[:, 0] >= 60]
    assert box.min(axis=0).tolist() == [60, 40]
    assert box.max(axis=0).tolist() == [219, 199]
    assert label[:, 0].max() == 59
    assert (picture[80:200, 60:180] == 128).all()  # nothing is filled
    assert (picture[60:220, 40:42] == class_colour(3)).all()


def test_only_pixels_of_boxes_and_labels_change() -> None:
    picture = box_picture(grey(300, 400), BOX, ["cat"], [3], [0.9])
    changed = np.argwhere((picture != 128).any(axis=-1))
    assert changed.min(axis=0)[0] >= 60 - 20
    assert changed.max(axis=0).tolist() == [219, 199]


EDGES = {
    "whole image": [0, 0, 400, 300],
    "upper left": [-50, -50, 30, 20],
    "lower right": [380, 280, 500, 400],
    "right edge": [395, 0, 400, 300],
    "top edge": [0, 0, 400, 2],
    "one pixel": [100, 299, 101, 300],
}


@pytest.mark.parametrize("box", EDGES.values(), ids=EDGES)
def test_labels_stay_inside_the_picture_when_boxes_touch_its_edges(box: list[int]) -> None:
    # The letters are whole: as many pixels of ink as in the middle of the picture.
    inks = []
    for corners in (np.array([box], float), BOX):
        picture = box_picture(grey(300, 400), corners, ["a rather long class name"], [3], [0.9])
        inks.append(int(((picture == 0) | (picture == 255)).all(axis=-1).sum()))
    assert inks[0] == pytest.approx(inks[1], rel=0.1)
    assert inks[1] > 20


@pytest.mark.parametrize(("height", "width", "factor"), [(8, 8, 32), (100, 60, 3), (255, 10, 2), (256, 256, 1)])
def test_small_images_are_enlarged_by_a_whole_factor(height: int, width: int, factor: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = box_picture(image, np.zeros((0, 4)), [], [], [])
    assert picture.shape == (height * factor, width * factor, 3)
    np.testing.assert_array_equal(picture[::factor, ::factor], image)


def test_boxes_are_enlarged_with_the_image() -> None:
    picture = box_picture(grey(64, 64), np.array([[16.0, 32.0, 48.0, 64.0]]), ["x"], [1], [0.5])
    lit = places(picture, 1)
    box = lit[lit[:, 0] >= 128]
    assert box.min(axis=0).tolist() == [128, 64]
    assert box.max(axis=0).tolist() == [255, 191]


def test_lines_and_letters_grow_with_the_image() -> None:
    small, large = (box_picture(grey(480 * scale, 640 * scale), BOX * scale, ["cat"], [3], [0.9]) for scale in (1, 4))
    widths = [int((picture[s * 150] == class_colour(3)).all(axis=-1).sum()) for picture, s in ((small, 1), (large, 4))]
    assert widths == [4, 12]  # both sides of the box
    assert len(places(large, 3)) > 8 * len(places(small, 3))


def test_the_best_box_lies_on_top() -> None:
    twice = np.concatenate([BOX, BOX])
    for scores, best in (([0.4, 0.9], 1), ([0.9, 0.4], 0)):
        picture = box_picture(grey(300, 400), twice, ["a", "b"], [0, 1], scores)
        assert tuple(picture[140, 40]) == class_colour(best)


def test_labels_do_not_cover_each_other_when_boxes_are_equal() -> None:
    names, ids = ["cat", "dog", "car"], [0, 1, 2]
    picture = box_picture(grey(300, 400), np.repeat(BOX, 3, axis=0), names, ids, [0.9, 0.8, 0.7])
    assert all(len(places(picture, i)) > 300 for i in ids)


def test_label_keeps_the_score_when_the_name_is_too_long() -> None:
    pictures = [box_picture(grey(300, 400), BOX, ["a very long name " * 9], [3], [score]) for score in (0.11, 0.99)]
    changed = np.argwhere((pictures[0] != pictures[1]).any(axis=-1))
    assert len(changed)
    assert changed[:, 1].max() - changed[:, 1].min() < 30  # the figures only
    assert places(pictures[0], 3)[:, 1].max() <= 40 + 200


def test_label_names_the_class_by_number_when_no_font_has_its_letters() -> None:
    unknown = box_picture(grey(300, 400), BOX, ["\U0010fffd"], [7], [0.5])  # a private code point
    np.testing.assert_array_equal(unknown, box_picture(grey(300, 400), BOX, ["class 7"], [7], [0.5]))


def test_colours_are_stable_and_far_apart() -> None:
    colours = np.array([class_colour(i) for i in range(80)])
    assert colours.min() >= 0
    assert colours.max() <= 255
    apart = np.abs(colours[:, None] - colours).sum(axis=-1) + 999 * np.eye(80, dtype=int)
    assert apart.min() >= 10
    assert apart[:20, :20].min() >= 100
    assert class_colour(10_000_000) == class_colour(10_000_000)


def test_box_picture_takes_any_sequences_and_raises_when_they_do_not_fit() -> None:
    arrays = box_picture(grey(300, 400), BOX.astype(np.float32), ["a"], np.array([2]), np.array([0.5], np.float32))
    np.testing.assert_array_equal(arrays, box_picture(grey(300, 400), BOX, ["a"], [2], [0.5]))
    with pytest.raises(ValueError, match="as many"):
        box_picture(grey(300, 400), BOX, ["a"], [2], [])
