"""Quantization-aware training: weighted layers that compute with the values INT8 will have, and learn from it.

``paddle.quantization.QAT`` puts layers of its own in the place of convolutions. That loses the compiled CPU kernels,
which are forwards of the layers it throws away, misses layers that are called from a plain list, leaves
Conv2DTranspose in float and gives all calls of a shared layer one scale. So Paddle's fake quanters are put into the
layers themselves: the layer keeps its place, its parameters, their names and whatever forward it has; only what that
forward is given is rounded first. Gradients pass rounding and clipping unchanged (straight-through estimator).

Batch normalisation stays a layer: it scales each output channel, and so does folding it, so a weight's scale per output
channel gives the same integers before and after. It computes with the statistics it has collected, in training too:
what is trained is then the network that is deployed, and the calibrated scales fit from the first step on. With the
statistics of each batch they need not (those of a network that was trained for a few steps are far off), and a scale
that is too small makes gradients explode from layer to layer, since what it clips is normalised again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import paddle
from paddle.nn.quant.quant_layers import FakeQuantChannelWiseAbsMax
from paddle.quantization.quanters.abs_max import FakeQuanterWithAbsMaxObserverLayer

from paddle_tk.errors import CheckFailed
from paddle_tk.models.weights import network_arrays, to_array
from paddle_tk.quantize.calibrate import LayerInput, weighted_layers
from paddle_tk.quantize.histogram import Array

ALGORITHM = "qat"
MOVING_RATE = 0.99
_QUANTER = "input_quanter"  # name of a layer's quanters in its state


def weight_axis(layer: Any) -> int:
    """Returns the axis of a weight's output channels: 0 for Conv2D, 1 for Conv2DTranspose and Linear."""
    return 0 if isinstance(layer, paddle.nn.Conv2D) else 1


def insert_fake_quantizers(
    network: Any,
    inputs: Sequence[LayerInput],
    *,
    moving_rate: float = MOVING_RATE,
    freeze_norm: bool = True,
    skip: Collection[str] = (),
) -> int:
    """Makes a network's weighted layers compute with 8-bit values of their inputs and weights.

    A weight has one symmetric scale per output channel, the largest |w| of the moment. An input has one symmetric scale
    per call of its layer; it starts at the calibrated threshold and follows, in training mode, the largest |x| of each
    batch as a running mean. Evaluation uses the scales as they are. The scales are part of the network's state, so
    checkpoints, averaged weights and resuming include them.

    Args:
        network: Changed in place; after ``use_small_map_conv`` and ``use_fast_depthwise``, if at all, before the
            optimizer is built.
        inputs: What ``observe_network`` found. Layers without an entry stay in float: they only serve the training.
        moving_rate: Decay of the running mean, from 0 to below 1.
        freeze_norm: Batch normalisation keeps its statistics and uses them in training; its weights are trained.
        skip: Names of layers that stay in float.

    Returns:
        How many layers were changed.

    Raises:
        ValueError: The network has fake quantizers already, or an entry or a name in ``skip`` is no layer of it.
    """
    layers = weighted_layers(network)
    unknown = sorted({*(item.name for item in inputs), *skip} - set(layers))
    if unknown:
        raise ValueError(f"the network has no weighted layer {unknown[0]!r}")
    if any(isinstance(layer.forward, _FakeQuantized) for layer in layers.values()):
        raise ValueError("the network has fake quantizers already")
    wrapped = []
    for name in dict.fromkeys(item.name for item in inputs if item.name not in skip):
        calls = sorted((item for item in inputs if item.name == name), key=lambda item: item.call)
        layers[name].forward = _FakeQuantized(name, layers[name], calls, moving_rate)
        wrapped.append(layers[name].forward)
    if freeze_norm and wrapped:
        wrapped[0].frozen = _freeze_norm(network)
    shared = [forward for forward in wrapped if len(forward.inputs) > 1]
    if shared:
        shared[0].guard = network.register_forward_pre_hook(_call_counter(shared))
    return len(wrapped)


def remove_fake_quantizers(network: Any) -> tuple[dict[str, Array], list[LayerInput]]:
    """Gives a network its own forwards back.

    Returns:
        The network's state under its own names, float32, without scales; and for each call the learned range of the
        layer's input with its weight of now. The threshold is the learned scale; low and high are those that were
        given to ``insert_fake_quantizers``, since a fake quanter does not keep them.
    """
    found: list[LayerInput] = []
    for layer in weighted_layers(network).values():
        forward = layer.__dict__.get("forward")
        if isinstance(forward, _FakeQuantized):
            found += forward.learned()
            forward.remove()
    return network_arrays(network), found


