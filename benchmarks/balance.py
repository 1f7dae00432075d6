"""Does ``data.balance=auto`` help where classes are unequal? CIFAR-10 cut to three classes, 95 / 2 / 3 per cent.

    python benchmarks/balance.py [--cifar10 PATH] [--seeds 0 1 2] [--methods none auto]

The first three classes of CIFAR-10 have 2,850, 60 and 90 training images, and 285, 6 and 9 to validate; all their 1,000
test images each are predicted. All methods take the same number of steps, from the same first weights for a seed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._faults import shared_file
from benchmarks._report import Claim, finish, parser
from paddle_tk.data.datasets import load_dataset

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"train": (2850, 60, 90), "val": (285, 6, 9), "test": (1000, 1000, 1000)}
EPOCHS, BATCH, GAIN = 12, 32, 0.15
_SETTINGS = (
    *("data=image_folder", "data.image_size=32", "data.random_resized_crop=null", "data.resize=stretch"),
    *("data.flip=0.5", "data.crop_padding=4", f"data.batch_size={BATCH}", "data.num_workers=0"),
    *(f"trainer.max_epochs={EPOCHS}", "trainer.optimizer=adamw", "trainer.learning_rate=0.001"),
    *("trainer.weight_decay=0.01", "trainer.label_smoothing=0", "trainer.loggers=[]", "trainer.max_retries=0"),
)


def cut(root: str, folder: Path) -> Path:
    """Writes the cut dataset as folders of PNG files: of each class the first images in the dataset's order."""
    bundle = load_dataset("cifar10", root=root, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    for split, counts in COUNTS.items():
        images = bundle.splits[split]
        for label, count in enumerate(counts):
            place = folder / split / bundle.classes[label]
            place.mkdir(parents=True)
            for i in np.flatnonzero(images.labels == label)[:count].tolist():
                cv2.imwrite(str(place / f"{i:05d}.png"), cv2.cvtColor(images.image(i), cv2.COLOR_RGB2BGR))
    return folder


def official_layout(folder: Path) -> str | None:
    """Makes CIFAR-10's published layout from the JPEG archive, where that is at hand."""
    script = shared_file("make_cifar10.py")
    if script is None:
        return None
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return str(folder)


def train(model: str, method: str, seed: int, data: Path, run: Path) -> dict[str, float]:
    """Trains one network; returns the test figures of its best epoch."""
    command = [sys.executable, "tools/train.py", "--quiet", "--run-dir", str(run), *_SETTINGS]
    chosen = [f"model={model}", f"data.root={data}", f"data.balance={method}", f"seed={seed}"]
    subprocess.run([*command, *chosen], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    result = json.loads((run / "result.json").read_text())
    done = result.get("balance", {}).get("method", "none")
    print(f"  seed {seed} {method} ({done}): macro recall {result['final']['macro_recall']:.3f}, "
          f"top-1 {result['final']['top1']:.3f}, best epoch {result['best']['epoch']}", flush=True)  # fmt: skip
    return dict(result["final"])


def main() -> int:
    """Measures."""
    arguments = parser(__doc__ or "", "balance")
    arguments.add_argument("--cifar10", metavar="PATH", help="cifar-10-batches-py or its archive")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--methods", nargs="+", default=["none", "auto"])
    arguments.add_argument("--model", default="lenet")
    given = arguments.parse_args()
    samples: dict[str, list[float]] = {method: [] for method in given.methods}
    with tempfile.TemporaryDirectory(prefix="balance-") as name:
        root = given.cifar10 or official_layout(Path(name) / "official")
        if root is None:
            print("balance: CIFAR-10 was not found; give it with --cifar10", file=sys.stderr)
            return 2
        data = cut(root, Path(name) / "cut")
        for seed in given.seeds:
            for method in given.methods:
                final = train(given.model, method, seed, data, Path(name) / f"{method}-{seed}")
                samples[method].append(final["macro_recall"])
    for method, recalls in samples.items():
        print(f"{method}: macro recall {statistics.mean(recalls):.3f} (n={len(recalls)} seeds, 3,000 test images each)")
    gains = [100 * (b - a) for a, b in zip(samples["none"], samples["auto"], strict=True)]
    claim = Claim("balance, auto over none, mean gain", statistics.mean(gains), "points", 100 * GAIN, at_most=False)
    least = Claim("balance, auto over none, least gain of a seed", min(gains), "points", 0.0, at_most=False)
    notes = {"model": given.model, "epochs": EPOCHS, "batch_size": BATCH, "counts": COUNTS}
    return finish([claim, least], samples, given.json, notes)


if __name__ == "__main__":
    sys.exit(main())
