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
        ([5, 20, 60, 27], 3 * 8 + 4),  # no row of centres between y 20 and 27 at any stride but 24 of stride 16
        ([62, 62, 64, 64], 63),
        ([0, 0, 1, 1], 0),
    ],
)
def test_a_box_without_a_centre_inside_gets_the_finest_cell_it_is_in(box: list[float], cell: int) -> None:
    allowed = candidates(_targets([[0, *box]]), CELLS).numpy()[0, 0]
    if box == [5, 20, 60, 27]:
        assert (np.flatnonzero(allowed) >= 64).all()  # covered on a coarser level, so nothing is added
        assert allowed.any()
    else:
        assert np.flatnonzero(allowed).tolist() == [cell]


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


def test_a_cell_goes_to_the_larger_overlap_when_two_objects_want_it() -> None:
    boxes = np.zeros((COUNT, 4))
    boxes[:] = [16, 16, 48, 48]
    found = _assign(_targets([[0, 8, 8, 56, 56], [1, 16, 16, 48, 46]]), boxes, 1)
    # All cells tie, so both want the first they may have; only the second object's is wanted once.
    assert len(set(found.cell.numpy().tolist())) == found.cell.shape[0]
    many = _assign(_targets([[0, 8, 8, 56, 56], [1, 16, 16, 48, 46]]), boxes, 10)
    assert len(set(many.cell.numpy().tolist())) == many.cell.shape[0]
    shared = candidates(_targets([[0, 16, 16, 48, 46]]), CELLS).numpy()[0, 0]
    owner = dict(zip(many.cell.numpy().tolist(), many.object.numpy().tolist(), strict=True))
    assert all(owner[cell] == 1 for cell in np.flatnonzero(shared)[:10])


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
