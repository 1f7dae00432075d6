"""What ``streaming.py`` runs in processes of their own: an epoch under a memory gauge, and a reader that is killed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddle_tk.environment.start import start_paddle

start_paddle()

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.loader import TrainLoader
from paddle_tk.data.shares import Share
from paddle_tk.data.transforms import TrainTransform
from paddle_tk.types import Preprocessing


def split_of(root: str) -> ImageSplit:
    """Returns the training images of some shards."""
    bundle = load_dataset("shards", root=root, val_fraction=0.1, test_fraction=0.1, split_seed=0)
    return bundle.splits["train"]


def memory(root: str) -> None:
    """Reads one epoch in this process and prints its images, seconds and peak resident memory in MB."""
    loader = TrainLoader(split_of(root), TrainTransform(Preprocessing((32, 32))), batch_size=128, seed=0)
    loader.start(0)
    began, images = time.perf_counter(), 0
    for batch, _ in loader:
        images += len(batch)
    print(json.dumps({"images": images, "seconds": time.perf_counter() - began, "peak_mb": _peak_mb()}))


def _peak_mb() -> float:
    """Returns the peak resident memory of this program; ``getrusage`` would count what its parent had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def seen(root: str, log: str, epoch: int, step: int, rank: int, ranks: int, batch: int) -> None:
    """Appends a line (step, labels) for each batch from ``step`` to the end of the epoch, each written through."""
    share = Share(rank, (batch // ranks,) * ranks)
    transform = TrainTransform(Preprocessing((8, 8)))
    loader = TrainLoader(split_of(root), transform, batch_size=batch, seed=3, num_workers=2, share=share)
    loader.start(epoch, step)
    with open(log, "a", encoding="utf-8") as out:
        for number, (_, labels) in enumerate(loader, step):
            out.write(json.dumps([number, labels.numpy().tolist()]) + "\n")
            out.flush()
            os.fsync(out.fileno())


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        memory(sys.argv[2])
    else:
        seen(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
