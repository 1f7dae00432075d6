"""PicoDets for tests: small, seeded, and stirred so that no part of them is close to constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from paddle_tk.models.picodet import build_picodet


def picodet(size: str = "xs", classes: int = 3, side: tuple[int, int] = (64, 64), **settings: Any) -> Any:
    paddle.seed(0)
    return build_picodet(size, num_classes=classes, image_size=side, **settings)


def stir(network: Any) -> None:
    rng = np.random.default_rng(0)
    for name, value in network.state_dict().items():
        if "bias" in name or "_mean" in name:
            value.set_value(value + paddle.to_tensor(rng.normal(0, 0.2, value.shape).astype(np.float32)))
        elif value.ndim == 4:
            scale = float(1.5 / np.sqrt(np.prod(value.shape[1:])))
            value.set_value(paddle.to_tensor(rng.normal(0, scale, value.shape).astype(np.float32)))


def random_images(*shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))
