from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from paddle.nn import functional

from paddle_tk.models.yolov10.assigner import Cells, assign, candidates
from paddle_tk.models.yolov10.head import decode_boxes, join_levels
from paddle_tk.models.yolov10.loss import YOLOv10Loss, ciou, distribution_loss

CLASSES = 3
TARGETS = [
    [[0, 4, 6, 40, 50], [2, 30, 20, 60, 60], [1, 33, 33, 35, 35]],
    [[1, 10, 10, 50, 30], [-1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]],
]
EMPTY = [[[-1, 0, 0, 0, 0]], [[-1, 0, 0, 0, 0]]]


def _raw(batch: int = 2, scale: float = 1.0, seed: int = 0) -> list[paddle.Tensor]:
    random = np.random.default_rng(seed)
    maps = []
    for channels in (64, CLASSES) * 2:
        for side in (8, 4, 2):
            values = (scale * random.normal(size=(batch, channels, side, side))).astype(np.float32)
            maps.append(paddle.to_tensor(values, stop_gradient=False))
    return maps


def _targets(rows: list[list[list[float]]]) -> paddle.Tensor:
    return paddle.to_tensor(np.array(rows, np.float32))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([0.0, 0, 10, 10], 1.0),
        ([20.0, 0, 30, 10], -400 / 1000),
        ([5.0, 0, 15, 10], 1 / 3 - 25 / 325),
        ([0.0, 0, 10, 20], 0.446752),  # 1/2 - 25/500 - v^2 / (1/2 + v), v = 4 / pi^2 (atan 1 - atan 1/2)^2 = 0.041956
    ],
)
def test_ciou_equals_hand_computed_values(second: list[float], expected: float) -> None:
    value = float(ciou(paddle.to_tensor([[0.0, 0, 10, 10]]), paddle.to_tensor([second])))
    assert value == pytest.approx(expected, abs=2e-6)


def test_ciou_has_finite_gradients_when_boxes_have_no_area() -> None:
    boxes = paddle.to_tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [0, 0, 0, 0]], stop_gradient=False)
    ciou(boxes, paddle.to_tensor([[5.0, 5, 5, 5], [0, 0, 9, 9], [3, 3, 3, 3]])).sum().backward()
    assert np.isfinite(boxes.grad.numpy()).all()


