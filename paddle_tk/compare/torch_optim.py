"""torch's optimizers, set to compute what ``training.optim`` lets Paddle compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from paddle_tk.training.schedule import learning_rate_factor

_EPSILON = 1e-8  # of Adam and AdamW, in both frameworks


def build_torch_optimizer(
    network: Any, optimizer: Mapping[str, Any], schedule: Mapping[str, Any]
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Returns the optimizer and its schedule, which is stepped after every update.

    Momentum with and without Nesterov is the same formula in both, with the rate outside the sum; Adam adds the decay
    to the gradient and AdamW decays before it moves in both. Biases and one-dimensional (norm) parameters are not
    decayed, and have a group of their own:
    torch's clipping is over all groups. Paddle clips before it adds the decay, as torch does.

    Args:
        network: Whose parameters.
        optimizer: See ``Plan.optimizer``.
        schedule: See ``Plan.schedule``.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optimizer["weight_decay"]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made: torch.optim.Optimizer
    if optimizer["name"] in ("adam", "adamw"):
        betas = (optimizer["beta1"], optimizer["beta2"])
        kind = torch.optim.AdamW if optimizer["name"] == "adamw" else torch.optim.Adam
        made = kind(groups, lr=optimizer["learning_rate"], betas=betas, eps=_EPSILON)
    else:
        momentum, nesterov = optimizer["momentum"], optimizer["nesterov"]
        made = torch.optim.SGD(groups, lr=optimizer["learning_rate"], momentum=momentum, nesterov=nesterov)
    return made, torch.optim.lr_scheduler.LambdaLR(made, learning_rate_factor(**schedule))
