from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk import processing
from paddle_tk.data.box_transforms import BoxEvalTransform, BoxTrainTransform, adjust_hsv
from paddle_tk.data.boxes import Boxes
from paddle_tk.errors import BadInput
from paddle_tk.types import Preprocessing
from tests.data.painted import PaintedImages, check_pixels

STILL: dict[str, Any] = {"flip": 0.0, "scale_jitter": None, "hsv": (0, 0, 0)}
EVERYTHING: dict[str, Any] = {
    "flip": 0.5, "vertical_flip": 0.5, "scale_jitter": (0.4, 2.0), "crop": 0.5, "hsv": (0.1, 0.7, 0.4),
    "mosaic": 0.5, "mixup": 0.5,
}  # fmt: skip
SIZES = [(90, 120), (64, 64), (150, 71), (40, 200), (33, 47)]


def plain(size: tuple[int, int], resize: str = "letterbox") -> Preprocessing:
    """Preprocessing whose normalisation ``pixels`` undoes."""
    return Preprocessing(size, resize=resize, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # type: ignore[arg-type]


def pixels(out: np.ndarray) -> np.ndarray:
    return np.rint(out).astype(np.uint8).transpose(1, 2, 0)


def check_targets(targets: np.ndarray, size: tuple[int, int]) -> None:
    assert targets.dtype == np.float32
    assert targets.ndim == 2
    assert targets.shape[1] == 5
    assert (targets[:, 1:] >= 0).all()
    assert (targets[:, [1, 3]] <= size[1]).all()
    assert (targets[:, [2, 4]] <= size[0]).all()
    assert (targets[:, 1:3] < targets[:, 3:]).all()


@settings(deadline=None, max_examples=80)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    resize=st.sampled_from(["letterbox", "stretch"]),
    seed=st.integers(0, 2**32),
)
def test_box_eval_transform_equals_preprocess_and_resize_geometry_when_image_is_any(
    height: int, width: int, size: tuple[int, int], resize: str, seed: int
) -> None:
    p = Preprocessing(size, resize=resize)  # type: ignore[arg-type]
    split = PaintedImages([(height, width)], seed)
    image, boxes = split.image(0), split.boxes(0)
    out, targets = BoxEvalTransform(p)(image, boxes)
    np.testing.assert_array_equal(out, processing.preprocess(image, p.to_dict()))
    scale_x, scale_y, left, top = processing.resize_geometry((height, width), size, resize)
    expected = boxes.xyxy[1:] * np.array([scale_x, scale_y] * 2) + np.array([left, top] * 2)
    np.testing.assert_allclose(targets[:, 1:], expected, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(targets[:, 0], boxes.class_ids[1:])
    check_targets(targets, size)
    unchanged, same = BoxTrainTransform(p, **STILL, min_side=0, min_visible=0)(split, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(unchanged, out)
    np.testing.assert_array_equal(same, targets)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_box_eval_transform_keeps_boxes_on_their_pixels_when_resized(resize: str) -> None:
    split = PaintedImages(SIZES, seed=1)
    for i in range(len(split)):
        out, targets = BoxEvalTransform(plain((96, 128), resize))(split.image(i), split.boxes(i))
        assert len(targets) == len(split.boxes(i)) - 1
        check_pixels(pixels(out), targets, slack=1.0)


@settings(deadline=None, max_examples=120)
@given(
    size=st.tuples(st.integers(1, 160), st.integers(1, 160)),
    resize=st.sampled_from(["letterbox", "stretch"]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "flip": st.floats(0, 1),
            "vertical_flip": st.floats(0, 1),
            "scale_jitter": st.none() | st.tuples(st.floats(0.05, 1), st.floats(1, 4)),
            "crop": st.floats(0, 1),
            "hsv": st.tuples(st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1)),
            "mosaic": st.floats(0, 1),
            "mixup": st.floats(0, 1),
            "min_side": st.floats(0, 9),
            "min_visible": st.floats(0, 1),
        },
    ),
    seed=st.integers(0, 2**32),
)
def test_box_train_transform_is_pure_and_in_range_when_options_are_any(
    size: tuple[int, int], resize: str, options: dict[str, Any], seed: int
) -> None:
    split = PaintedImages([(1, 1), (30, 50), (70, 20)], seed)
    before = [picture.copy() for picture in split.pictures]
    transform = BoxTrainTransform(plain(size, resize), **options)
    for index in range(len(split)):
        out, targets = transform(split, index, np.random.default_rng(seed))
        assert out.shape == (3, *size)
        assert out.dtype == np.float32
        assert out.flags.c_contiguous
        assert out.min() >= 0
        assert out.max() <= 255.001
        check_targets(targets, size)
        assert (targets[:, 3:] - targets[:, 1:3] >= options.get("min_side", 2.0) - 1e-4).all()
        again, same = transform(split, index, np.random.default_rng(seed))
        np.testing.assert_array_equal(out, again)
        np.testing.assert_array_equal(targets, same)
    for picture, old in zip(split.pictures, before, strict=True):
        np.testing.assert_array_equal(picture, old)


