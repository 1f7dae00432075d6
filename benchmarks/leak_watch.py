"""The leak watch through the real trainer: planted leaks are reported, clean runs are not.

Every run is a process of its own. The leaks are 1 MB a batch: a callback that keeps a tensor, and one that keeps bytes
outside Paddle's allocator. The clean runs are classification (with and without workers, averaged weights, accumulation,
recompute, frequent checkpoints) and detection (mosaic, batches of several sizes).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import Claim, finish, parser

WITHIN = 200  # batches after the leak began
LEAST_BATCHES = 250  # of a clean run
BEGAN_WITHIN = 24  # batches: two blocks of the shortest window
RATE_WITHIN = 0.15
MOST_OVERHEAD = 0.02
_RUN = ("trainer.max_retries=0", "trainer.loggers=[visualdl]", "trainer.learning_rate=0.002")
_DIGITS = (*_RUN, "data=digits", "data.num_workers=0", "data.batch_size=8", "trainer.max_epochs=2")
_LENET = (*_DIGITS, "model=lenet", "data.image_size=28")
_SMALL = (*_DIGITS, "model=shufflenet_v2_x0_25", "data.image_size=32")
_BOXES = (*_RUN, "trainer=detection", "data=digits_detection", "data.num_workers=0", "data.image_size=64")
_PICODET = (*_BOXES, "model=picodet_xs", "data.batch_size=2", "trainer.max_epochs=2", "data.mosaic_off_epochs=1")
_SIZES = "data.multi_scale=[0.75,1.5]"
CLEAN: dict[str, tuple[str, ...]] = {
    **{f"lenet, seed {seed}": (*_LENET, f"seed={seed}") for seed in range(3)},
    **{f"lenet, 2 workers, seed {seed}": (*_LENET, "data.num_workers=2", f"seed={seed}") for seed in range(3)},
    "lenet, batch 4, 4 epochs": (*_LENET, "data.batch_size=4", "trainer.max_epochs=4"),
    "lenet, averaged weights": (*_LENET, "trainer.ema_decay=0.99"),
    "lenet, accumulation": (*_LENET, "trainer.accumulate_grad_batches=4"),
    "lenet, checkpoints every 10 updates": (*_LENET, "trainer.save_every_n_steps=10"),
    "lenet, 16 short epochs": (*_LENET, "trainer.max_epochs=16", "trainer.limit_train_batches=20"),
    "lenet, recompute": (*_LENET, "trainer.recompute=true"),
    "lenet, mixup and adamw": (*_LENET, "trainer.mixup_alpha=0.2", "trainer.optimizer=adamw"),
    "shufflenet": _SMALL,
    "shufflenet, 2 workers, averaged weights": (*_SMALL, "data.num_workers=2", "trainer.ema_decay=0.99"),
    "shufflenet, recompute, accumulation": (*_SMALL, "trainer.recompute=true", "trainer.accumulate_grad_batches=2"),
    "picodet, mosaic": (*_PICODET, "data.mosaic=0.5"),
    "picodet, several sizes": (*_PICODET, _SIZES),
    "picodet, mosaic, several sizes, 2 workers": (*_PICODET, "data.mosaic=0.5", _SIZES, "data.num_workers=2"),
    "yolov10, mosaic, several sizes": (
        *(*_BOXES, "model=yolov10n", "data.mosaic=0.5", _SIZES),
        *(
            "data.batch_size=2",
            "trainer.max_epochs=2",
            "trainer.limit_train_batches=150",
            "trainer.limit_val_batches=4",
        ),
    ),
}
# What leaks, the batch after which it does, and the run.
LEAKS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "tensors": ("tensor", 60, _LENET),
    "bytes": ("bytes", 60, (*_LENET, "trainer.ema_decay=0.99")),
    "tensors, 2 workers": ("tensor", 100, (*_LENET, "data.num_workers=2", "data.batch_size=4")),
    "bytes, detection of several sizes": ("bytes", 40, (*_PICODET, "data.mosaic=0.5", _SIZES)),
}


def _keeper(leak: str, after: int) -> Any:
    """Returns a callback that keeps 1 MB more with every batch after some."""
    import paddle

    class Keeper(paddle.callbacks.Callback):
        """Keeps 1 MB more with every batch."""

        def __init__(self) -> None:
            super().__init__()
            self.kept: list[Any] = []
            self.batches = 0

        def on_train_batch_end(self, step: int, logs: dict[str, Any] | None = None) -> None:
            self.batches += 1
            if leak and self.batches > after:
                self.kept.append(paddle.zeros([2**18]) if leak == "tensor" else b"\1" * 2**20)

    return Keeper()


def _timed(watch: Any) -> list[float]:
    """Lets a callback note the milliseconds that it takes for a batch."""
    took: list[float] = []
    plain = watch.on_train_batch_end

    def timed(step: int, logs: dict[str, Any] | None = None) -> None:
        began = time.perf_counter()
        plain(step, logs)
        took.append((time.perf_counter() - began) * 1000)

    watch.on_train_batch_end = timed
    return took


def _child(overrides: list[str], leak: str, after: int, folder: Path) -> None:
    """Trains in this process and prints what was seen as JSON."""
    from paddle_tk.config.load import load_config
    from paddle_tk.console import Output
    from paddle_tk.environment.start import start_paddle

    loaded = load_config(None, overrides)
    start_paddle(loaded.config.trainer.cpu_threads)
    from paddle_tk.training.build import build_trainer
    from paddle_tk.training.callbacks.leak_watch import LEAKS as FILE
    from paddle_tk.training.callbacks.leak_watch import LeakWatch

    folder.mkdir(parents=True)
    trainer = build_trainer(loaded.config, folder, loaded.sha256, "cpu", Output(quiet=True))
    make, keeper = trainer.make_callbacks, _keeper(leak, after)
    times: list[list[float]] = []

    def with_keeper(records: list[dict[str, Any]]) -> list[Any]:
        made = list(make(records))
        times.extend(_timed(callback) for callback in made if isinstance(callback, LeakWatch))
        return [keeper, *made]

    trainer.make_callbacks = with_keeper
    trainer.run()
    found = json.loads((folder / FILE).read_text(encoding="utf-8"))["growth"] if (folder / FILE).is_file() else []
    steps = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    progress = trainer.model.progress
    print(
        json.dumps(
            {
                "batches": keeper.batches,
                "growth": found,
                "watch_ms": statistics.mean(times[0]),
                "batch_ms": progress.train_seconds / keeper.batches * 1000,
                "host_rss_mb": [step["host_rss_mb"] for step in steps if step["kind"] == "step"],
            }
        )
    )


def _run(name: str, overrides: tuple[str, ...], leak: str = "", after: int = 0) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as base:
        command = [sys.executable, __file__, "--child", leak, "--after", str(after), "--folder", f"{base}/run"]
        began = time.perf_counter()
        done = subprocess.run([*command, *overrides], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"| {name} | {found['batches']} | {found['host_rss_mb'][0]:.0f} -> {found['host_rss_mb'][-1]:.0f} | "
        f"{len(found['growth'])} | {found['watch_ms']:.3f} | {found['batch_ms']:.1f} | "
        f"{time.perf_counter() - began:.0f} |",
        flush=True,
    )
    return found


def _leak_claims(name: str, after: int, found: dict[str, Any]) -> list[Claim]:
    if not found["growth"]:
        return [Claim(f"leak of {name}: reports", 0, "reports", 1, at_most=False)]
    first = found["growth"][0]
    print(f"  {first['text']}", flush=True)
    kinds = {"tensors": "allocator", "bytes": "host"}
    return [
        Claim(f"leak of {name}: reported after", first["found_batch"] - after, "batches", WITHIN),
        Claim(f"leak of {name}: beginning off by", abs(first["began_batch"] - after - 1), "batches", BEGAN_WITHIN),
        Claim(f"leak of {name}: growth off by", abs(first["mb_per_batch"] - 1.0), "MB a batch", RATE_WITHIN),
        Claim(
            f"leak of {name}: kind right", float(first["kind"] == kinds[name.split(",")[0]]), "of 1", 1, at_most=False
        ),
    ]


def main() -> int:
    """Runs the planted leaks, then the clean runs."""
    arguments = parser(__doc__ or "", "leak_watch")
    arguments.add_argument("--only", choices=("leaks", "clean"), help="one half of it")
    arguments.add_argument("--child", metavar="LEAK", help="train in this process (used by this script)")
    arguments.add_argument("--after", type=int, default=0, help="batch after which it leaks, with --child")
    arguments.add_argument("--folder", type=Path, help="run folder, with --child")
    arguments.add_argument("overrides", nargs="*", help="with --child")
    given = arguments.parse_args()
    if given.child is not None:
        _child(given.overrides, given.child, given.after, given.folder)
        return 0
    print("| run | batches | host RSS, MB | reports | watch, ms a batch | batch, ms | seconds in all |")
    print("|" + "---|" * 7)
    claims: list[Claim] = []
    runs: dict[str, dict[str, Any]] = {}
    if given.only != "clean":
        for name, (leak, after, overrides) in LEAKS.items():
            runs[f"leak of {name}"] = _run(f"leak of {name}", overrides, leak, after)
            claims.extend(_leak_claims(name, after, runs[f"leak of {name}"]))
    if given.only != "leaks":
        clean = {name: _run(name, overrides) for name, overrides in CLEAN.items()}
        false_alarms = sum(len(found["growth"]) > 0 for found in clean.values())
        claims.append(Claim(f"false alarms in {len(clean)} clean runs", false_alarms, "runs", 0))
        fewest = min(found["batches"] for found in clean.values())
        claims.append(Claim("batches of the shortest clean run", fewest, "batches", LEAST_BATCHES, at_most=False))
        shares = [found["watch_ms"] / found["batch_ms"] for found in clean.values()]
        claims.append(
            Claim("time of the watch, median of the clean runs", statistics.median(shares), "of a batch", MOST_OVERHEAD)
        )
        runs |= clean
    samples = {name: found["host_rss_mb"] for name, found in runs.items()}
    return finish(claims, samples, given.json, {"unit": "MB", "runs": runs, "load": os.getloadavg()})


if __name__ == "__main__":
    sys.exit(main())
