from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddle_tk.models import picodet_loss
from paddle_tk.models.picodet_loss import PicoDetLoss, assign_aligned, assign_static, giou, grid, iou, varifocal

STRIDES = (8, 16, 32, 64)
NOTHING = [-1.0, 0.0, 0.0, 0.0, 0.0]
BOX = [1.0, 9.0, 20.0, 41.0, 55.0]


def _raw(batch: int = 2, classes: int = 3, side: int = 64, scale: float = 1.0, seed: int = 0) -> list[paddle.Tensor]:
    rng = np.random.default_rng(seed)
    maps = []
    for stride in STRIDES:
        cells = -(-side // stride)
        for channels, offset in ((classes, -2.0), (1, 0.0), (32, 0.0)):
            values = rng.normal(offset, scale, (batch, channels, cells, cells))
            maps.append(paddle.to_tensor(values.astype(np.float32), stop_gradient=False))
    return maps


def _loss(epoch: int = 0) -> PicoDetLoss:
    loss = PicoDetLoss(STRIDES)
    loss.start_epoch(epoch, 3)
    return loss


def _run(raw: list[paddle.Tensor], targets: Any, epoch: int) -> tuple[float, dict[str, float], list[np.ndarray]]:
    for x in raw:
        x.clear_gradient()
    total, parts = _loss(epoch)(*raw, paddle.to_tensor(np.asarray(targets, np.float32)))
    total.backward()
    return float(total), {name: float(value) for name, value in parts.items()}, [x.grad.numpy() for x in raw]


both = pytest.mark.parametrize("epoch", [0, 2], ids=["atss", "aligned"])


@both
def test_loss_is_finite_and_only_pushes_scores_down_when_no_image_has_a_box(epoch: int) -> None:
    total, parts, gradients = _run(_raw(), [[NOTHING], [NOTHING]], epoch)
    assert total == pytest.approx(parts["vfl"])
    assert total > 0
    assert parts["iou"] == parts["dfl"] == 0.0
    assert all((gradient >= 0).all() and gradient.any() for gradient in gradients[0::3])
    assert not any(gradient.any() for gradient in gradients[2::3])


@both
def test_rows_that_fill_up_change_nothing(epoch: int) -> None:
    raw = _raw()
    plain = _run(raw, [[BOX], [NOTHING]], epoch)
    filled = _run(raw, [[NOTHING, BOX, NOTHING], [NOTHING] * 3], epoch)
    assert filled[0] == pytest.approx(plain[0], rel=1e-6)
    for ours, theirs in zip(filled[2], plain[2], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


@both
def test_loss_does_not_grow_when_the_batch_is_repeated(epoch: int) -> None:
    once, twice = _raw(1), [paddle.concat([x.detach()] * 4) for x in _raw(1)]
    targets = [BOX, [0.0, 2.0, 3.0, 60.0, 33.0]]
    for x in twice:
        x.stop_gradient = False
    assert _run(twice, [targets] * 4, epoch)[0] == pytest.approx(_run(once, [targets], epoch)[0], rel=1e-4)


@both
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_loss_and_gradients_are_finite_when_logits_and_boxes_are_extreme(epoch: int, scale: float) -> None:
    odd = [
        [0.0, 10.0, 10.0, 10.0, 10.0],
        [1.0, 0.0, 0.0, 64.0, 64.0],
        [2.0, 30.1, 30.1, 30.2, 63.9],
        [0.0, -500.0, -500.0, 900.0, 900.0],
    ]
    total, parts, gradients = _run(_raw(scale=scale), [odd, odd[::-1]], epoch)
    assert np.isfinite([total, *parts.values()]).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@both
def test_loss_is_equal_to_the_bit_when_computed_again(epoch: int) -> None:
    raw, targets = _raw(side=96), [[BOX, [2.0, 30, 30, 90, 80]], [[0.0, 5, 5, 20, 20], NOTHING]]
    first, second = _run(raw, targets, epoch), _run(raw, targets, epoch)
    assert first[:2] == second[:2]
    assert all(np.array_equal(a, b) for a, b in zip(first[2], second[2], strict=True))


@both
def test_loss_is_float32_when_the_network_ran_in_bfloat16(epoch: int) -> None:
    raw = [x.detach().astype("bfloat16") for x in _raw()]
    targets = paddle.to_tensor([[BOX], [NOTHING]])
    total, parts = _loss(epoch)(*raw, targets)
    plain, _ = _loss(epoch)(*[x.astype("float32") for x in raw], targets)
    assert {value.dtype for value in (total, *parts.values())} == {paddle.float32}
    assert float(total) == float(plain)


def test_gradient_is_the_slope_of_the_loss() -> None:
    raw, targets = _raw(1, classes=2, side=32), [[[1.0, 3.0, 4.0, 27.0, 30.0]]]
    _, _, gradients = _run(raw, targets, 0)
    rng = np.random.default_rng(3)
    for index in (0, 1, 3):  # logits of classes and alignment: they change no target of ATSS
        direction = rng.normal(size=raw[index].shape).astype(np.float32)
        values = []
        for step in (1e-2, -1e-2):
            moved = list(raw)
            moved[index] = paddle.to_tensor(raw[index].numpy() + step * direction)
            values.append(float(_loss()(*moved, paddle.to_tensor(np.asarray(targets, np.float32)))[0]))
        slope = (values[0] - values[1]) / 2e-2
        assert slope == pytest.approx(float((gradients[index] * direction).sum()), rel=2e-2, abs=1e-4)


@both
def test_box_parts_fall_when_a_prediction_gets_better(epoch: int) -> None:
    truth = np.array([12.0, 13.0, 52.0, 50.0])
    found = [_run(_sure(truth + shift), [[[1.0, *truth]]], epoch)[1] for shift in (0.0, 3.0, 8.0)]
    for part in ("iou", "dfl"):
        values = [parts[part] for parts in found]
        assert values == sorted(values)
    assert found[0]["iou"] < 1e-3 < found[1]["iou"]


def _sure(box: np.ndarray) -> list[paddle.Tensor]:
    """A prediction of one box of class 1 by every cell inside it, with full scores, 64 px."""
    maps = []
    for stride in STRIDES:
        cells = 64 // stride
        centres = (np.arange(cells) + 0.5) * stride
        x, y = np.meshgrid(centres, centres)
        sides = np.clip(np.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride, 0, 6.9)
        bins = np.clip(1 - np.abs(sides[:, None] - np.arange(8)[None, :, None, None]), 1e-6, 1)
        logits = np.full((3, cells, cells), -12.0)
        logits[1][sides.min(axis=0) > 0] = 12.0
        align = np.where(sides.min(axis=0) > 0, 12.0, -12.0)[None]
        maps += [logits, align, np.log(bins).reshape(32, cells, cells)]
    return [paddle.to_tensor(x[None].astype(np.float32), stop_gradient=False) for x in maps]


@pytest.mark.parametrize(("epochs", "static"), [(1, 1), (2, 1), (3, 1), (10, 4), (300, 100)])
def test_assigner_depends_on_the_epoch_alone(epochs: int, static: int) -> None:
    loss = PicoDetLoss(STRIDES)
    order = np.random.default_rng(0).permutation(epochs)
    found = {}
    for epoch in order:
        loss.start_epoch(int(epoch), epochs)
        found[int(epoch)] = loss.static
    assert [found[epoch] for epoch in range(epochs)] == [epoch < static for epoch in range(epochs)]
    assert not loss.state_dict()


def _atss(boxes: np.ndarray, side: int) -> list[set[int]]:
    """ATSS as its paper's algorithm 1 reads, box by box; cells that two boxes want are left out."""
    points, strides, level = [], [], []
    for number, stride in enumerate(STRIDES):
        cells = -(-side // stride)
        for row in range(cells):
            for column in range(cells):
                points.append(((column + 0.5) * stride, (row + 0.5) * stride))
                strides.append(stride)
                level.append(number)
    wanted = []
    for box in boxes:
        centre = (box[:2] + box[2:]) / 2
        near: list[int] = []
        for number in range(len(STRIDES)):
            own = [i for i in range(len(points)) if level[i] == number]
            near += sorted(own, key=lambda i: float(((points[i] - centre) ** 2).sum()))[:9]
        overlaps = {i: _overlap(box, points[i], 2.5 * strides[i]) for i in near}
        threshold = np.mean(list(overlaps.values())) + np.std(list(overlaps.values()), ddof=1)
        inside = {i for i in near if (box[:2] < points[i]).all() and (points[i] < box[2:]).all()}
        wanted.append({i for i in inside if overlaps[i] >= threshold})
    return wanted


def _overlap(box: np.ndarray, point: tuple[float, float], half: float) -> float:
    anchor = np.array([point[0] - half, point[1] - half, point[0] + half, point[1] + half])
    sides = np.clip(np.minimum(box[2:], anchor[2:]) - np.maximum(box[:2], anchor[:2]), 0, None)
    shared = float(sides.prod())
    return shared / (float((box[2:] - box[:2]).prod()) + (2 * half) ** 2 - shared)


def test_static_assignment_is_that_of_the_paper() -> None:
    boxes = np.array([[10.3, 12.1, 60.9, 70.2], [70.4, 20.9, 92.3, 41.6], [3.2, 80.8, 93.9, 94.1]])
    targets = np.concatenate([np.array([[0.0], [1.0], [2.0]]), boxes], axis=1)
    raw = _raw(1, side=96)
    cells = grid(raw, STRIDES)
    predicted = paddle.to_tensor(np.tile(np.array([[0.0], [0.0], [96.0], [96.0]], np.float32), (1, 1, 193)).tolist())
    found = assign_static(paddle.to_tensor(targets[None].astype(np.float32)), predicted, cells)
    score, row = found.score.numpy()[0], found.box.numpy()[0]
    for index, expected in enumerate(_atss(boxes, 96)):
        assert expected
        assert set(np.flatnonzero((score > 0) & (row == index))) == expected
        share = (boxes[index, 2:] - boxes[index, :2]).prod() / 96**2  # overlap with a prediction of the whole image
        np.testing.assert_allclose(score[sorted(expected)], share, rtol=1e-5)


def test_aligned_assignment_takes_the_best_by_score_and_overlap() -> None:
    raw = _raw(1, side=64)
    cells = grid(raw, STRIDES)
    count = int(cells.strides.shape[0])
    truth = np.array([8.0, 8.0, 56.0, 56.0])
    rng = np.random.default_rng(1)
    predicted = truth[:, None] + rng.uniform(-6, 6, (4, count))
    scores = rng.uniform(0.05, 0.9, (3, count))
    found = assign_aligned(
        paddle.to_tensor([[[2.0, *truth], NOTHING]]), paddle.to_tensor(predicted[None].astype(np.float32)),
        paddle.to_tensor(np.log(scores[None]).astype(np.float32)), cells,
    )  # fmt: skip
    boxes = [[paddle.to_tensor(float(v)) for v in column] for column in (truth, *predicted.T)]
    overlaps = np.array([float(iou(boxes[0], box)) for box in boxes[1:]])
    points = cells.points.numpy()
    inside = ((points > 8) & (points < 56)).all(axis=0)
    metric = scores[2] * overlaps**6 * inside
    best = np.argsort(-metric)[:13]
    assert set(np.flatnonzero(found.score.numpy()[0])) == set(best)
    expected = metric[best] / metric.max() * overlaps[best].max()
    np.testing.assert_allclose(found.score.numpy()[0][best], expected, rtol=1e-4)


def test_contested_cell_goes_to_the_box_it_overlaps_more() -> None:
    raw = _raw(1, side=64)
    cells = grid(raw, STRIDES)
    targets = paddle.to_tensor([[[0.0, 4.0, 4.0, 60.0, 60.0], [1.0, 4.5, 4.5, 44.0, 44.0]]])
    predicted = paddle.tile(paddle.to_tensor([[[5.0], [5.0], [43.0], [43.0]]]), [1, 1, 85])
    found = assign_aligned(targets, predicted, paddle.full([1, 2, 85], -1.0), cells)
    held = found.box.numpy()[0][found.score.numpy()[0] > 0]
    x, y = cells.points.numpy()
    shared = (x > 4.5) & (x < 44) & (y > 4.5) & (y < 44) & (found.score.numpy()[0] > 0)
    assert set(held) == {0, 1}
    assert (found.box.numpy()[0][shared] == 1).all()


def test_target_score_is_the_best_overlap_when_products_are_tiny() -> None:
    raw = _raw(1, side=64)
    cells = grid(raw, STRIDES)
    predicted = paddle.tile(paddle.to_tensor([[[30.0], [30.0], [33.0], [33.0]]]), [1, 1, 85])
    found = assign_aligned(
        paddle.to_tensor([[[0.0, 4.0, 4.0, 60.0, 60.0]]]), predicted, paddle.full([1, 1, 85], -9.0), cells
    )
    assert float(found.score.max()) == pytest.approx(9 / 56**2, rel=1e-3)


def test_varifocal_is_the_papers_formula() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.01, 0.99, (2, 3, 5))
    labels, wanted = rng.integers(0, 3, (2, 5)), rng.uniform(0.1, 1, (2, 5)) * (rng.uniform(size=(2, 5)) > 0.5)
    expected = 0.0
    for image, label, cell in np.ndindex(2, 3, 5):
        p, q = scores[image, label, cell], wanted[image, cell] * (labels[image, cell] == label)
        expected -= q * (q * np.log(p) + (1 - q) * np.log(1 - p)) if q > 0 else 0.75 * p**2 * np.log(1 - p)
    found = varifocal(
        paddle.to_tensor(np.log(scores).astype(np.float32)), paddle.to_tensor(labels),
        paddle.to_tensor(wanted.astype(np.float32)),
    )  # fmt: skip
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_distribution_focal_is_cross_entropy_with_the_two_nearest_bins() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 4, 8))
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    sides = np.array([[0.0, 2.25, 6.4, 40.0]])
    bins = [(0, 1), (2, 3), (6, 7), (6, 7)]
    shares = [(1.0, 0.0), (0.75, 0.25), (0.6, 0.4), (0.1, 0.9)]
    expected = [-(np.array(shares[side]) * logs[0, side, bins[side]]).sum() for side in range(4)]
    found = picodet_loss.distribution_focal(
        paddle.to_tensor(logits.astype(np.float32)), paddle.to_tensor(sides.astype(np.float32))
    )
    np.testing.assert_allclose(found.numpy()[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("second", "overlap", "generalised"),
    [
        ([0.0, 0.0, 2.0, 2.0], 1.0, 1.0),
        ([1.0, 0.0, 3.0, 2.0], 1 / 3, 1 / 3),
        ([4.0, 0.0, 6.0, 2.0], 0.0, -1 / 3),
        ([1.0, 1.0, 1.0, 1.0], 0.0, 0.0),
    ],
)
def test_overlaps_of_boxes(second: list[float], overlap: float, generalised: float) -> None:
    boxes = [[paddle.to_tensor([v]) for v in box] for box in ([0.0, 0.0, 2.0, 2.0], second)]
    assert float(iou(*boxes)) == pytest.approx(overlap, abs=1e-6)
    assert float(giou(*boxes)) == pytest.approx(generalised, abs=1e-6)