@pytest.mark.parametrize(
    ("options", "slack"),
    [
        ({"flip": 1.0}, 1.0),
        ({"vertical_flip": 1.0}, 1.0),
        ({"flip": 1.0, "vertical_flip": 1.0}, 1.0),
        ({"mosaic": 1.0}, 1.0),
        ({"scale_jitter": (0.4, 2.5)}, 2.0),  # enlarging up to 7 times blurs the edges
        ({"crop": 1.0}, 2.0),
        ({"mosaic": 1.0, "flip": 0.5, "vertical_flip": 0.5, "scale_jitter": (0.5, 1.8), "crop": 0.5}, 2.0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_box_train_transform_keeps_boxes_on_their_pixels_when_augmented(
    options: dict[str, Any], slack: float, resize: str
) -> None:
    split = PaintedImages(SIZES, seed=2)
    # Nothing is dropped, so that every colour that can be seen has its box.
    transform = BoxTrainTransform(plain((128, 112), resize), **STILL | options, min_side=0, min_visible=0)
    seen = 0
    for seed in range(60):
        out, targets = transform(split, seed % len(split), np.random.default_rng(seed))
        check_pixels(pixels(out), targets, slack)
        seen += len(targets)
    assert seen > 100


def test_box_train_transform_mirrors_pixels_and_boxes_when_flips_are_certain() -> None:
    split = PaintedImages([(64, 96)], seed=5)
    p = plain((64, 96))
    whole, boxes = BoxEvalTransform(p)(split.image(0), split.boxes(0))
    assert len(boxes) > 2
    for options, mirror in (
        ({"flip": 1.0}, (slice(None), slice(None, None, -1))),
        ({"vertical_flip": 1.0}, (slice(None, None, -1), slice(None))),
        ({"flip": 1.0, "vertical_flip": 1.0}, (slice(None, None, -1), slice(None, None, -1))),
    ):
        out, targets = BoxTrainTransform(p, **STILL | options)(split, 0, np.random.default_rng(0))
        np.testing.assert_array_equal(pixels(out), pixels(whole)[mirror])
        for turned, row in zip(targets, boxes, strict=True):
            x1, y1, x2, y2 = row[1:]
            if "flip" in options:
                x1, x2 = 96 - x2, 96 - x1
            if "vertical_flip" in options:
                y1, y2 = 64 - y2, 64 - y1
            assert turned.tolist() == [row[0], x1, y1, x2, y2]


def test_box_train_transform_leaves_out_crowd_boxes_when_there_are_some() -> None:
    split = PaintedImages(SIZES, seed=3, most=0)
    transform = BoxTrainTransform(plain((64, 64)), **EVERYTHING)
    for seed in range(40):
        assert transform(split, 0, np.random.default_rng(seed))[1].shape == (0, 5)
    assert BoxEvalTransform(plain((64, 64)))(split.image(0), split.boxes(0))[1].shape == (0, 5)


def test_box_train_transform_keeps_difficult_boxes_when_there_are_some() -> None:
    split = PaintedImages([(64, 64)], crowd=False, most=0)
    split.annotations[0] = Boxes.make([[2, 3, 20, 30], [30, 30, 60, 50]], [4, 5], difficult=[True, False])
    _, targets = BoxTrainTransform(plain((64, 64)), **STILL)(split, 0, np.random.default_rng(0))
    assert targets.tolist() == [[4, 2, 3, 20, 30], [5, 30, 30, 60, 50]]


def test_box_train_transform_drops_boxes_when_too_little_is_left() -> None:
    split = PaintedImages([(64, 64)], crowd=False, most=0)
    split.annotations[0] = Boxes.make([[0, 0, 64, 64], [10, 10, 13.9, 50], [10, 10, 50, 14]], [0, 1, 2])

    def kept(**least: float) -> list[float]:
        transform = BoxTrainTransform(plain((32, 32)), **STILL, **least)
        return transform(split, 0, np.random.default_rng(0))[1][:, 0].tolist()  # type: ignore[no-any-return]

    assert kept() == [0, 2], "1.95 px is below 2 px, 2 px is not"
    assert kept(min_side=1.0) == [0, 1, 2]
    window = BoxTrainTransform(plain((32, 32)), **STILL | {"scale_jitter": (2.0, 2.0)}, min_visible=0.5)
    assert 0 not in window(split, 0, np.random.default_rng(0))[1][:, 0], "a window of a quarter shows a quarter"


def test_box_train_transform_pads_with_the_grey_of_evaluation_when_colours_change() -> None:
    split = PaintedImages([(40, 40)], seed=1, most=0)
    split.pictures[0][:] = (200, 60, 20)
    transform = BoxTrainTransform(plain((96, 96)), scale_jitter=(0.5, 0.5), hsv=(0.1, 0.9, 0.9))
    for seed in range(10):
        out = pixels(transform(split, 0, np.random.default_rng(seed))[0])
        grey = (out == 114).all(axis=2)
        assert grey.sum() == 96 * 96 - 48 * 48
        assert len(np.unique(out[~grey], axis=0)) == 1


def test_box_train_transform_shows_four_images_when_mosaic_is_certain() -> None:
    split = PaintedImages([(64, 64)] * 40, most=0)
    for level, picture in enumerate(split.pictures):
        picture[:] = level + 1
    transform = BoxTrainTransform(plain((96, 96)), **STILL | {"mosaic": 1.0})
    corners, partners = [], set()
    for seed in range(30):
        out = pixels(transform(split, 7, np.random.default_rng(seed))[0])[..., 0]
        levels = [int(out[y, x]) - 1 for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))]
        assert levels[0] == 7
        partners.update(levels[1:])
        column = int((out[0] == out[0, 0]).sum()) if levels[1] != levels[0] else 48
        corners.append(column)
    assert len(partners) > 25, "other images are drawn from the whole split"
    assert 24 <= min(corners) < 40 < 56 < max(corners) <= 72


def test_box_train_transform_scales_by_the_whole_range_when_jittered() -> None:
    split = PaintedImages([(50, 50)], most=0)
    split.pictures[0][:] = 255
    transform = BoxTrainTransform(plain((100, 100)), **STILL | {"scale_jitter": (0.2, 0.9)})
    shown = [
        (pixels(transform(split, 0, np.random.default_rng(seed))[0])[..., 0] == 255).any(axis=0).sum()
        for seed in range(80)
    ]
    assert 20 <= min(shown) < 27
    assert 83 < max(shown) <= 90


def test_box_train_transform_blends_two_images_and_keeps_both_boxes_when_mixup_is_certain() -> None:
    split = PaintedImages([(64, 64)] * 2, crowd=False, most=0)
    split.annotations = [Boxes.make([[1, 2, 30, 40]], [3]), Boxes.make([[8, 9, 50, 60]], [5])]
    split.pictures[1][:] = 200
    transform = BoxTrainTransform(plain((64, 64)), **STILL | {"mixup": 1.0})
    found = [transform(split, 0, np.random.default_rng(seed)) for seed in range(40)]
    mixed = [(out, targets) for out, targets in found if targets[1, 0] == 5]
    assert 8 < len(mixed) < 32
    for out, targets in mixed:
        assert targets.tolist() == [[3, 1, 2, 30, 40], [5, 8, 9, 50, 60]]
        assert 50 < out.min() == out.max() < 150
    assert len({float(out.min()) for out, _ in mixed}) > 5


def test_box_train_transform_stops_mixing_when_the_last_epochs_come() -> None:
    split = PaintedImages([(64, 64)] * 9, seed=3)
    mixing = BoxTrainTransform(plain((64, 64)), mosaic=1.0, mixup=1.0, mosaic_off_epochs=2, epochs=5)
    alone = BoxTrainTransform(plain((64, 64)))
    for epoch in range(5):
        same = np.array_equal(
            mixing(split, 1, np.random.default_rng(3), epoch=epoch)[0], alone(split, 1, np.random.default_rng(3))[0]
        )
        assert same == (epoch >= 3)


def test_box_train_transform_leaves_other_draws_when_one_step_is_switched_off() -> None:
    split = PaintedImages([(64, 64)], seed=3, most=5)
    only_jitter = BoxTrainTransform(plain((64, 64)), **STILL | {"scale_jitter": (0.5, 1.5)})
    with_colours = BoxTrainTransform(plain((64, 64)), flip=0.0, hsv=(0.1, 0.5, 0.5))
    for seed in range(20):
        first = only_jitter(split, 0, np.random.default_rng(seed))[1]
        np.testing.assert_array_equal(first, with_colours(split, 0, np.random.default_rng(seed))[1])


def test_box_train_transform_gives_the_asked_size_when_a_batch_has_its_own() -> None:
    split = PaintedImages(SIZES, seed=2)
    transform = BoxTrainTransform(plain((64, 96)), **STILL, multi_scale=(0.5, 1.5))
    assert transform.largest_size == (96, 128)
    for step in range(20):
        size = transform.size_at(1, 2, step)
        assert size == transform.size_at(1, 2, step)
        out, targets = transform(split, 2, np.random.default_rng(0), size=size)
        assert out.shape == (3, *size)
        check_pixels(pixels(out), targets, slack=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_jitter": (1.5, 0.5)}, r"data\.scale_jitter=\[1\.5, 0\.5\] is no range"),
        ({"multi_scale": (0, 1)}, r"data\.multi_scale=\[0, 1\] is no range"),
        ({"mosaic_off_epochs": 3}, r"data\.mosaic_off_epochs=3 counts from an end that is not known"),
    ],
)
def test_box_train_transform_raises_when_options_contradict(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        BoxTrainTransform(plain((64, 64)), **options)


def test_box_transforms_raise_when_the_resize_cuts() -> None:
    for transform in (BoxTrainTransform, BoxEvalTransform):
        with pytest.raises(BadInput, match=r"data\.resize=center_crop would cut objects off"):
            transform(plain((64, 64), "center_crop"))


def test_adjust_hsv_leaves_the_image_when_nothing_changes() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.abs(adjust_hsv(image, 0, 0, 0).astype(int) - image).max() <= 6  # hue and saturation have 8 bits


@settings(deadline=None, max_examples=60)
@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    hue=st.floats(-0.5, 0.5),
    saturation=st.floats(-1, 1),
    value=st.floats(-1, 1),
)
def test_adjust_hsv_agrees_with_the_definition_when_changes_are_any(
    colour: tuple[int, int, int], hue: float, saturation: float, value: float
) -> None:
    import colorsys

    h, s, v = colorsys.rgb_to_hsv(*(level / 255 for level in colour))
    expected = colorsys.hsv_to_rgb((h + hue) % 1, min(1, max(0, s * (1 + saturation))), min(1, max(0, v * (1 + value))))
    found = adjust_hsv(np.full((1, 1, 3), colour, np.uint8), hue, saturation, value)[0, 0] / 255
    # Hue and saturation of a dark colour are coarse: both are ratios of small whole numbers.
    np.testing.assert_allclose(found, expected, rtol=0, atol=6 / 255)


def test_adjust_hsv_keeps_grey_grey_when_only_the_value_changes() -> None:
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = adjust_hsv(cv2.merge([greys] * 3), 0.3, 0.9, 0.5)
    np.testing.assert_array_equal(out[..., 0], np.rint(greys * 1.5).clip(0, 255))
    assert (out == out[..., :1]).all()
