"""A network and its training, as the trainer would build them, made to run at small image sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddle_tk.hardware.allocations import Trace
from paddle_tk.hardware.events import with_update
from paddle_tk.hardware.probe_sizes import Size, probe_sizes
from paddle_tk.hardware.recorder import FORWARD, UPDATE, Marked, record
from paddle_tk.models.adapters import SpreadMean, fit_to_size, take_any_size
from paddle_tk.models.classifiers import build_classifier, family_of
from paddle_tk.models.depthwise import use_fast_depthwise
from paddle_tk.models.detectors import build_detector
from paddle_tk.models.recompute import use_recompute
from paddle_tk.models.small_map_conv import SmallMapForward, is_small, use_small_map_conv
from paddle_tk.pipelines.memory_training import Training
from paddle_tk.training.ema import Ema
from paddle_tk.training.fit_model import FitModel
from paddle_tk.training.mixup import Mixup
from paddle_tk.training.optim import build_optimizer
from paddle_tk.training.precision import Precision
from paddle_tk.training.rng import seed_everything
from paddle_tk.training.steps.classification import ClassificationStep
from paddle_tk.training.steps.detection import DetectionStep

BATCH, WIDER = 2, 3  # one image may be special: transposes of a side of 1 copy nothing
LABEL_BYTES, BOX_BYTES, PIXEL_BYTES = 8, 5 * 4, 3 * 4
_PERIOD, _SMALL_PERIOD = 32, 8  # pixels per cell of the coarsest map of classifiers
_LEAST_SIDE = 64  # of a detector's images
_EMA_DECAY, _MIXUP, _SMOOTHING, _CLIP, _RATE = 0.999, 0.2, 0.1, 1.0, 1e-6  # whether they are set matters, not how


class Subject:
    """A network with all that its training keeps between steps.

    Args:
        training: Already checked.
        dry: Whether compiled kernels write a pattern instead of computing, which allocates the same.

    Raises:
        BadInput: The network cannot be built so.
    """

    def __init__(self, training: Training, *, dry: bool = True) -> None:
        paddle.set_device("cpu")
        seed_everything(0)
        self.training = training
        self.network = _build(training)
        if training.device == "cpu" and not training.inference:
            self._use_fast_kernels(dry)
        use_recompute(self.network, training.recompute)
        self.model: FitModel | None = None if training.inference else _fit_model(training, self.network)
        if training.inference:
            self.network.eval()

    def _use_fast_kernels(self, dry: bool) -> None:
        if self.training.fast_conv:
            use_small_map_conv(self.network)
        if self.training.fast_depthwise:
            use_fast_depthwise(self.network, dry=dry)

    def probe_sizes(self, start: int) -> list[Size]:
        """Returns the image sizes to run, smallest first; larger ones with a larger ``start``."""
        training = self.training
        if training.detects:
            period, least = int(max(self.network.strides)), _LEAST_SIDE
        else:
            period = _SMALL_PERIOD if training.small_stem else _PERIOD
            least = family_of(training.model).least["small" if training.small_stem else "imagenet"]
        return probe_sizes(training.size, period=period, start=1 + start, least=least, exact=training.detects)

    def traces(self, sizes: list[Size]) -> list[Trace]:
        """Returns recorded steps: of the larger sizes, then of the smallest with ``BATCH`` and ``WIDER`` images."""
        self._decide_small_maps(sizes)
        self._fit_pool(sizes[0])
        self.step(*self.batch(BATCH, sizes[0]))()  # the optimizer's state, what a network makes at its first call
        base = self._trace(BATCH, sizes[0], update=True)
        runs = [*((BATCH, size) for size in sizes[1:]), (WIDER, sizes[0])]
        others = [with_update(self._trace(batch, size, update=False), base) for batch, size in runs]
        return [*others[:-1], base, others[-1]]

    def _trace(self, batch: int, size: Size, update: bool) -> Trace:
        """Records a step; its gradients are gone afterwards."""
        self._fit_pool(size)
        images, labels = self.batch(batch, size)
        if self.training.accumulate:
            self.step(images, labels, update=False)()
        given = batch * self.input_bytes(size)
        trace = record(self.step(images, labels, update), batch=batch, size=size, inputs=given)
        for parameter in self.network.parameters():
            parameter.grad = None  # Paddle's clear_gradient keeps the memory until the next backward pass
        return trace

    def input_bytes(self, size: Size) -> int:
        """Returns the bytes of an image and its labels."""
        labels = self.training.boxes * BOX_BYTES if self.training.detects else LABEL_BYTES
        if self.training.inference:
            labels = 0
        return size[0] * size[1] * PIXEL_BYTES + labels

    def batch(self, count: int, size: Size) -> tuple[paddle.Tensor, paddle.Tensor | None]:
        """Returns images of noise and their labels; none for an inference."""
        rng = np.random.default_rng(0)
        images = paddle.to_tensor(rng.normal(size=(count, 3, *size)).astype(np.float32))
        if self.training.inference:
            return images, None
        classes = self.training.num_classes
        if not self.training.detects:
            return images, paddle.to_tensor(rng.integers(0, classes, count))
        boxes = self.training.boxes
        corner, extent = rng.uniform(0.0, 0.6, (count, boxes, 2)), rng.uniform(0.1, 0.4, (count, boxes, 2))
        sides = np.array([size[1], size[0]])
        rows = [rng.integers(0, classes, (count, boxes, 1)), corner * sides, (corner + extent) * sides]
        return images, paddle.to_tensor(np.concatenate(rows, axis=2).astype(np.float32))

    def step(self, images: paddle.Tensor, labels: paddle.Tensor | None, update: bool = True) -> Callable[[], None]:
        """Returns a training step or an inference, ready to run."""

        def train() -> None:
            if self.model is not None:
                self.model.train_batch([images], [labels], update=update)

        def infer() -> None:
            with paddle.no_grad():
                self.network(images)

        return infer if self.training.inference else train

    def _fit_pool(self, size: Size) -> None:
        """Lets a network that spreads a map of one size (VGG) take another."""
        if any(isinstance(layer, SpreadMean) for layer in self.network.sublayers()):
            fit_to_size(family_of(self.training.model).key, self.network, "imagenet", size)

    def _decide_small_maps(self, sizes: list[Size]) -> None:
        """Lets every convolution take the way at small sizes that it takes at the real one."""
        forwards = [f for layer in self.network.sublayers() if (f := _small_map_forward(layer)) is not None]
        if not forwards or len(sizes) == 1:
            return
        first, last = sizes[0], sizes[-1]
        maps = [self._output_maps(forwards, size) for size in (first, last)]
        for forward, small, large in zip(forwards, *maps, strict=True):
            ends = [_at_size(pair, first, last, self.training.size) for pair in zip(small, large, strict=True)]
            forward.small = _Decided([is_small(*end) for end in ends])

    def _output_maps(self, forwards: list[SmallMapForward], size: Size) -> list[list[Size]]:
        """Returns the output maps' sizes of every convolution, call by call."""
        self._fit_pool(size)
        seen: list[list[Size]] = [[] for _ in forwards]
        for forward, maps in zip(forwards, seen, strict=True):
            forward.small = _Watching(maps)
        self.network.train()
        with paddle.no_grad():
            self.network(self.batch(BATCH, size)[0])
        return seen


