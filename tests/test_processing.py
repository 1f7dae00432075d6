import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_tk import processing
from paddle_tk.types import Preprocessing

SIDES = st.integers(1, 60)
RESIZES = st.sampled_from(["stretch", "center_crop", "letterbox"])


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=60)
@given(height=SIDES, width=SIDES, out_height=SIDES, out_width=SIDES, mode=RESIZES)
def test_resize_image_gives_the_asked_size_when_any_size_goes_in(
    height: int, width: int, out_height: int, out_width: int, mode: str
) -> None:
    out = processing.resize_image(random_image(height, width), (out_height, out_width), mode)
    assert out.shape == (out_height, out_width, 3)
    assert out.dtype == np.uint8


@settings(deadline=None, max_examples=40)
@given(height=SIDES, width=SIDES, mode=RESIZES, level=st.integers(0, 255))
def test_resize_image_keeps_a_level_when_the_image_is_uniform(height: int, width: int, mode: str, level: int) -> None:
    image = np.full((height, width, 3), level, np.uint8)
    assert (processing.resize_image(image, (24, 40), mode, pad_value=level) == level).all()


def test_resize_image_cuts_the_middle_when_center_crop() -> None:
    image = random_image(100, 200)
    out = processing.resize_image(image, (50, 50), "center_crop", crop_ratio=0.5)
    np.testing.assert_array_equal(out, image[25:75, 75:125])


def test_resize_image_pads_above_and_below_when_letterboxing_a_wide_image() -> None:
    image = np.full((20, 40, 3), 200, np.uint8)
    out = processing.resize_image(image, (40, 40), "letterbox", pad_value=7)
    assert (out[:10] == 7).all()
    assert (out[10:30] == 200).all()
    assert (out[30:] == 7).all()


def test_resize_image_averages_when_shrinking() -> None:
    checkerboard = np.repeat((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    out = processing.resize_image(checkerboard, (32, 32))
    assert set(np.unique(out)) <= {127, 128}


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_resize_image_raises_when_the_image_has_another_type_or_shape(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a uint8 image of shape \(H, W, 3\), got"):
        processing.resize_image(image, (2, 2))


def test_resize_image_raises_when_the_mode_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown resize mode 'squash'"):
        processing.resize_image(random_image(4, 4), (2, 2), "squash")


@settings(deadline=None, max_examples=40)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 1000))
def test_normalize_equals_the_formula_when_computed_in_float64(height: int, width: int, seed: int) -> None:
    image, mean, std = random_image(height, width, seed), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = ((image / 255.0 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)
    out = processing.normalize(image, mean, std)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, expected.astype(np.float32))


def test_normalize_reads_the_right_pixels_when_the_image_is_a_view() -> None:
    view = random_image(20, 30)[3:15:2, 4:20]
    copy = np.ascontiguousarray(view)
    args = ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    np.testing.assert_array_equal(processing.normalize(view, *args), processing.normalize(copy, *args))


def test_preprocess_equals_resize_then_normalize_when_given_a_manifests_dict() -> None:
    p = Preprocessing((24, 32), resize="center_crop", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), crop_ratio=0.8)
    image = random_image(90, 70)
    resized = processing.resize_image(image, p.size, "center_crop", 0.8)
    expected = processing.normalize(resized, p.mean, p.std)
    np.testing.assert_array_equal(processing.preprocess(image, p.to_dict()), expected)


def test_preprocess_is_the_plain_cv2_result_when_stretching_up() -> None:
    image = random_image(8, 8)
    p = Preprocessing((16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    resized = cv2.resize(image, (16, 16), interpolation=cv2.INTER_LINEAR)
    expected = (resized / 127.5 - 1).transpose(2, 0, 1)
    np.testing.assert_allclose(processing.preprocess(image, p.to_dict()), expected, atol=1e-6)


def test_softmax_sums_to_one_when_logits_are_huge() -> None:
    out = processing.softmax(np.array([[1000.0, 999.0], [-1000.0, 1000.0]], np.float32))
    np.testing.assert_allclose(out.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(out[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-6)
    assert out.dtype == np.float32


def test_top_k_orders_by_value_then_index_when_values_tie() -> None:
    indices, values = processing.top_k(np.array([[0.2, 0.5, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]]), 3)
    np.testing.assert_array_equal(indices, [[1, 0, 2], [0, 1, 2]])
    np.testing.assert_array_equal(values, [[0.5, 0.2, 0.2], [0.25] * 3])


def test_top_k_gives_all_classes_when_k_is_larger() -> None:
    indices, values = processing.top_k(np.array([0.1, 0.9]), 5)
    assert indices.tolist() == [1, 0]
    assert values.tolist() == [0.9, 0.1]


def test_top_k_raises_when_k_is_zero() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        processing.top_k(np.array([0.1, 0.9]), 0)