def test_the_distributions_loss_is_the_cross_entropy_of_both_neighbouring_bins() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 4, 16)).astype(np.float32)
    log_shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = distribution_loss(paddle.to_tensor(logits), paddle.to_tensor([[3.25, 0.0, 7.0, 40.0]])).numpy()[0]
    expected = [
        -(0.75 * log_shares[0, 0, 3] + 0.25 * log_shares[0, 0, 4]),
        -log_shares[0, 1, 0],
        -log_shares[0, 2, 7],
        -(0.01 * log_shares[0, 3, 14] + 0.99 * log_shares[0, 3, 15]),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def _one_head(maps: list[paddle.Tensor], targets: paddle.Tensor, most: int) -> tuple[float, float, float]:
    """The loss of one head with dense targets and Paddle's own cross-entropies."""
    cells = Cells.of(maps[:3])
    distances, classes = join_levels(maps[:3]).transpose([0, 2, 1]), join_levels(maps[3:])
    found = assign(
        classes, decode_boxes(distances, cells.centres, cells.strides), targets, candidates(targets, cells), most
    )
    dense = np.zeros(classes.shape, np.float32)
    box = distribution = 0.0
    for image, row, cell, score in zip(
        *(x.numpy() for x in (found.image, found.object, found.cell, found.score)), strict=True
    ):
        kind, *truth = targets.numpy()[image, row]
        dense[image, int(kind), cell] = score
        logits, centre, stride = distances[image, cell], cells.centres.numpy()[cell], float(cells.strides[cell])
        decoded = decode_boxes(logits.unsqueeze(0), cells.centres[cell], cells.strides[cell])
        box += score * (1 - float(ciou(decoded, paddle.to_tensor([truth]))))
        aims = np.clip([*(centre - truth[:2]), *(truth[2:] - centre)] / np.float32(stride), 0, 14.99)
        soft = np.zeros((4, 16), np.float32)
        for side, aim in enumerate(aims):
            soft[side, int(aim)], soft[side, int(aim) + 1] = 1 - aim % 1, aim % 1
        four = functional.cross_entropy(logits.reshape([4, 16]), paddle.to_tensor(soft), soft_label=True)
        distribution += score * float(four)
    entropy = functional.binary_cross_entropy_with_logits(classes, paddle.to_tensor(dense), reduction="sum")
    total = max(float(found.score.sum()), 0.25 * targets.shape[0])
    return 7.5 * box / total, 0.5 * float(entropy) / total, 1.5 * distribution / total


def test_the_loss_equals_a_plain_computation() -> None:
    raw, targets = _raw(), _targets(TARGETS)
    total, parts = YOLOv10Loss()(*raw, targets)
    one, many = _one_head(raw[:6], targets, 1), _one_head(raw[6:], targets, 10)
    for name, first, second in zip(("box", "cls", "dfl"), one, many, strict=True):
        assert float(parts[name]) == pytest.approx(first + second, rel=1e-4)
    assert float(parts["one_to_one"]) == pytest.approx(sum(one), rel=1e-4)
    assert float(total) == pytest.approx(sum(one) + sum(many), rel=1e-4)
    assert tuple(parts) == YOLOv10Loss.parts
    assert total.shape == []
    assert all(part.stop_gradient and part.shape == [] for part in parts.values())


@pytest.mark.parametrize("rows", [TARGETS, EMPTY, [TARGETS[0], EMPTY[0] * 3]], ids=["boxes", "none", "one without"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_every_map_has_finite_gradients(rows: list[list[list[float]]], scale: float) -> None:
    raw = _raw(scale=scale)
    total, parts = YOLOv10Loss()(*raw, _targets(rows))
    total.backward()
    assert math.isfinite(float(total))
    assert all(math.isfinite(float(part)) for part in parts.values())
    for value in raw:
        assert np.isfinite(value.grad.numpy()).all()


def test_only_classes_learn_when_no_image_has_a_box() -> None:
    raw = _raw()
    total, parts = YOLOv10Loss()(*raw, _targets(EMPTY))
    total.backward()
    assert float(parts["box"]) == float(parts["dfl"]) == 0
    assert not any(value.grad.numpy().any() for value in raw[:3] + raw[6:9])
    assert all((value.grad.numpy() > 0).all() for value in raw[3:6] + raw[9:])


def test_the_loss_stays_the_same_when_every_image_comes_twice() -> None:
    raw = _raw()
    once, _ = YOLOv10Loss()(*raw, _targets(TARGETS))
    twice, _ = YOLOv10Loss()(*(paddle.concat([x, x]) for x in raw), _targets(TARGETS * 2))
    assert float(twice) == pytest.approx(float(once), rel=1e-5)


def test_padding_changes_nothing() -> None:
    padded = [[*rows, [-1, 0, 0, 0, 0]] for rows in TARGETS]
    first, second = (YOLOv10Loss()(*_raw(), _targets(rows))[0] for rows in (TARGETS, padded))
    assert float(first) == float(second)


def test_calls_before_leave_no_trace() -> None:
    fresh, used = YOLOv10Loss(), YOLOv10Loss()
    used.start_epoch(3, 10)
    used(*_raw(seed=5), _targets(EMPTY))
    used(*_raw(seed=6), _targets(TARGETS))
    grads = []
    for loss in (fresh, used):
        raw = _raw()
        loss(*raw, _targets(TARGETS))[0].backward()
        grads.append([value.grad.numpy() for value in raw])
    assert all((a == b).all() for a, b in zip(*grads, strict=True))


def test_the_loss_is_float32_when_maps_are_not() -> None:
    low = [value.astype("bfloat16") for value in _raw()]
    total, parts = YOLOv10Loss()(*low, _targets(TARGETS))
    expected, _ = YOLOv10Loss()(*(value.astype("float32") for value in low), _targets(TARGETS))
    assert {total.dtype, *(part.dtype for part in parts.values())} == {paddle.float32}
    assert float(total) == float(expected)


def test_maps_of_one_head_are_refused() -> None:
    with pytest.raises(ValueError, match="12 maps of both heads, got 6"):
        YOLOv10Loss()(*_raw()[:6], _targets(TARGETS))
