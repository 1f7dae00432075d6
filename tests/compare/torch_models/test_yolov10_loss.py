from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
import torch

from paddle_tk.compare.torch_models.yolov10 import assigner as twin_assigner
from paddle_tk.compare.torch_models.yolov10.loss import YOLOv10Loss
from paddle_tk.models.yolov10 import assigner
from paddle_tk.models.yolov10 import loss as paddle_loss
from tests.compare.torch_models.pairs import CLASSES, DETECTOR, images, make_pair

SIDE, WIDTH = 64, 96


def maps(seed: int = 0, batch: int = 3) -> list[np.ndarray]:
    """Twelve maps as both heads return them, for images of 64x96 px."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, channels, SIDE // s, WIDTH // s) for channels in (64, CLASSES) for s in (8, 16, 32)]
    return [rng.normal(0, 2, shape).astype(np.float32) for shape in (*shapes, *shapes)]


def targets(seed: int = 0, batch: int = 3, most: int = 6) -> np.ndarray:
    """Random boxes, some of them tiny; the last image has none."""
    rng = np.random.default_rng(seed)
    found = np.zeros((batch, most, 5), np.float32)
    found[:, :, 0] = -1
    for image in range(batch - 1):
        for row in range(most - image):
            sides = rng.uniform(2, SIDE / 2, 2)
            corner = rng.uniform(0, [WIDTH, SIDE] - sides)
            found[image, row] = [rng.integers(CLASSES), *corner, *(corner + sides)]
    return found


def both(raw: list[np.ndarray], rows: np.ndarray) -> tuple[Any, Any, list[Any], list[Any]]:
    ours = [paddle.to_tensor(x, stop_gradient=False) for x in raw]
    theirs = [torch.from_numpy(x).requires_grad_() for x in raw]
    one = paddle_loss.YOLOv10Loss()(*ours, paddle.to_tensor(rows))
    other = YOLOv10Loss()(*theirs, torch.from_numpy(rows))
    return one, other, ours, theirs


@pytest.mark.parametrize("seed", range(4))
def test_loss_its_parts_and_gradients_are_ours_when_targets_are_random(seed: int) -> None:
    one, other, ours, theirs = both(maps(seed), targets(seed))
    assert other[0].item() == pytest.approx(float(one[0]), rel=1e-4)
    assert set(other[1]) == set(one[1]) == set(YOLOv10Loss.parts)
    for name, value in one[1].items():
        assert float(other[1][name]) == pytest.approx(float(value), rel=1e-4), name
        assert float(value) > 0
    one[0].backward()
    other[0].backward()
    for mine, twin in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(twin.grad.numpy(), mine.grad.numpy(), rtol=1e-3, atol=1e-6)


def test_loss_is_ours_and_every_map_has_a_gradient_when_no_image_has_a_box() -> None:
    rows = np.zeros((3, 1, 5), np.float32)
    rows[:, :, 0] = -1
    one, other, _, theirs = both(maps(), rows)
    assert other[0].item() == pytest.approx(float(one[0]), rel=1e-4)
    assert float(other[1]["box"]) == float(other[1]["dfl"]) == 0
    other[0].backward()
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in theirs)


def test_loss_refuses_maps_of_one_head() -> None:
    with pytest.raises(ValueError, match="12 maps"):
        YOLOv10Loss()(*(torch.from_numpy(x) for x in maps()[:6]), torch.from_numpy(targets()))


@pytest.mark.parametrize("most", [1, 10])
def test_assignment_is_ours_when_objects_crowd(most: int) -> None:
    rng = np.random.default_rng(5)
    rows, raw = targets(5, batch=4, most=12), maps(5, batch=4)
    cells = assigner.Cells.of([paddle.to_tensor(x) for x in raw[:3]])
    twin_cells = twin_assigner.Cells.of([torch.from_numpy(x) for x in raw[:3]])
    count = cells.centres.shape[0]
    logits = rng.normal(size=(4, CLASSES, count)).astype(np.float32)
    half = rng.uniform(2, 20, (4, count, 2))
    boxes = np.concatenate([cells.centres.numpy() - half, cells.centres.numpy() + half], axis=2).astype(np.float32)
    allowed = assigner.candidates(paddle.to_tensor(rows), cells)
    twin_allowed = twin_assigner.candidates(torch.from_numpy(rows), twin_cells)
    np.testing.assert_array_equal(twin_allowed.numpy(), allowed.numpy())
    ours = assigner.assign(*map(paddle.to_tensor, (logits, boxes, rows)), allowed, most)
    theirs = twin_assigner.assign(*map(torch.from_numpy, (logits, boxes, rows)), twin_allowed, most)
    assert len(theirs.cell) > 10
    for name in ("image", "object", "cell"):
        np.testing.assert_array_equal(getattr(theirs, name).numpy(), getattr(ours, name).numpy(), err_msg=name)
    np.testing.assert_allclose(theirs.score.numpy(), ours.score.numpy(), rtol=1e-4)


def test_losses_agree_and_the_one_to_one_head_leaves_the_rest_alone_when_the_detector_trains() -> None:
    pair = make_pair(DETECTOR, size=SIDE)
    pair.network.train()
    pair.twin.train()
    batch, rows = np.concatenate([images(3, SIDE)] * 2, axis=3)[:, :, :, :WIDTH], targets()
    ours, _ = pair.network.make_loss()(*pair.network(paddle.to_tensor(batch)), paddle.to_tensor(rows))
    total, parts = pair.twin.make_loss()(*pair.twin(torch.from_numpy(batch)), torch.from_numpy(rows))
    assert total.item() == pytest.approx(float(ours), rel=1e-4)
    ours.backward()
    total.backward()
    for name, parameter in pair.twin.named_parameters():
        assert parameter.grad is not None, name
    for name in ("backbone.stem.conv.weight", "one_to_one.boxes.0.out.weight", "neck.bottom5.join.conv.weight"):
        one = dict(pair.network.named_parameters())[name].grad.numpy()
        other = dict(pair.twin.named_parameters())[name].grad.numpy()
        assert np.abs(other - one).max() <= 1e-3 * np.abs(one).max(), name
    pair.twin.zero_grad()
    raw = pair.twin(torch.from_numpy(batch))
    sum(x.sum() for x in raw[:6]).backward()
    touched = {name.split(".")[0] for name, p in pair.twin.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"one_to_one"}
    assert float(parts["one_to_one"]) > 0
