import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk import processing
from paddle_tk.data.transforms import (
    EvalTransform,
    TrainTransform,
    adjust_colors,
    random_area,
    rotate,
    shift,
)
from paddle_tk.errors import BadInput
from paddle_tk.types import Preprocessing

PLAIN = Preprocessing((16, 16), mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def random_image(height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def levels(out: np.ndarray) -> np.ndarray:
    """Undoes PLAIN's normalisation: uint8 HWC."""
    return np.rint(out).astype(np.uint8).transpose(1, 2, 0)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    resize=st.sampled_from(["stretch", "center_crop", "letterbox"]),
)
def test_eval_transform_equals_preprocess_when_image_and_resize_are_any(height: int, width: int, resize: str) -> None:
    p = Preprocessing((12, 20), resize=resize)  # type: ignore[arg-type]
    image = random_image(height, width)
    expected = processing.preprocess(image, p.to_dict())
    np.testing.assert_array_equal(EvalTransform(p)(image), expected)
    unchanged = TrainTransform(p)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(unchanged, expected)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    flip=st.floats(0, 1),
    padding=st.integers(0, 15),
    low=st.floats(0.01, 1),
    crop=st.booleans(),
    jitter=st.floats(0, 1),
    degrees=st.floats(0, 180),
    seed=st.integers(0, 2**32),
)
def test_train_transform_is_pure_and_in_range_when_options_are_any(
    height: int,
    width: int,
    flip: float,
    padding: int,
    low: float,
    crop: bool,
    jitter: float,
    degrees: float,
    seed: int,
) -> None:
    transform = TrainTransform(
        PLAIN,
        flip=flip,
        crop_padding=padding,
        random_resized_crop=[low, 1.0] if crop else None,
        color_jitter=jitter,
        rotation_degrees=degrees,
    )
    image = random_image(height, width)
    before = image.copy()
    first = transform(image, np.random.default_rng(seed))
    assert first.shape == (3, 16, 16)
    assert first.dtype == np.float32
    assert first.flags.c_contiguous
    assert first.min() >= 0
    assert first.max() <= 255.001
    np.testing.assert_array_equal(first, transform(image, np.random.default_rng(seed)))
    np.testing.assert_array_equal(image, before)


def test_train_transform_mirrors_when_flip_is_certain() -> None:
    image = random_image()
    out = levels(TrainTransform(PLAIN, flip=1.0)(image, np.random.default_rng(0)))
    np.testing.assert_array_equal(out, image[:, ::-1])


def test_train_transform_mirrors_half_of_the_images_when_flip_is_one_half() -> None:
    image, transform, rng = random_image(), TrainTransform(PLAIN, flip=0.5), np.random.default_rng(0)
    mirrored = sum(np.array_equal(levels(transform(image, rng)), image[:, ::-1]) for _ in range(400))
    assert 160 < mirrored < 240  # four standard deviations of 400 throws


def test_train_transform_reaches_every_shift_equally_when_padding_is_two() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[8, 8] = 255
    transform, rng = TrainTransform(PLAIN, crop_padding=2), np.random.default_rng(0)
    counts = np.zeros((5, 5), int)
    for _ in range(2500):
        y, x = np.argwhere(transform(image, rng)[0] > 0)[0]
        counts[y - 6, x - 6] += 1
    assert counts.sum() == 2500
    assert counts.min() > 50  # 100 expected for each, standard deviation 10
    assert counts.max() < 150


def test_train_transform_leaves_other_draws_when_one_step_is_switched_off() -> None:
    image = random_image()
    only_shift = TrainTransform(PLAIN, crop_padding=3)(image, np.random.default_rng(5))
    with_colors = TrainTransform(PLAIN, crop_padding=3, color_jitter=1e-9)(image, np.random.default_rng(5))
    np.testing.assert_array_equal(only_shift, with_colors)


def test_train_transform_raises_when_padding_reaches_the_image_size() -> None:
    TrainTransform(PLAIN, crop_padding=15)
    with pytest.raises(BadInput, match=r"data\.crop_padding=16 would move an image of \(16, 16\) pixels"):
        TrainTransform(PLAIN, crop_padding=16)


@settings(deadline=None, max_examples=100)
@given(down=st.integers(-8, 8), right=st.integers(-10, 10), seed=st.integers(0, 9))
def test_shift_equals_padding_and_cropping_when_moved_any_way(down: int, right: int, seed: int) -> None:
    image = random_image(9, 11, seed)
    padded = np.pad(image, ((10, 10), (10, 10), (0, 0)))
    expected = padded[10 - down : 19 - down, 10 - right : 21 - right]
    np.testing.assert_array_equal(shift(image, down, right), expected)


@settings(deadline=None, max_examples=200)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    bounds=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 2**32),
)
def test_random_area_lies_in_the_image_when_sizes_are_any(
    height: int, width: int, bounds: list[float], seed: int
) -> None:
    top, left, h, w = random_area(height, width, (bounds[0], bounds[1]), np.random.default_rng(seed))
    assert h >= 1
    assert w >= 1
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w


def test_random_area_covers_the_asked_shares_and_ratios_when_drawn_often() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([random_area(400, 400, (0.35, 0.6), rng) for _ in range(500)])
    share, ratio = drawn[:, 2] * drawn[:, 3] / 160_000, drawn[:, 3] / drawn[:, 2]
    assert 0.345 < share.min() < 0.37
    assert 0.58 < share.max() < 0.605
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.345


def test_random_area_falls_back_to_the_centre_when_nothing_fits() -> None:
    assert random_area(10, 1000, (1.0, 1.0), np.random.default_rng(0)) == (0, 493, 10, 13)


def test_rotate_turns_counter_clockwise_when_the_angle_is_90_degrees() -> None:
    image = random_image()
    np.testing.assert_array_equal(rotate(image, 90.0), np.rot90(image))


def test_adjust_colors_leaves_the_image_when_all_factors_are_one() -> None:
    np.testing.assert_array_equal(adjust_colors(random_image(), 1.0, 1.0, 1.0), random_image())


def test_adjust_colors_applies_the_three_steps_when_nothing_is_clipped() -> None:
    image = random_image() // 4 + 90
    luma = np.array([0.299, 0.587, 0.114])
    step = image * 1.1
    step = 0.8 * step + 0.2 * (step @ luma).mean()
    step = 1.3 * step - 0.3 * (step @ luma)[..., None]
    np.testing.assert_allclose(
        adjust_colors(image, 1.1, 0.8, 1.3), step, atol=0.6
    )  # rounding, and cv2 computes in fixed point


def test_adjust_colors_gives_grey_when_saturation_is_zero() -> None:
    out = adjust_colors(random_image(), 1.0, 1.0, 0.0)
    assert (out == out[..., :1]).all()
