"""Ranges of activations over calibration images: of a Paddle network's weighted layers, and of any named tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.models.weights import to_array
from paddle_tk.quantize.histogram import Array
from paddle_tk.quantize.observers import RangeObserver
from paddle_tk.types import TensorRange

WEIGHTED = (paddle.nn.Conv2D, paddle.nn.Conv2DTranspose, paddle.nn.Linear)


@dataclass(frozen=True, eq=False)
class LayerInput:
    """The input of one call of a weighted layer.

    Attributes:
        name: The layer's dotted name in the network.
        call: Which call of the layer within one pass, from 0: a layer may serve several places.
        weight: The layer's weight, float32 as Paddle stores it: Conv2D (out, in / groups, h, w), Conv2DTranspose
            (in, out / groups, h, w), Linear (in, out).
        range: What its input was over the calibration images.
    """

    name: str
    call: int
    weight: Array
    range: TensorRange


def weighted_layers(network: Any) -> dict[str, Any]:
    """Returns the convolutions and linear layers of a network by name, each once, in the order of definition."""
    layers = network.named_sublayers(include_self=True)
    return {name: layer for name, layer in layers if isinstance(layer, WEIGHTED)}


def observe_network(
    network: Any,
    batches: Iterable[Array],
    *,
    algorithm: str,
    advance: Callable[[int], None] = lambda n: None,
) -> list[LayerInput]:
    """Runs a network in evaluation mode over calibration images and observes what reaches its weighted layers.

    The inputs are seen by hooks on the layer objects, so it does not matter whether a layer is called by its parent,
    from a plain list or several times. Layers that evaluation does not call (a branch for training only) have no entry.
    The network's mode is restored and nothing is left in it, also after an error.

    Args:
        network: A ``paddle.nn.Layer``.
        batches: Images float32 (B, 3, H, W), preprocessed.
        algorithm: One of ``observers.ALGORITHMS``.
        advance: Called with the number of images done since the last call.

    Returns:
        One entry per call, in the order of the calls.

    Raises:
        BadInput: No batch, an unknown algorithm, or PaddleSlim is missing.
        ArtifactError: No weighted layer was called, one was not called equally often for every batch, or one got
            values that are not finite.
    """
    layers = weighted_layers(network)
    ranges = _Ranges(algorithm)
    with _evaluating(network), _watched(layers, ranges), paddle.no_grad():
        for batch in batches:
            ranges.start_batch()
            network(paddle.to_tensor(batch))
            ranges.end_batch()
            advance(len(batch))
    found = [
        LayerInput(name, call, to_array(layers[name].weight), seen) for (name, call), seen in ranges.result().items()
    ]
    if not found:
        raise ArtifactError(
            "the network calls no convolution and no linear layer, there is nothing to quantize",
            "give a network that has such layers",
        )
    return found


def observe_tensors(
    read: Callable[[Array], Mapping[str, Array]],
    batches: Iterable[Array],
    *,
    algorithm: str,
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, TensorRange]:
    """Observes named tensors over calibration images: what hooks do not see, and the tensors of a foreign ONNX file.

    Args:
        read: Maps images float32 (B, 3, H, W) to float32 tensors by name, the same names every time.
        batches: Images float32 (B, 3, H, W), preprocessed.
        algorithm: One of ``observers.ALGORITHMS``.
        advance: Called with the number of images done since the last call.

    Raises:
        BadInput: No batch, an unknown algorithm, or PaddleSlim is missing.
        ArtifactError: A tensor is missing for a batch, or holds values that are no finite float32.
    """
    ranges = _Ranges(algorithm)
    for batch in batches:
        ranges.start_batch()
        for name, values in read(batch).items():
            ranges.add(name, np.asarray(values))
        ranges.end_batch()
        advance(len(batch))
    return {name: seen for (name, _), seen in ranges.result().items()}


class _Ranges:
    """Observers by (name, call), of which each sees every batch once."""

    def __init__(self, algorithm: str) -> None:
        RangeObserver(algorithm)  # refuses an unknown algorithm before the first batch is read
        self._algorithm, self._batches = algorithm, 0
        self._observers: dict[tuple[str, int], RangeObserver] = {}
        self._calls: Counter[str] = Counter()
        self._expected: Counter[str] | None = None

    def start_batch(self) -> None:
        self._calls = Counter()

    def add(self, name: str, values: Array) -> None:
        key = (name, self._calls[name])
        self._calls[name] += 1
        if key not in self._observers:
            self._observers[key] = RangeObserver(self._algorithm)
        try:
            self._observers[key].add(values)
        except ValueError as error:
            raise ArtifactError(
                f"{name} cannot be calibrated: {error}", "check the model and that the calibration images fit it"
            ) from error

    def end_batch(self) -> None:
        self._batches += 1
        expected = self._expected = self._expected if self._expected is not None else self._calls
        different = sorted(name for name in expected | self._calls if expected[name] != self._calls[name])
        if different:
            name = different[0]
            raise ArtifactError(
                f"{name} was computed {expected[name]} times for calibration batch 1 and {self._calls[name]} times for "
                f"batch {self._batches}: its range would be that of some images only",
                "quantize a network that computes the same layers for every image",
            )

    def result(self) -> dict[tuple[str, int], TensorRange]:
        if not self._batches:
            raise BadInput("no calibration image was given", "give a folder or a dataset with images")
        return {key: observer.range() for key, observer in self._observers.items()}


@contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    modes = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    network.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


@contextmanager
def _watched(layers: Mapping[str, Any], ranges: _Ranges) -> Iterator[None]:
    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_pre_hook(_watcher(name, ranges)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watcher(name: str, ranges: _Ranges) -> Callable[[Any, Any], None]:
    def watch(layer: Any, inputs: Any) -> None:
        ranges.add(name, to_array(inputs[0]))

    return watch