def _small_map_forward(layer: Any) -> SmallMapForward | None:
    forward = layer.__dict__.get("forward")
    while forward is not None and not isinstance(forward, SmallMapForward):
        forward = getattr(forward, "plain", None)  # recompute wraps it
    return forward


def _at_size(maps: tuple[Size, Size], first: Size, last: Size, target: Size) -> Size:
    """Returns a map's size at the target, affine in the image's sides."""
    found = []
    for small, large, low, high, wanted in zip(*maps, first, last, target, strict=True):
        found.append(round(small + (large - small) / (high - low) * (wanted - low)))
    return found[0], found[1]


class _Watching:
    """Notes the sizes of maps and computes none as a small one."""

    def __init__(self, seen: list[Size]) -> None:
        self.seen = seen

    def __call__(self, height: int, width: int) -> bool:
        self.seen.append((height, width))
        return False


class _Decided:
    """Answers with decisions made before, call by call, over and over."""

    def __init__(self, decisions: list[bool]) -> None:
        self.decisions, self.calls = decisions, 0

    def __call__(self, height: int, width: int) -> bool:
        self.calls += 1
        return bool(self.decisions) and self.decisions[(self.calls - 1) % len(self.decisions)]


def _build(training: Training) -> Any:
    with _zeros():
        if training.detects:
            return build_detector(
                training.model,
                num_classes=training.num_classes,
                image_size=training.size,
                activation=training.activation,
            )
        network = build_classifier(
            training.model,
            num_classes=training.num_classes,
            stem=training.stem,
            image_size=training.size,
            dropout=training.dropout,
        )
    take_any_size(network)
    return network


@contextmanager
def _zeros() -> Iterator[None]:
    """Starts parameters from 0 where a layer does not say otherwise: random numbers take seconds of a large network."""
    zero = nn.initializer.Constant(0.0)
    nn.initializer.set_global_initializer(zero, zero)
    try:
        yield
    finally:
        nn.initializer.set_global_initializer(None)


def _fit_model(training: Training, network: Any) -> FitModel:
    step: Any
    names = [str(i) for i in range(training.num_classes)]
    if training.detects:
        loss = network.make_loss()
        step = DetectionStep(names, loss=loss, parts=loss.parts, preprocessing={}, postprocessing={})
        step.start_epoch(0, 2)
    else:
        mix = Mixup(_MIXUP, training.num_classes, 0) if training.mixup else None
        step = ClassificationStep(names, label_smoothing=_SMOOTHING if training.label_smoothing else 0.0, mix=mix)
    optimizer = build_optimizer(
        training.optimizer,
        network,
        learning_rate=_RATE,
        factor=lambda update: 1.0,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        clip_norm=_CLIP if training.clip else None,
    )
    ema = Ema(network, _EMA_DECAY) if training.ema else None
    model = FitModel(network, task=step, precision=Precision("fp32", "O1", "cpu"), ema=ema)
    model.prepare(optimizer, step.loss, step.metrics)
    model._accumulate = 1
    step.forward, model._update = Marked(step.forward, FORWARD), Marked(model._update, UPDATE)  # type: ignore[method-assign]
    return model
