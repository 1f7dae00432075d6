from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_tk.export.qdq.scales import activation_scale, quantize_weight, weight_scales
from paddle_tk.types import TensorRange

_value = st.floats(-1e4, 1e4, width=32)


def _range(low: float, high: float, threshold: float | None = None) -> TensorRange:
    return TensorRange(low, high, max(abs(low), abs(high)) if threshold is None else threshold, "abs_max", 1)


@given(_value, _value, st.sampled_from(["x86", "arm", "tensorrt"]))
def test_values_in_range_come_back_within_half_a_step(a: float, b: float, target: str) -> None:
    low, high = sorted((a, b))
    scale = activation_scale(_range(low, high), target)  # type: ignore[arg-type]
    limits = np.iinfo(scale.zero_point.dtype)
    values = np.linspace(low, high, 50)
    stored = np.clip(np.rint(values / scale.scale) + int(scale.zero_point), limits.min, limits.max)
    back = (stored - int(scale.zero_point)) * float(scale.scale)
    # The zero point is an integer, so one end may lie up to half a step outside.
    assert np.abs(back - values).max() <= 1.01 * float(scale.scale)


@pytest.mark.parametrize(("target", "dtype"), [("x86", np.uint8), ("arm", np.int8), ("tensorrt", np.int8)])
def test_integers_have_the_targets_type_and_zero_is_exact(target: str, dtype: type) -> None:
    scale = activation_scale(_range(-1.0, 3.0), target)  # type: ignore[arg-type]

    assert scale.zero_point.dtype == dtype
    if target == "tensorrt":
        assert int(scale.zero_point) == 0
        assert scale.scale == pytest.approx(3 / 127)
    else:
        assert scale.scale == pytest.approx(4 / 255)


def test_values_beyond_the_threshold_are_clipped_on_the_side_where_they_are() -> None:
    scale = activation_scale(_range(-0.5, 9.0, threshold=2.0), "x86")

    assert scale.scale == pytest.approx(2.5 / 255)


def test_positive_values_use_all_256_levels() -> None:
    scale = activation_scale(_range(0.0, 6.0), "x86")

    assert (scale.scale, int(scale.zero_point)) == (pytest.approx(6 / 255), 0)


def test_clip_limits_the_range_when_the_values_before_it_were_observed() -> None:
    assert activation_scale(_range(0.0, 9.0), "x86", highest=6.0).scale == pytest.approx(6 / 255)


@pytest.mark.parametrize("target", ["x86", "arm", "tensorrt"])
def test_tensor_of_zeros_gets_a_usable_scale(target: str) -> None:
    assert activation_scale(_range(0.0, 0.0, 0.0), target).scale == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "most"), [(8, 127), (7, 63)])
def test_each_channel_uses_its_own_scale(bits: int, most: int) -> None:
    weight = np.asarray([[1.0, -2.0], [0.0, 0.0], [0.5, 0.25]], np.float32)
    scales = weight_scales(weight, None, np.float32(1), axis=0, bits=bits)
    stored = quantize_weight(weight, scales, 0)

    assert scales == pytest.approx([2 / most, 1.0, 0.5 / most])
    assert np.abs(stored).max(axis=1).tolist() == [most, 0, most]


def test_huge_bias_widens_the_channels_scale_until_it_fits_int32() -> None:
    weight, bias = np.full((1, 4), 1e-6, np.float32), np.asarray([1e6], np.float32)
    scales = weight_scales(weight, bias, np.float32(0.01), axis=0, bits=8)

    assert abs(float(bias[0])) / (0.01 * float(scales[0])) < 2**31
