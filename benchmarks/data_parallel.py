"""Compares trainings shared by several processes with the same training by one, weight by weight, after 20 steps.

One process with batches of 32 against two with 16 each and three with 8, 4 and 20: LeNet (no batch norm), and ResNet-18
and YOLOv10-N with synchronised batch norms. Sums are taken in another order then, and float32 rounds otherwise: what
that alone does is shown by one process that computes its convolutions by another kernel; what a single step does, by
the weights of the step before. Deep networks with batch norm enlarge the least difference ten thousand times within 20
steps from random weights, whatever causes it, so theirs start from weights of a short training, as a fine-tuning does.

An activation that lies within rounding of zero lets a ReLU open in one run and not in another: the gradient jumps, and
float32 tells no more whether both compute the same. So ResNet-18 is compared in float64, the same training step on
parameters and images of that type, and its float32 runs are shown without a bound.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import Claim, finish, parser
from paddle_tk.environment.ranks import free_endpoints, own_rank, rank_environment

EPOCHS, STEPS, BATCH, BOUND, DOUBLE_BOUND = 2, 20, 32, 1e-5, 1e-10
SPLITS: dict[str, tuple[int, ...]] = {"2 x 16": (16, 16), "8 + 4 + 20": (8, 4, 20)}
COMMON = (
    "trainer.loggers=[]", "trainer.warmup_epochs=0", "trainer.schedule=constant", "trainer.leak_watch=off",
    "trainer.limit_val_batches=1",
)  # fmt: skip
COMPARED = (
    f"trainer.max_epochs={EPOCHS}", f"trainer.limit_train_batches={STEPS // EPOCHS}", "trainer.save_every_n_steps=1",
    "trainer.keep_last=3",
)  # fmt: skip
CLASSIFIER = ("data=digits", "data.num_workers=0", "trainer.optimizer=sgd")
DETECTOR = ("-c", str(ROOT / "configs" / "yolov10n.yaml"), "data=digits_detection", "data.image_size=64")


@dataclass(frozen=True)
class Case:
    """A training that is done by one process and by several.

    Attributes:
        settings: Of all its runs.
        rate: Learning rate of the compared steps.
        begin: Settings of a training whose weights they start from; empty: they start from random weights.
        double: Compute the compared steps in float64.
        bound: Largest difference of a weight, and relative one of a statistic; None: shown only.
    """

    settings: tuple[str, ...]
    rate: float
    begin: tuple[str, ...] = ()
    double: bool = False
    bound: float | None = BOUND


RESNET = Case(
    (*CLASSIFIER, "model=resnet18", "data.image_size=16", "trainer.sync_batch_norm=true"), 0.001,
    ("trainer.learning_rate=0.05", "trainer.max_epochs=2", "trainer.schedule=cosine"),
)  # fmt: skip
CASES = {
    "lenet, no batch norm": Case((*CLASSIFIER, "model=lenet", "data.image_size=28"), 0.01),
    "lenet, no batch norm, adamw": Case(
        (*CLASSIFIER[:2], "model=lenet", "data.image_size=28", "trainer.optimizer=adamw"), 0.001
    ),
    "resnet18, synchronised, float64": replace(RESNET, double=True, bound=DOUBLE_BOUND),
    "resnet18, synchronised, float32": replace(RESNET, bound=None),
    "yolov10n, synchronised": Case(
        (*DETECTOR, "trainer.sync_batch_norm=true", "trainer.optimizer=sgd", "trainer.ema_decay=0", "data.flip=0"),
        1e-3,
        ("trainer.optimizer=adamw", "trainer.learning_rate=0.002", "trainer.max_epochs=2", "trainer.schedule=cosine"),
    ),
}  # fmt: skip


def work(kind: str, folder: Path, overrides: Sequence[str]) -> int:
    """Trains as one process, alone or of a job, in float32 or float64."""
    from paddle_tk.config.load import load_config
    from paddle_tk.console import Output
    from paddle_tk.environment.start import start_paddle

    path, overrides = (Path(overrides[1]), overrides[2:]) if overrides[0] == "-c" else (None, overrides)
    loaded, rank = load_config(path, list(overrides)), own_rank()
    folder.mkdir(parents=True, exist_ok=True)
    start_paddle(1)
    import paddle

    # Parameters, the optimizer's state and the rate are made in it; images come in float32.
    paddle.set_default_dtype(kind)
    from paddle_tk.training.build import build_trainer
    from paddle_tk.training.distributed import connect

    parallel = connect(rank, "cpu") if rank is not None else None
    trainer = build_trainer(
        loaded.config, folder, loaded.sha256, "cpu", Output(quiet=True), parallel=parallel,
        adapt=lambda network, _: network.register_forward_pre_hook(lambda _, images: _cast(images, kind)),
    )  # fmt: skip
    trainer.run()
    return 0


def _cast(images: tuple[Any, ...], kind: str) -> tuple[Any, ...]:
    return tuple(image.astype(kind) for image in images)


def train(folder: Path, settings: Sequence[str], split: Sequence[int] = (BATCH,), kind: str = "float32") -> None:
    """Trains in as many processes as ``split`` has parts.

    Raises:
        RuntimeError: A process failed.
    """
    endpoints = free_endpoints(len(split))
    sizes = [f"data.batch_size={max(split)}"]
    if len(set(split)) > 1:
        sizes.append(f"trainer.rank_batch_sizes=[{','.join(map(str, split))}]")
    command = [
        sys.executable,
        __file__,
        "--work",
        kind,
        str(folder),
        *settings,
        f"data.batch_size={max(split)}",
        *sizes,
    ]
    job = [
        subprocess.Popen(
            command,
            env={**os.environ, **(rank_environment(rank, endpoints, 1) if len(split) > 1 else {})},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(len(split))
    ]  # fmt: skip
    said = [process.communicate()[0] for process in job]
    for process, output in zip(job, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {output[-2000:]}")


def weights_after(folder: Path, steps: int) -> dict[str, np.ndarray]:
    """Returns a run's weights after so many steps, of those that it has kept."""
    epoch, step = (steps - 1) // (STEPS // EPOCHS), (steps - 1) % (STEPS // EPOCHS) + 1
    checkpoint = folder / "checkpoints" / f"epoch-{epoch:04d}-step-{step:06d}"
    weights: dict[str, np.ndarray] = load_file(checkpoint / "model.safetensors")
    return weights


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """Returns the largest difference of a weight, that over the largest weight, and the statistics' largest.

    A running mean or variance, which grows with the activations, is compared with the largest of its layer.
    """
    statistics = {name for name in one if name.endswith(("_mean", "_variance"))}
    weights = max(float(np.abs(one[name] - other[name]).max()) for name in one if name not in statistics)
    largest = max(float(np.abs(one[name]).max()) for name in one if name not in statistics)
    moved = [np.abs(one[name] - other[name]).max() / max(1.0, np.abs(one[name]).max()) for name in statistics]
    return weights, weights / largest, float(max(moved, default=0.0))


