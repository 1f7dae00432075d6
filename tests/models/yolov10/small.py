"""A network narrow enough for tests, with every kind of block, and what makes its evaluation mode worth looking at."""

from __future__ import annotations

import numpy as np
import paddle

from paddle_tk.models.yolov10.network import Size, YOLOv10


def small_network(num_classes: int = 2, act: str = "silu") -> YOLOv10:
    """Half a million parameters."""
    paddle.seed(0)
    return YOLOv10(Size(0.1, 0.125, 256, frozenset({"bottom5"}), large_kernel=True), num_classes, act)


def settle_norms(network: paddle.nn.Layer, seed: int = 0) -> None:
    """Gives batch norms statistics as of a trained network; fresh ones let hardly anything through."""
    random = np.random.default_rng(seed)
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            shape = layer._mean.shape
            layer._mean.set_value(random.normal(0, 0.05, shape).astype(np.float32))
            layer._variance.set_value(random.uniform(0.05, 0.2, shape).astype(np.float32))
            layer.weight.set_value(random.uniform(0.7, 1.3, shape).astype(np.float32))
            layer.bias.set_value(random.normal(0, 0.2, shape).astype(np.float32))


def images(batch: int = 1, height: int = 64, width: int = 64, seed: int = 0) -> paddle.Tensor:
    """Normalised noise."""
    noise = np.random.default_rng(seed).normal(size=(batch, 3, height, width))
    return paddle.to_tensor(noise.astype(np.float32))
