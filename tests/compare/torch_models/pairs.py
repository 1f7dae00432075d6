"""A Paddle network and its torch twin with the same, thoroughly random state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import paddle

from paddle_tk.compare.torch_models import build_twin
from paddle_tk.compare.weights import Array, load_into, paddle_to_torch
from paddle_tk.models.classifiers import build_classifier
from paddle_tk.models.detectors import build_detector
from paddle_tk.models.weights import network_arrays

CLASSIFIERS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0")
DETECTOR = "yolov10n"
ALL = (*CLASSIFIERS, DETECTOR)
CLASSES = 5


@dataclass(frozen=True)
class Pair:
    """Both networks of one name, and the images they are for."""

    network: Any
    twin: Any
    arrays: dict[str, Array]  # the common state, by Paddle's name


def images(count: int, size: int, seed: int = 0) -> Array:
    """Returns noise (count, 3, size, size) float32 like normalised images."""
    return np.random.default_rng(seed).normal(size=(count, 3, size, size)).astype(np.float32)


def build_network(name: str, *, size: int, stem: str, **options: Any) -> Any:
    """Builds the Paddle network."""
    paddle.seed(0)
    if name == DETECTOR:
        return build_detector(name, num_classes=CLASSES, image_size=(size, size), **options)
    return build_classifier(name, num_classes=CLASSES, stem=stem, image_size=(size, size), **options)


def make_pair(name: str, *, size: int, stem: str = "imagenet", **options: Any) -> Pair:
    """Returns both networks with one state; batch norm is neither fresh nor what the images' statistics are."""
    network = build_network(name, size=size, stem=stem, **options)
    _randomise(network, images(8, size, seed=1))
    arrays = network_arrays(network)
    twin = build_twin(name, num_classes=CLASSES, stem=stem, **options)
    load_into(twin, paddle_to_torch(arrays, twin))
    return Pair(network, twin, arrays)


@cache
def evaluation_pair(name: str, stem: str, size: int) -> Pair:
    """Returns a pair in evaluation mode, built once; nobody changes it."""
    pair = make_pair(name, size=size, stem=stem)
    pair.network.eval()
    pair.twin.eval()
    return pair


def _randomise(network: Any, batch: Array) -> None:
    """Draws batch norm's scale, shift and statistics; the latter around a batch's, so that the outputs keep a scale."""
    rng = np.random.default_rng(2)
    norms = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    momentum = [norm._momentum for norm in norms]
    for norm in norms:
        norm.weight.set_value(_drawn(rng.uniform(0.5, 1.5, norm.weight.shape)))
        norm.bias.set_value(_drawn(rng.normal(0, 0.2, norm.bias.shape)))
        norm._momentum = 0.0
    network.train()
    with paddle.no_grad():
        network(paddle.to_tensor(batch))
    for norm, before in zip(norms, momentum, strict=True):
        norm._momentum = before
        variance = norm._variance.numpy()
        variance = variance + variance.mean()  # no channel that hardly varied here is blown up by other images
        norm._mean.set_value(_drawn(norm._mean.numpy() + 0.1 * np.sqrt(variance) * rng.normal(size=variance.shape)))
        norm._variance.set_value(_drawn(variance * rng.uniform(0.7, 1.5, variance.shape)))


def _drawn(values: Any) -> Any:
    return paddle.to_tensor(np.asarray(values, np.float32))
