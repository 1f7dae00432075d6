from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddle_tk.models.yolov10.head import BINS, Head, cell_centres, decode_boxes, join_levels


def test_cells_are_counted_level_by_level_and_row_by_row() -> None:
    centres, strides = cell_centres([(2, 4), (1, 2), (1, 1)])
    assert centres.dtype == strides.dtype == np.float32
    np.testing.assert_array_equal(centres[[0, 1, 4, 8, 9, 10]], [[4, 4], [12, 4], [4, 12], [8, 8], [24, 8], [16, 16]])
    np.testing.assert_array_equal(strides.ravel(), [8] * 8 + [16] * 2 + [32])


def test_levels_join_in_the_order_of_the_cells() -> None:
    maps = [paddle.arange(8, dtype="float32").reshape([1, 1, 2, 4]), paddle.full([1, 1, 1, 2], 9.0)]
    assert join_levels(maps).numpy().tolist() == [[[0, 1, 2, 3, 4, 5, 6, 7, 9, 9]]]


def test_boxes_decode_exactly_when_one_bin_holds_all_probability() -> None:
    distances = np.array([[1, 2, 3, 4], [0, 15, 7, 0]])
    logits = np.full((1, 2, 4, BINS), -1000.0, np.float32)
    np.put_along_axis(logits[0], distances[:, :, None], 0.0, axis=2)
    centres, strides = paddle.to_tensor([[20.0, 60.0], [40.0, 8.0]]), paddle.to_tensor([[8.0], [16.0]])
    boxes = decode_boxes(paddle.to_tensor(logits.reshape(1, 2, -1)), centres, strides)
    np.testing.assert_array_equal(boxes.numpy(), [[[12, 44, 44, 92], [40, -232, 152, 8]]])


def test_a_distance_is_the_mean_of_its_bins_when_two_share_the_probability() -> None:
    logits = np.full((1, 4, BINS), -1000.0, np.float32)
    logits[:, :, 4], logits[:, :, 5] = math.log(0.25), math.log(0.75)
    box = decode_boxes(paddle.to_tensor(logits.reshape(1, -1)), paddle.zeros([1, 2]), paddle.full([1, 1], 8.0))
    np.testing.assert_allclose(box.numpy(), [[-38, -38, 38, 38]], rtol=1e-6)


@pytest.mark.parametrize("num_classes", [1, 3, 80, 200])
def test_scores_start_at_the_prior_of_their_stride(num_classes: int) -> None:
    head = Head([16, 32, 64], num_classes, "silu")
    for branch, stride in zip(head.classes, (8, 16, 32), strict=True):
        scores = 1 / (1 + np.exp(-branch.out.bias.numpy()))
        assert scores.shape == (num_classes,)
        # 5 expected objects over all cells of the level and all classes, to the first order of the sigmoid.
        assert scores.sum() * (640 / stride) ** 2 == pytest.approx(5, rel=0.02)
    assert all((branch.out.bias.numpy() == 1).all() for branch in head.boxes)


def test_all_layers_but_the_last_are_alike_when_class_counts_differ() -> None:
    few, many = (Head([64, 128, 256], count, "silu").state_dict() for count in (2, 80))
    differing = {name for name in few if few[name].shape != many[name].shape}
    assert differing == {f"classes.{level}.out.{kind}" for level in range(3) for kind in ("weight", "bias")}
