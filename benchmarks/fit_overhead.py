"""Step time through our trainer, through a bare Paddle loop, and through stock ``paddle.Model.fit``.

Each measurement is a fresh process (threads are set before Paddle is imported) on the same network, batch and
optimizer: ResNet-18, 32x32 px, batch 32, AdamW. "stock" is ``paddle.Model.fit`` as Paddle sets it up: one CPU thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, interleaved, paired_ratio, parser

BATCH, SIZE, CLASSES, WARMUP = 32, 32, 10, 3


def _data(steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    count = BATCH * (steps + WARMUP)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return images, rng.integers(0, CLASSES, count)


def _network() -> Any:
    import paddle

    from paddle_tk.models.classifiers import build_classifier

    paddle.seed(0)
    return build_classifier("resnet18", num_classes=CLASSES, stem="imagenet", image_size=(SIZE, SIZE))


def _clock() -> Any:
    import paddle

    class Clock(paddle.callbacks.Callback):
        """Marks the end of every training batch."""

        def __init__(self) -> None:
            super().__init__()
            self.marks: list[float] = []

        def on_train_batch_end(self, step: int, logs: Any = None) -> None:
            self.marks.append(time.perf_counter())

    return Clock()


def measure_ours(steps: int, *extra: str) -> list[float]:
    """Through FitModel with all callbacks of a run but the pictures; checkpoints at the end only."""
    from paddle_tk.config.load import load_config
    from paddle_tk.console import Output
    from paddle_tk.environment.start import start_paddle

    overrides = [
        "data=digits", f"data.image_size={SIZE}", f"data.batch_size={BATCH}", "data.crop_padding=0", "model=resnet18",
        "model.stem=imagenet", "trainer.optimizer=adamw", "trainer.learning_rate=0.001", "trainer.max_epochs=1",
        f"trainer.limit_train_batches={steps + WARMUP}", "trainer.limit_val_batches=1", "trainer.label_smoothing=0.0",
    ]  # fmt: skip
    loaded = load_config(None, [*overrides, *extra])
    start_paddle(loaded.config.trainer.cpu_threads)
    from paddle_tk.training.build import build_trainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(loaded.config, Path(folder), loaded.sha256, "cpu", Output(quiet=True))
        clock, make = _clock(), trainer.make_callbacks
        trainer.make_callbacks = lambda records: [*make(records), clock]
        trainer.run()
    return [float(d) for d in np.diff(clock.marks)[WARMUP - 1 :]]


def measure_ours_plain(steps: int) -> list[float]:
    """Ours with Paddle's convolution kernel alone: what the trainer itself costs."""
    return measure_ours(steps, "trainer.fast_conv=false")


def measure_bare(steps: int) -> list[float]:
    """A loop that an expert would write: same loader, forward, loss, backward, step."""
    from paddle_tk.environment.start import start_paddle

    start_paddle("auto")
    import paddle

    from paddle_tk.data.datasets import load_dataset
    from paddle_tk.data.loader import TrainLoader
    from paddle_tk.data.transforms import TrainTransform
    from paddle_tk.types import Preprocessing

    bundle = load_dataset("digits", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    transform = TrainTransform(
        Preprocessing((SIZE, SIZE)), flip=0.0, crop_padding=0, random_resized_crop=None, color_jitter=0.0,
        rotation_degrees=0.0,
    )  # fmt: skip
    loader = TrainLoader(
        bundle.splits["train"], transform, batch_size=BATCH, seed=0, num_workers=0, prefetch_factor=2,
        limit_batches=steps + WARMUP,
    )  # fmt: skip
    network, loss = _network(), paddle.nn.CrossEntropyLoss()
    optimizer = paddle.optimizer.AdamW(0.001, parameters=network.parameters())
    network.train()
    loader.start(0)
    marks = []
    for images, labels in loader:
        value = loss(network(images), labels)
        value.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(value)
        marks.append(time.perf_counter())
    return [float(d) for d in np.diff(marks)[WARMUP - 1 :]]


def measure_stock(steps: int) -> list[float]:
    """``paddle.Model.fit`` as it comes: Paddle's own thread default, its own loader and callbacks."""
    import paddle

    images, labels = _data(steps)

    class Data(paddle.io.Dataset):
        """The same pixels, normalised as usual."""

        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            scaled = images[index].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
            return scaled, labels[index : index + 1]

    network = _network()
    model = paddle.Model(network)
    optimizer = paddle.optimizer.AdamW(0.001, parameters=network.parameters())
    model.prepare(optimizer, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    clock = _clock()
    model.fit(Data(), batch_size=BATCH, epochs=1, verbose=0, callbacks=[clock])
    return [float(d) for d in np.diff(clock.marks)[WARMUP - 1 :]]


JOBS = {"ours": measure_ours, "ours_plain": measure_ours_plain, "bare": measure_bare, "stock": measure_stock}


def _in_fresh_process(name: str, steps: int) -> float:
    """Returns the median step time in milliseconds."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, __file__, "--one", name, "--steps", str(steps)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(np.median(json.loads(run.stdout.splitlines()[-1]))) * 1000


def main() -> int:
    """Runs all three in turn and compares."""
    arguments = parser(__doc__ or "", "fit_overhead")
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--one", choices=JOBS, help="measure one in this process and print its step times, s")
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(JOBS[given.one](given.steps)))
        return 0
    samples = interleaved({name: lambda n=name: _in_fresh_process(n, given.steps) for name in JOBS}, given.repeats)  # type: ignore[misc]
    print(f"{'loop':<12}{'median step, ms':>18}{'n':>6}")
    for name, values in samples.items():
        print(f"{name:<12}{float(np.median(values)):>18.1f}{len(values):>6}")
    claims = [
        Claim(
            "fit_overhead ours without fast_conv / bare",
            paired_ratio(samples["ours_plain"], samples["bare"]),
            "ratio",
            1.03,
        ),
        Claim("fit_overhead ours / bare", paired_ratio(samples["ours"], samples["bare"]), "ratio", 1.03),
        Claim("fit_overhead ours / stock", paired_ratio(samples["ours"], samples["stock"]), "ratio", 0.75),
    ]
    return finish(claims, samples, given.json, {"unit": "ms", "steps_per_sample": given.steps})


if __name__ == "__main__":
    sys.exit(main())
