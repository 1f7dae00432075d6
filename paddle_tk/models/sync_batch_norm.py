"""Batch normalisation over the images of all processes of a training.

Every process sums its activations and their squares, the sums are added up over the processes, and all normalise by the
same mean and variance; the backward pass adds up two sums in the same way. The result is that of one process that holds
the whole batch, for any split of it, a process without an image of its own included. Paddle's own ``SyncBatchNorm``
runs on GPUs only and gives every process the same weight.

Formulas: S. Ioffe and C. Szegedy, arXiv 1502.03167, with the biased variance in the running statistics, as Paddle's
``BatchNorm2D`` has it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import paddle
from paddle import nn
from paddle.nn.layer.norm import _BatchNormBase

from paddle_tk.models.two_passes import once


class Job(Protocol):
    """What is asked of the processes."""

    @property
    def training(self) -> bool:
        """Whether a training batch is under way."""

    @property
    def own_images(self) -> int:
        """Images of this process in it."""

    def add_up(self, tensor: paddle.Tensor) -> None:
        """Replaces a tensor by its sum over all processes."""


def use_sync_batch_norm(network: nn.Layer, job: Job) -> int:
    """Lets a network's batch norms see the images of all processes while it trains.

    Parameters, buffers and their names stay; evaluation is Paddle's own.

    Args:
        network: Changed in place.
        job: The processes.

    Returns:
        How many layers were changed.
    """
    layers = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, nn.BatchNorm2D)]
    for layer in layers:
        layer.forward = _Forward(layer, job)
    return len(layers)


def running_statistics(network: nn.Layer, *, synchronised: bool) -> list[paddle.Tensor]:
    """Returns the running means and variances that a training batch moves.

    Args:
        network: The network.
        synchronised: Leave out the layers that ``use_sync_batch_norm`` has changed, which are alike in all processes.
    """
    return [
        statistic
        for layer in network.sublayers(include_self=True)
        if isinstance(layer, _BatchNormBase) and not (synchronised and isinstance(layer.forward, _Forward))
        for statistic in (layer._mean, layer._variance)
    ]


class _Forward:
    """The forward of one layer: normalised over all processes in a training batch, Paddle's own elsewhere."""

    def __init__(self, layer: Any, job: Job) -> None:
        self.layer, self.job, self.plain = layer, job, layer.forward

    def __call__(self, x: paddle.Tensor) -> paddle.Tensor:
        if not once(lambda: bool(self.layer.training and self.job.training)):
            return self.plain(x)
        y, mean, variance = _Normalise.apply(
            x, self.layer.weight, self.layer.bias, job=self.job, epsilon=self.layer._epsilon
        )
        keep = float(np.float32(self.layer._momentum))  # as Paddle's kernel gets it
        with paddle.no_grad():
            for running, value in ((self.layer._mean, mean), (self.layer._variance, variance)):
                paddle.assign(running * keep + value.detach() * (1.0 - keep), running)
        return y


def _wide(x: paddle.Tensor) -> paddle.Tensor:
    """Returns half precision in float32; float64 keeps its digits, which tell rounding from a fault."""
    return x if x.dtype == paddle.float64 else x.astype("float32")


def _per_channel(value: paddle.Tensor) -> paddle.Tensor:
    return value.reshape([1, -1, 1, 1])


class _Normalise(paddle.autograd.PyLayer):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias, mean and variance over all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, job: Job, epsilon: float
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        wide = _wide(x)
        # A recomputed layer takes those of its first pass: the other processes are asked once.
        count, mean, variance = once(lambda: _statistics(wide, job))
        scale = (variance + epsilon).rsqrt()
        normal = (wide - _per_channel(mean)) * _per_channel(scale)
        ctx.save_for_backward(normal, weight, scale)
        ctx.job, ctx.count, ctx.counts = job, count, job.own_images > 0
        y = normal * _per_channel(weight) + _per_channel(bias)
        ctx.mark_non_differentiable(mean, variance)
        return y.astype(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor, *of_statistics: Any) -> tuple[paddle.Tensor, ...]:
        normal, weight, scale = ctx.saved_tensor()
        wide = _wide(dy)
        sums = paddle.stack([_channel_sums(wide), _channel_sums(wide * normal)])
        d_bias, d_weight = sums.clone().astype(wide.dtype)  # before the sums of the others come to them
        ctx.job.add_up(sums)
        sums = (sums / ctx.count).astype(wide.dtype)
        # Images that were not in the statistics have no part in their gradient either.
        inner = wide - (_per_channel(sums[0]) + normal * _per_channel(sums[1])) if ctx.counts else wide
        dx = inner * _per_channel(weight * scale)
        return dx.astype(dy.dtype), d_weight, d_bias


def _statistics(x: paddle.Tensor, job: Job) -> tuple[float, paddle.Tensor, paddle.Tensor]:
    """Returns the positions per channel, the mean and the biased variance over all processes.

    Two rounds, mean first: the difference of mean square and squared mean loses the digits of a small variance.
    """
    counts = 0 if job.own_images == 0 else int(x.shape[0]) * int(x.shape[2]) * int(x.shape[3])
    weight = 1.0 if counts else 0.0
    first = paddle.concat([_channel_sums(x) * weight, paddle.to_tensor([float(counts)], "float64")])
    job.add_up(first)
    total = float(first[-1])
    mean = (first[:-1] / total).astype(x.dtype)
    second = _channel_sums((x - _per_channel(mean)) ** 2) * weight
    job.add_up(second)
    return total, mean, (second / total).astype(x.dtype)


def _channel_sums(x: paddle.Tensor) -> paddle.Tensor:
    """Returns the sums over images and positions, float64 (C,).

    Rows are summed in float32 first: Paddle's float32 sum over all three axes loses five digits of seven on a CPU, and
    a cast of the whole map costs five times as much.
    """
    return x.sum(3).astype("float64").sum([0, 2])
