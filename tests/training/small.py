"""A tiny network and loaders for training tests: real Paddle, milliseconds an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from paddle_tk.data.balance import plan_balance
from paddle_tk.data.bundle import ArraySplit
from paddle_tk.data.epoch_order import EpochOrder
from paddle_tk.data.loader import EvalLoader, TrainLoader
from paddle_tk.data.shares import Share
from paddle_tk.data.transforms import EvalTransform, TrainTransform
from paddle_tk.training.ema import Ema
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.mixup import Mixup
from paddle_tk.training.optim import build_optimizer
from paddle_tk.training.precision import Precision
from paddle_tk.training.rng import seed_everything
from paddle_tk.training.schedule import learning_rate_factor
from paddle_tk.training.steps.classification import ClassificationStep
from paddle_tk.training.together import Together
from paddle_tk.types import Preprocessing

CLASSES = 3
PREPROCESSING = Preprocessing((8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def split(count: int = 40, seed: int = 0) -> ArraySplit:
    """Images whose mean brightness tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = (rng.integers(0, 60, (count, 8, 8, 3)) + labels[:, None, None, None] * 90).astype(np.uint8)
    return ArraySplit(images, labels.astype(np.int64), tuple(f"{i}.png" for i in range(count)))


def network(batch_norm: bool = True, dropout: float = 0.2) -> paddle.nn.Layer:
    """Convolution, optional norm, dropout, classifier."""
    layers: list[Any] = [paddle.nn.Conv2D(3, 8, 3, padding=1)]
    if batch_norm:
        layers.append(paddle.nn.BatchNorm2D(8))
    layers += [paddle.nn.ReLU(), paddle.nn.AdaptiveAvgPool2D(2), paddle.nn.Flatten(), paddle.nn.Dropout(dropout)]
    return paddle.nn.Sequential(*layers, paddle.nn.Linear(32, CLASSES))


def balanced_order(count: int = 40) -> EpochOrder:
    """Each class equally often, as many images in all."""
    order = plan_balance(split(count), tuple(map(str, range(CLASSES))), "balanced_sampler").order
    assert order is not None
    return order


def train_loader(count: int = 40, batch_size: int = 8, **settings: Any) -> TrainLoader:
    transform = TrainTransform(
        PREPROCESSING, flip=0.5, crop_padding=1, random_resized_crop=None, color_jitter=0.0, rotation_degrees=0.0
    )
    settings = {"seed": 0, "num_workers": 0, "prefetch_factor": 2, **settings}
    return TrainLoader(split(count), transform, batch_size=batch_size, **settings)


def eval_loader(count: int = 20, share: Share | None = None) -> EvalLoader:
    still, size = EvalTransform(PREPROCESSING), 8 if share is None else share.whole
    return EvalLoader(split(count, seed=1), still, batch_size=size, num_workers=0, prefetch_factor=2, share=share)


def model(
    *,
    optimizer: str = "sgd",
    ema: float = 0.0,
    mixup: float = 0.0,
    epochs: int = 3,
    updates_per_epoch: int = 5,
    clip: float | None = None,
    precision: Precision | None = None,
    together: Together | None = None,
    balanced: bool = False,
    **settings: Any,
) -> FitModel:
    """A prepared model, the same every time."""
    seed_everything(0)
    net = network(**settings)
    factor = learning_rate_factor("cosine", updates_per_epoch=updates_per_epoch, max_epochs=epochs, warmup_epochs=1)
    chosen = build_optimizer(optimizer, net, learning_rate=0.05, factor=factor, weight_decay=1e-3, clip_norm=clip)
    arithmetic = precision or Precision("fp32", "O1", "cpu")
    net, chosen = arithmetic.decorate(net, chosen)
    names = [str(i) for i in range(CLASSES)]
    parallel = together.parallel if together is not None else None
    mix = Mixup(mixup, CLASSES, 0, parallel) if mixup else None
    unequal: dict[str, Any] = {"class_weights": (0.5, 2.0, 1.0), "focal_gamma": 2.0} if balanced else {}
    task = ClassificationStep(names, mix=mix, parallel=parallel, balanced=balanced, **unequal)
    made = FitModel(net, task=task, precision=arithmetic, ema=Ema(net, ema) if ema else None, together=together)
    made.prepare(chosen, task.loss, task.metrics)
    return made
