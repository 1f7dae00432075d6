"""Can a detector learn real images at all? Overfits 16 of COCO128's, and runs an epoch over all 128 at 640 px.

Both through tools/train.py. The 16 images are the first by name that hold a box; training, validation and test are the
same 16, each standing ten times in a training epoch, without augmentation, so the test figure is the training set's.
For the epoch at 640 px the memory of the whole process tree is summed (PSS, so shared pages count once) every 50 ms.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Claim, finish, parser
from paddle_tk.data.boxes import DetectionSplit
from paddle_tk.data.datasets import load_dataset
from paddle_tk.data.formats.coco_json import CocoWriter

IMAGES, COPIES = 16, 10
CONFIGS = {"picodet": 18, "yolov10n": 18}  # epochs of 160 images
SETTINGS = (
    "data=coco", "data.image_size=320", "data.batch_size=8", "data.flip=0", "data.hsv=[0,0,0]",
    "data.scale_jitter=null", "data.mosaic=0", "trainer.learning_rate=0.003", "trainer.weight_decay=0",
    "trainer.ema_decay=0.98", "trainer.loggers=[]",
)  # fmt: skip
LARGE = ("data=coco128", "data.image_size=640", "data.batch_size=4", "trainer.max_epochs=1", "trainer.loggers=[]")


def pick(root: str | None) -> tuple[DetectionSplit, tuple[str, ...]]:
    """Returns the first 16 images by name that hold a box, and the class names."""
    bundle = load_dataset("coco128", root=root, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    splits = [s for s in bundle.splits.values() if isinstance(s, DetectionSplit)]
    named = sorted((split.name(i), number, i) for number, split in enumerate(splits) for i in range(len(split)))
    chosen = [(splits[n], i) for _, n, i in named if len(splits[n].boxes(i))][:IMAGES]
    paths, sizes, boxes = zip(*[(s.paths[i], s.sizes[i], s.boxes(i)) for s, i in chosen], strict=True)
    return DetectionSplit(paths, np.array(sizes), boxes), bundle.classes


def write_set(folder: Path, split: DetectionSplit, classes: Sequence[str]) -> None:
    """Writes the images as COCO: "train" with copies, "val" and "test" once."""
    writer = CocoWriter(classes, "COCO128", "see https://cocodataset.org")
    (folder / "annotations").mkdir(parents=True)
    for name, copies in (("train", COPIES), ("val", 1), ("test", 1)):
        (folder / name).mkdir()
        order = [number % len(split) for number in range(copies * len(split))]
        files = [f"{number:04d}{Path(split.name(source)).suffix}" for number, source in enumerate(order)]
        for file, source in zip(files, order, strict=True):
            shutil.copyfile(split.name(source), folder / name / file)
        sizes = [(int(split.sizes[i][0]), int(split.sizes[i][1])) for i in order]
        content = writer.document(files, sizes, [split.boxes(i) for i in order])
        (folder / "annotations" / f"instances_{name}.json").write_bytes(content)


def _tree_mib(process: psutil.Process) -> float:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


def train(config: str, settings: Sequence[str], run: Path) -> tuple[dict[str, float], float, float]:
    """Trains as a user would.

    Returns:
        The test figures, wall seconds, and the tree's peak memory in MiB.

    Raises:
        RuntimeError: The training failed.
    """
    command = [sys.executable, str(ROOT / "tools" / "train.py"), "-c", str(ROOT / "configs" / f"{config}.yaml")]
    began, peak = time.monotonic(), 0.0
    process = subprocess.Popen([*command, *settings, "--run-dir", str(run)], env=os.environ.copy())
    while process.poll() is None:
        peak = max(peak, _tree_mib(psutil.Process(process.pid)))
        time.sleep(0.05)
    if process.returncode != 0:
        raise RuntimeError(f"{config} ended with exit code {process.returncode}")
    return json.loads((run / "result.json").read_text())["final"], time.monotonic() - began, peak


def main() -> int:
    """Trains both detectors twice and prints what they learned, in what time and memory."""
    arguments = parser(__doc__ or "", "detection_overfit")
    arguments.add_argument("--root", help="COCO128's folder or archive (default: where data=coco128 looks for it)")
    arguments.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    arguments.add_argument("--skip-epoch", action="store_true", help="leave the epoch at 640 px out")
    given = arguments.parse_args()
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_set(work / "data", *pick(given.root))
        for config in given.configs:
            settings = (*SETTINGS, f"data.root={work / 'data'}", f"trainer.max_epochs={CONFIGS[config]}")
            final, seconds, _ = train(config, settings, work / config)
            claims.append(
                Claim(f"{config} mAP50 of {IMAGES} train images", final["map50"], "share", 0.8, at_most=False)
            )
            claims.append(Claim(f"{config} overfit time", seconds / 60, "min", 25))
            samples[f"{config} overfit"] = [final["map50"], final["map50_95"], seconds]
        for config in [] if given.skip_epoch else given.configs:
            root = (f"data.root={given.root}",) if given.root else ()
            _, seconds, peak = train(config, (*LARGE, *root), work / f"{config}-640")
            claims.append(Claim(f"{config} peak memory, 128 images at 640 px", peak / 1024, "GiB", 4))
            samples[f"{config} epoch at 640 px"] = [peak, seconds]
    return finish(claims, samples, given.json, {"unit": "share, share, seconds; MiB, seconds"})


if __name__ == "__main__":
    sys.exit(main())
