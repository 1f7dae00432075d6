"""Ranges of values -> the scales and zero points of 8-bit integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddle_tk.export.qdq.plan import Target
from paddle_tk.runtime.base import Array
from paddle_tk.types import TensorRange

_LARGEST_BIAS = float(2**30)  # half the INT32 range: the other half is for the sum it is added to


@dataclass(frozen=True)
class Scale:
    """How an activation tensor is stored: value = (integer - zero_point) * scale."""

    scale: np.float32
    zero_point: Array  # a 0-d array: uint8 or int8


def activation_scale(found: TensorRange, target: Target, highest: float = np.inf) -> Scale:
    """Chooses the scale of an activation tensor.

    Args:
        found: Its range over the calibration images; values beyond the threshold are clipped.
        target: "x86": uint8; "arm": int8, both from the lowest to the highest value; "tensorrt": int8 around 0.
        highest: What a Clip lets through at most.

    Returns:
        A scale above 0, and a zero point; 0 is represented exactly.
    """
    top = min(found.threshold, highest)
    if target == "tensorrt":
        return Scale(_positive(top / 127.0), np.asarray(0, np.int8))
    low, high = min(0.0, max(-top, found.low)), max(0.0, min(top, found.high, highest))
    scale = _positive((high - low) / 255.0)
    zero = int(np.clip(round(-low / float(scale)), 0, 255))
    return Scale(scale, np.asarray(zero, np.uint8) if target == "x86" else np.asarray(zero - 128, np.int8))


def number_scale(number: float, target: Target) -> tuple[Scale, Array]:
    """Returns the scale of a positive number that is added to a tensor, and the integer that stands for it exactly."""
    if target == "x86":
        return Scale(_positive(number / 255.0), np.asarray(0, np.uint8)), np.asarray(255, np.uint8)
    return Scale(_positive(number / 255.0), np.asarray(-128, np.int8)), np.asarray(127, np.int8)


def weight_scales(weight: Array, bias: Array | None, input_scale: np.float32, *, axis: int, bits: int) -> Array:
    """Chooses one scale for each output channel of a weight.

    Args:
        weight: float32, any shape.
        bias: (C,) or None; a channel whose bias is huge beside its weights gets a larger scale, so that the bias fits
            into INT32.
        input_scale: Of the activations that are multiplied with the weight.
        axis: Of the output channels.
        bits: 8, or 7 where a processor's 16-bit sums would overflow.

    Returns:
        float32 (C,), above 0.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    scales = np.abs(rows).max(axis=1).astype(np.float64) / (2 ** (bits - 1) - 1)
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (float(input_scale) * _LARGEST_BIAS))
    return np.asarray([_positive(s) for s in scales], np.float32)


def quantize_weight(weight: Array, scales: Array, axis: int) -> Array:
    """Rounds a weight to int8, one scale (C,) for each channel along ``axis``."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    rounded = np.rint(weight.astype(np.float64) / scales.astype(np.float64).reshape(shape))
    return np.asarray(np.clip(rounded, -127, 127), np.int8)


def _positive(scale: float) -> np.float32:
    """Returns the scale, 1 for a tensor that is nothing but zeros."""
    as_stored = np.float32(scale)
    return as_stored if as_stored > np.finfo(np.float32).tiny else np.float32(1.0)
