"""Trainings that several processes share, and the same by one: run as a job by test_together.py.

``python -m tests.training.together_cases FOLDER`` writes the final weights of every case and process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.environment.ranks import own_rank
from paddle_tk.environment.start import start_paddle

SEED, IMAGES = 0, 65  # two batches of 32 and one of a single image, which most processes have no part of
SPLIT = (8, 4, 20)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sgd_all": {"ema": 0.9, "mixup": 0.4, "clip": 0.05, "accumulate": 2},
    "adamw": {"optimizer": "adamw", "accumulate": 3},
    "adam": {"optimizer": "adam"},
    "synchronised": {"batch_norm": True, "synchronised": True, "clip": 0.5},
    "balanced": {"balanced": True, "accumulate": 2},
    "apart": {"batch_norm": True},
}


def train(name: str, parallel: Any = None) -> dict[str, np.ndarray]:
    """Trains a case for three epochs and returns all that a checkpoint would hold, and the history's figures."""
    from paddle_tk.data.shares import Share
    from paddle_tk.models.sync_batch_norm import use_sync_batch_norm
    from paddle_tk.models.weights import network_arrays
    from paddle_tk.training.tensors import optimizer_state
    from paddle_tk.training.together import Together
    from tests.training import small

    case = dict(CASES[name])
    accumulate, synchronised = case.pop("accumulate", 1), case.pop("synchronised", False)
    case = {"batch_norm": False, **case}
    share = None if parallel is None else Share(parallel.rank, SPLIT)
    together = None if parallel is None else Together(parallel, SEED, synchronised=synchronised)
    model = small.model(dropout=0.0, epochs=3, updates_per_epoch=-(-3 // accumulate), together=together, **case)
    if parallel is not None and synchronised:
        use_sync_batch_norm(model.network, parallel)
    order = small.balanced_order(IMAGES) if case.get("balanced") else None
    train_data = small.train_loader(IMAGES, batch_size=sum(SPLIT), share=share, order=order)
    history = model.fit(train_data, small.eval_loader(37, share=share), epochs=3, accumulate_grad_batches=accumulate)
    keys = ("train_loss", "train_top1", "val_loss", "val_top1", "val_macro_recall", "val_n")
    figures = [h[key] for h in history for key in keys]
    return {
        **network_arrays(model.network),
        **optimizer_state(model._optimizer, model.network),
        **({f"ema::{k}": v for k, v in model.ema.arrays().items()} if model.ema is not None else {}),
        "history": np.array(figures),
        "learning_rate": np.array(float(model._optimizer.get_lr())),
    }


def main() -> None:
    """Runs every case."""
    start_paddle(1)
    rank = own_rank()
    assert rank is not None
    from paddle_tk.training.distributed import connect

    parallel = connect(rank, "cpu")
    for name in CASES:
        np.savez(Path(sys.argv[1]) / f"{name}-{rank.rank}.npz", **train(name, parallel))
    parallel.close()


if __name__ == "__main__":
    main()