def compare(work_folder: Path, name: str, case: Case) -> dict[str, tuple[float, float, float]]:
    """Returns the differences from one process, by what is compared with it; the first is itself, a step before."""
    base, start = work_folder / name.replace(", ", "-").replace(" ", "_"), []
    if case.begin:
        train(base / "begin", (*case.settings, *COMMON, *case.begin))
        start = [f"model.weights={base / 'begin' / 'model' / 'model.safetensors'}"]
    settings = (*case.settings, *COMMON, *COMPARED, f"trainer.learning_rate={case.rate}", *start)
    kind = "float64" if case.double else "float32"
    train(base / "one", settings, kind=kind)
    one = weights_after(base / "one", STEPS)
    found = {"a step before": differences(one, weights_after(base / "one", STEPS - 1))}
    train(base / "kernel", (*settings, "trainer.fast_conv=false"), kind=kind)
    found["another kernel"] = differences(one, weights_after(base / "kernel", STEPS))
    for label, split in SPLITS.items():
        train(base / label, settings, split, kind)
        found[label] = differences(one, weights_after(base / label, STEPS))
    return found


def main() -> int:
    """Compares every case and prints the largest differences."""
    if sys.argv[1:2] == ["--work"]:
        return work(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    arguments = parser(__doc__ or "", "data_parallel")
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    given = arguments.parse_args()
    claims, samples = [], {}
    print(f"largest difference from one process after {STEPS} steps: weights, relative to the largest, statistics")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.cases:
            for label, found in compare(Path(folder), name, CASES[name]).items():
                samples[f"{name}: {label}"] = list(found)
                print(f"{name:<34} {label:<16}" + "".join(f"{value:12.2e}" for value in found), flush=True)
                bound = CASES[name].bound
                if label in SPLITS and bound is not None:
                    claims.append(Claim(f"data_parallel {name}, {label}", max(found[0], found[2]), "", bound))
    return finish(claims, samples, given.json, {"unit": "absolute, relative, statistics", "steps": STEPS, "n": 1})


if __name__ == "__main__":
    sys.exit(main())
