from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.pipelines.label_picture import label_picture
from paddle_tk.pipelines.predict import PictureNames


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (256, 256), (300, 640), (900, 30)])
def test_label_picture_keeps_every_pixel_below_the_bar_when_sizes_differ(height: int, width: int) -> None:
    image = _image(height, width)
    picture = label_picture(image, "cat", 0, 0.98)
    factor = max(1, -(-256 // max(height, width)))
    bar = picture.shape[0] - height * factor
    assert picture.shape[1] == max(256, width * factor)
    assert 24 <= bar <= picture.shape[1] // 10
    left = (picture.shape[1] - width * factor) // 2
    shown = picture[bar:, left : left + width * factor]
    np.testing.assert_array_equal(shown[::factor, ::factor], image)
    np.testing.assert_array_equal(
        shown, cv2.resize(image, None, fx=factor, fy=factor, interpolation=0).reshape(shown.shape)
    )


def test_label_picture_writes_name_and_score_when_they_differ() -> None:
    image = _image(8, 8)
    bars = [label_picture(image, name, 3, score)[:24] for name, score in (("cat", 0.98), ("dog", 0.98), ("cat", 0.5))]
    assert all(bar.max() == 255 for bar in bars)
    assert len({bar.tobytes() for bar in bars}) == 3


def test_label_picture_keeps_the_score_when_the_name_is_too_long() -> None:
    image = _image(8, 8)
    long = [label_picture(image, "a very long name " * 9, 0, score)[:24] for score in (0.11, 0.99)]
    changed = np.flatnonzero((long[0] != long[1]).any(axis=(0, 2)))
    assert changed.min() > 128  # only the figures at the right end
    assert (long[0][:, -4:] == long[0][0, 0]).all()  # which are not cut off


def test_label_picture_names_the_class_by_number_when_no_font_has_its_letters() -> None:
    image = _image(8, 8)
    unknown = label_picture(image, "\U0010fffd", 7, 0.5)  # a private code point
    np.testing.assert_array_equal(unknown, label_picture(image, "class 7", 7, 0.5))


def test_picture_names_differ_when_files_differ_in_folder_case_or_kind_only() -> None:
    names = PictureNames()
    paths = ["a/x.png", "b/x.png", "c/X.PNG", "d/x.bmp", "e/x.jpg", "f/x.JPG", "g/x-2.png"]
    found = [names(Path(path)) for path in paths]
    assert found[:2] == ["x.png", "x-2.png"]
    assert found[4] == "x.jpg"
    assert len({name.lower() for name in found}) == len(paths)
