from __future__ import annotations

import numpy as np
import paddle

from paddle_tk.models.yolov10.assigner import pairwise_iou
from tests.models.yolov10.small import small_network

TRUTH = np.array([[[0, 8, 12, 40, 44], [1, 44, 30, 60, 62]], [[1, 20, 4, 50, 28], [-1, 0, 0, 0, 0]]], np.float32)


def _pictures() -> paddle.Tensor:
    pixels = np.full((2, 3, 64, 64), -1, np.float32)
    for image, rows in enumerate(TRUTH):
        for kind, x1, y1, x2, y2 in rows.astype(int):
            if kind >= 0:
                pixels[image, kind, y1:y2, x1:x2] = 1
    return paddle.to_tensor(pixels)


def test_two_images_are_learnt_by_heart() -> None:
    network = small_network()
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = 0.7  # the published 0.97 needs more steps than this test makes
    x, targets, loss = _pictures(), paddle.to_tensor(TRUTH), network.make_loss()
    optimizer = paddle.optimizer.AdamW(4e-3, parameters=network.parameters())
    losses = []
    for _ in range(70):
        total, _ = loss(*network(x), targets)
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(total))
    assert losses[-1] < 0.15 * losses[0]

    network.eval()
    boxes, scores = network(x)
    overlaps, scores = pairwise_iou(targets[:, :, 1:], boxes).numpy(), scores.numpy()
    for image, row in ((0, 0), (0, 1), (1, 0)):
        kind = int(TRUTH[image, row, 0])
        best = scores[image, :, kind].argmax()
        assert overlaps[image, row, best] > 0.5
        assert scores[image, best, kind] > 0.2


def test_two_trainings_are_bit_equal_when_seeds_are() -> None:
    weights = []
    for _ in range(2):
        network = small_network()
        loss, optimizer = network.make_loss(), paddle.optimizer.AdamW(1e-3, parameters=network.parameters())
        for _ in range(2):
            loss(*network(_pictures()), paddle.to_tensor(TRUTH))[0].backward()
            optimizer.step()
            optimizer.clear_grad()
        weights.append([parameter.numpy() for parameter in network.parameters()])
    assert all((a == b).all() for a, b in zip(*weights, strict=True))
