from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddle_tk.models.yolov10.assigner import Cells, Positives, assign, candidates, pairwise_iou

# 64 px: 64 cells of stride 8, then 16 of stride 16, then 4 of stride 32.
MAPS = [paddle.zeros([1, 1, 64 // stride, 64 // stride]) for stride in (8, 16, 32)]
CELLS = Cells.of(MAPS)
COUNT = 84


def _targets(*images: list[list[float]]) -> paddle.Tensor:
    most = max(len(image) for image in images)
    rows = np.zeros((len(images), max(most, 1), 5), np.float32)
    rows[:, :, 0] = -1
    for index, image in enumerate(images):
        if image:
            rows[index, : len(image)] = image
    return paddle.to_tensor(rows)


def _assign(
    targets: paddle.Tensor, boxes: np.ndarray, most: int, logits: np.ndarray | None = None, classes: int = 3
) -> Positives:
    batch = targets.shape[0]
    scores = np.zeros((batch, classes, COUNT), np.float32) if logits is None else logits
    predicted = np.broadcast_to(boxes, (batch, COUNT, 4)).astype(np.float32)
    allowed = candidates(targets, CELLS)
    return assign(paddle.to_tensor(scores), paddle.to_tensor(predicted), targets, allowed, most)


def test_candidates_are_the_cells_inside_the_box() -> None:
    allowed = candidates(_targets([[0, 8, 16, 32, 32]]), CELLS).numpy()[0, 0]
    inside = {row * 8 + column for row in (2, 3) for column in (1, 2, 3)} | {64 + 1 * 4 + 1}  # (24, 24) at stride 16
    assert set(np.flatnonzero(allowed)) == inside


def test_padding_has_no_candidates() -> None:
    allowed = candidates(_targets([[0, 8, 8, 32, 32], [1, 0, 0, 64, 64]], []), CELLS).numpy()
    assert allowed[0].any(axis=1).all()
    assert not allowed[1].any()


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ([9, 17, 11, 19], 2 * 8 + 1),
        ([62, 62, 64, 64], 63),
        ([0, 0, 1, 1], 0),
        ([30, 5, 36, 60], 4 * 8 + 4),  # a bar between the columns of all strides
    ],
)
def test_a_box_gets_the_finest_cell_it_is_in_when_it_covers_no_centre(box: list[float], cell: int) -> None:
    assert np.flatnonzero(candidates(_targets([[0, *box]]), CELLS).numpy()).tolist() == [cell]


def test_no_cell_is_added_when_only_a_coarse_centre_is_covered() -> None:
    allowed = candidates(_targets([[0, 22, 22, 26, 26]]), CELLS).numpy()
    assert np.flatnonzero(allowed).tolist() == [64 + 4 + 1]  # (24, 24) at stride 16


def test_pairwise_iou_equals_hand_computed_values() -> None:
    first = paddle.to_tensor([[[0.0, 0, 10, 10], [5, 5, 5, 9]]])
    second = paddle.to_tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 7]]])
    np.testing.assert_allclose(pairwise_iou(first, second).numpy()[0], [[1, 1 / 3, 0, 0.1], [0, 0, 0, 0]], rtol=1e-6)


def test_scores_are_the_best_iou_in_proportion_to_the_metric() -> None:
    boxes = np.zeros((COUNT, 4))
    boxes[9], boxes[10], boxes[0] = [8, 8, 24, 24], [8, 8, 24, 16], [8, 8, 24, 24]  # cell 0 lies outside the object
    logits = np.full((1, 3, COUNT), -2.0, np.float32)
    logits[0, 1, 9], logits[0, 1, 10], logits[0, 2, 10] = 0.0, 2.0, 9.0
    found = _assign(_targets([[1, 8, 8, 24, 24]]), boxes, 2, logits)
    ratio = np.sqrt(0.8807971) * 0.5**6 / np.sqrt(0.5)
    assert found.cell.numpy().tolist() == [9, 10]
    assert found.image.numpy().tolist() == found.object.numpy().tolist() == [0, 0]
    np.testing.assert_allclose(found.score.numpy(), [1.0, ratio], rtol=1e-5)


def test_one_to_one_takes_the_best_of_the_one_to_many_cells() -> None:
    random = np.random.default_rng(0)
    boxes = np.concatenate([random.uniform(0, 30, (COUNT, 2)), random.uniform(34, 64, (COUNT, 2))], axis=1)
    logits = random.normal(size=(1, 3, COUNT)).astype(np.float32)
    targets = _targets([[2, 4, 6, 60, 58]])
    many, one = (_assign(targets, boxes, most, logits) for most in (10, 1))
    assert many.cell.shape == [10]
    assert one.cell.shape == [1]
    assert int(one.cell) == int(many.cell[int(many.score.argmax())])
    assert float(one.score) == pytest.approx(float(many.score.max()))


@pytest.mark.parametrize("most", [1, 10])
def test_a_cell_goes_to_the_larger_overlap_when_two_objects_want_it(most: int) -> None:
    boxes = np.tile([40.0, 40, 47, 47], (COUNT, 1))
    # Neither covers a centre, and both lie in cell (5, 5) of stride 8.
    found = _assign(_targets([[0, 40, 40, 43, 43], [1, 40, 40, 43.5, 43.5]]), boxes, most)
    assert found.cell.numpy().tolist() == [5 * 8 + 5]
    assert found.object.numpy().tolist() == [1]
    assert float(found.score) == pytest.approx(3.5**2 / 7**2)


def test_a_loser_keeps_its_other_cells() -> None:
    boxes = np.zeros((COUNT, 4))
    boxes[[9, 10]] = [8, 8, 16, 16]
    found = _assign(_targets([[0, 8, 8, 24, 16], [0, 8, 8, 16, 16]]), boxes, 2)
    assert dict(zip(found.cell.numpy().tolist(), found.object.numpy().tolist(), strict=True)) == {9: 1, 10: 0}


def test_every_object_gets_a_cell_when_no_box_overlaps_it() -> None:
    far_away = np.tile([200.0, 200, 210, 210], (COUNT, 1))
    found = _assign(_targets([[0, 8, 8, 24, 24], [1, 41, 41, 42, 42]], [[2, 0, 0, 64, 64]]), far_away, 1)
    assert found.image.numpy().tolist() == [0, 0, 1]
    assert found.object.numpy().tolist() == [0, 1, 0]
    assert found.score.numpy().tolist() == [0, 0, 0]


def test_nothing_is_positive_when_no_image_has_a_box() -> None:
    found = _assign(_targets([], []), np.tile([0.0, 0, 8, 8], (COUNT, 1)), 10)
    assert found.cell.shape == found.score.shape == [0]


def test_equal_inputs_give_equal_assignments() -> None:
    random = np.random.default_rng(1)
    boxes = np.concatenate([random.uniform(0, 30, (COUNT, 2)), random.uniform(34, 64, (COUNT, 2))], axis=1)
    targets = _targets([[0, 4, 4, 60, 60], [1, 4, 4, 60, 60], [0, 10, 10, 30, 30]], [[2, 1, 2, 3, 4]])
    first, second = (_assign(targets, boxes, 10) for _ in range(2))
    for name in ("image", "object", "cell", "score"):
        np.testing.assert_array_equal(getattr(first, name).numpy(), getattr(second, name).numpy())
