"""Learning-rate schedules: pure functions of the update count, without any framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

WARMUP_START = 0.01


def learning_rate_factor(
    schedule: str,
    *,
    updates_per_epoch: int,
    max_epochs: int,
    warmup_epochs: float = 0.0,
    step_epochs: Sequence[float] = (),
    step_gamma: float = 0.1,
    min_ratio: float = 0.0,
) -> Callable[[int], float]:
    """Returns ``factor(update)``, the rate of an update (from 0) as a share of the peak rate.

    After a linear warm-up from 1 %: "constant" stays at 1; "cosine" falls as (1 + cos(pi t)) / 2
    (arXiv 1608.03983); "step" is multiplied by ``step_gamma`` at each of ``step_epochs``; "one_cycle" rises along a
    cosine for the first 30 % (or the warm-up, where that is given) and falls along one (arXiv 1708.07120).

    Args:
        schedule: "constant", "cosine", "step" or "one_cycle".
        updates_per_epoch: Optimizer updates in an epoch.
        max_epochs: Length of the schedule, in epochs.
        warmup_epochs: Length of the warm-up, in epochs.
        step_epochs: Epochs of the drops, for "step".
        step_gamma: Factor of each drop.
        min_ratio: Last rate / peak rate for "cosine" and "one_cycle".
    """
    total = max(1, updates_per_epoch * max_epochs)
    warmup = round(warmup_epochs * updates_per_epoch)
    if schedule == "one_cycle" and warmup == 0:
        warmup = round(0.3 * total)
    drops = [round(e * updates_per_epoch) for e in step_epochs]

    def factor(update: int) -> float:
        if update < warmup:
            share = update / warmup
            rise = (1 - math.cos(math.pi * share)) / 2 if schedule == "one_cycle" else share
            return WARMUP_START + (1 - WARMUP_START) * rise
        if schedule == "constant":
            return 1.0
        if schedule == "step":
            return float(step_gamma ** sum(update >= d for d in drops))
        done = min(1.0, (update - warmup) / max(1, total - warmup))
        return min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * done)) / 2

    return factor
