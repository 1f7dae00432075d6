"""Optimizers; what they multiply their rate with is in ``training.schedule``."""

from __future__ import annotations

from collections.abc import Callable

import paddle

from paddle_tk.errors import BadInput

OPTIMIZERS = ("sgd", "adam", "adamw")


def build_optimizer(
    name: str,
    network: paddle.nn.Layer,
    *,
    learning_rate: float,
    factor: Callable[[int], float],
    momentum: float = 0.9,
    nesterov: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> paddle.optimizer.Optimizer:
    """Returns "sgd", "adam" or "adamw"; biases and one-dimensional (norm) parameters are not decayed.

    "sgd" has momentum unless that is 0, where it keeps no state. "adam" adds the decay to the gradient, "adamw" takes
    it off the weight. Parameter groups are avoided on purpose: Paddle would clip the global norm of each group apart.

    Raises:
        BadInput: An unknown name.
    """
    if name not in OPTIMIZERS:
        raise BadInput(f"unknown optimizer '{name}'", f"use one of {', '.join(OPTIMIZERS)}")
    schedule = paddle.optimizer.lr.LambdaDecay(learning_rate, factor)
    clip = paddle.nn.ClipGradByGlobalNorm(clip_norm) if clip_norm is not None else None
    parameters = [p for p in network.parameters() if not p.stop_gradient]
    if name == "adamw":
        decayed = {p.name for p in parameters if p.ndim > 1}
        return paddle.optimizer.AdamW(
            schedule, beta1=beta1, beta2=beta2, parameters=parameters, weight_decay=weight_decay,
            apply_decay_param_fun=lambda parameter: parameter in decayed, grad_clip=clip,
        )  # fmt: skip
    for parameter in parameters:
        if parameter.ndim <= 1:
            parameter.regularizer = paddle.regularizer.L2Decay(0.0)
    shared = {"parameters": parameters, "weight_decay": weight_decay or None, "grad_clip": clip}
    if name == "adam":
        return paddle.optimizer.Adam(schedule, beta1=beta1, beta2=beta2, **shared)
    if momentum == 0:
        return paddle.optimizer.SGD(schedule, **shared)
    return paddle.optimizer.Momentum(schedule, momentum=momentum, use_nesterov=nesterov, **shared)