class _FakeQuantized:
    """The forward of one layer with fake quantizers before it."""

    def __init__(self, name: str, layer: Any, inputs: Sequence[LayerInput], moving_rate: float) -> None:
        self.name, self.layer, self.inputs = name, layer, list(inputs)
        self.own = layer.__dict__.get("forward")  # None: that of its class
        self.plain, self.calls, self.guard = layer.forward, 0, None
        self.frozen: list[tuple[Any, Any]] = []
        axis = weight_axis(layer)
        # No part of the layer: its scales follow from the weight and would be out of date in every checkpoint.
        self.weight_quanter = FakeQuantChannelWiseAbsMax(
            channel_num=int(layer.weight.shape[axis]), quant_axis=axis, quant_on_weight=True
        )
        self.quanters = [_make_quanter(item.range.threshold, moving_rate) for item in inputs]
        for call, quanter in enumerate(self.quanters):
            layer.add_sublayer(f"{_QUANTER}{call}", quanter)

    def __call__(self, x: paddle.Tensor, *arguments: Any, **options: Any) -> paddle.Tensor:
        quanter = self.quanters[self.calls % len(self.quanters)]
        self.calls += 1
        parameters = self.layer._parameters
        weight = parameters["weight"]
        # The layer's own forward, or a compiled one in its place, reads the weight from the layer.
        parameters["weight"] = self.weight_quanter(weight)
        try:
            return self.plain(quanter(x), *arguments, **options)
        finally:
            parameters["weight"] = weight

    def learned(self) -> list[LayerInput]:
        weight = to_array(self.layer.weight)
        scales = [float(quanter.scales()) for quanter in self.quanters]
        return [
            replace(item, weight=weight, range=replace(item.range, threshold=scale, algorithm=ALGORITHM))
            for item, scale in zip(self.inputs, scales, strict=True)
        ]

    def remove(self) -> None:
        for call in range(len(self.quanters)):
            del self.layer._sub_layers[f"{_QUANTER}{call}"]
        if self.own is None:
            del self.layer.forward
        else:
            self.layer.forward = self.own
        if self.guard is not None:
            self.guard.remove()
        for norm, before in self.frozen:
            norm._use_global_stats = before


def _freeze_norm(network: Any) -> list[tuple[Any, Any]]:
    """Makes batch normalisation use its running statistics in training; returns each layer with its old setting."""
    norms = [layer for layer in network.sublayers() if hasattr(layer, "_use_global_stats")]
    before = [(norm, norm._use_global_stats) for norm in norms]
    for norm in norms:
        norm._use_global_stats = True
    return before


class _InputQuanter(FakeQuanterWithAbsMaxObserverLayer):  # type: ignore[misc, unused-ignore]
    """Paddle's quanter, whose running scale is no part of the graph: Paddle's own comes to want a gradient for it."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Returns ``x`` rounded and clipped to the scale, which moves first in training mode."""
        rounded = super().forward(x)
        for tensor in (self._scale, self._state, self._accum):
            tensor.detach_()
        return rounded


def _make_quanter(threshold: float, moving_rate: float) -> _InputQuanter:
    """Returns a quanter with a running mean that stands at ``threshold`` as if it always had."""
    quanter = _InputQuanter(None, moving_rate=moving_rate)
    weight = 1 / (1 - moving_rate)  # what the sum of weights tends to
    for tensor, value in ((quanter._scale, threshold), (quanter._state, weight), (quanter._accum, weight * threshold)):
        tensor.set_value(np.full(1, value, np.float32))
    return quanter


def _call_counter(shared: Sequence[_FakeQuantized]) -> Any:
    """Returns a hook that keeps the calls of shared layers in step with the passes of the network."""

    def check(network: Any, inputs: Any) -> None:
        for forward in shared:
            if forward.calls % len(forward.quanters):
                raise CheckFailed(
                    f"{forward.name} was called {forward.calls} times since the last pass, in calibration "
                    f"{len(forward.quanters)} times: its scales cannot be told apart",
                    "leave this layer in float, or calibrate without fine-tuning (--method ptq)",
                )
            forward.calls = 0

    return check
