"""Does --target-latency hold its promise on this machine? ResNet-18 and PicoDet-S, in fresh processes afterwards.

For each network a first search with a limit that everything keeps tells the quickest and the slowest candidate. Two
limits on p95 are then asked for: the geometric mean of their medians, and a tight one, 1.4 times the smallest p95 that
was measured with care. What was chosen is loaded by its latency.json in fresh processes and timed there. A limit of
0.01 ms must be refused with exit code 1 and leave nothing behind.

A run that is not given is trained on embedded data, for as long as it takes to be worth quantizing, not to be good.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._int8 import quantized
from benchmarks._report import Claim, finish, parser

COMMAND = (sys.executable, str(ROOT / "tools/optimize_for_edge.py"))
SHORT = {
    "resnet18": ("resnet18.yaml", "data=digits", "model.stem=imagenet", "data.image_size=64", "trainer.max_epochs=6"),
    "picodet": ("picodet.yaml", "trainer.max_epochs=12"),
}
LAX, IMPOSSIBLE = "60s", "0.01ms"
TIGHT = 1.4  # times the smallest p95: the margin of the search, and some noise
LIMIT_WAS_BROKEN = 1  # the exit code


def _run(name: str, given: Path | None, work: Path) -> Path:
    """Returns a finished run: the given one, an earlier one of this benchmark, or one that is trained now."""
    if given is not None:
        return given
    run = work / "run"
    if not (run / "result.json").is_file():
        config, *overrides = SHORT[name]
        command = [sys.executable, str(ROOT / "tools/train.py"), "-c", str(ROOT / "configs" / config), *overrides]
        resume = ["--resume", str(run)] if run.is_dir() else []
        print(f"  training {name}: {' '.join(overrides)}", file=sys.stderr, flush=True)
        subprocess.run([*command, "--run-dir", str(run), *resume], check=True, stdout=subprocess.DEVNULL)
    return run


def _search(run: Path, output: Path, target: str, *options: str) -> int:
    """Runs the latency mode as a user would; returns the exit code."""
    command = [*COMMAND, "--model-path", str(run), "--output", str(output), "--target-latency", target, *options]
    return subprocess.run([*command, "--quiet"], check=False, stdout=sys.stderr).returncode


def _said(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "latency.json").read_text(encoding="utf-8")))


def _targets(said: Mapping[str, Any]) -> dict[str, float]:
    """Returns limits between the quickest and the slowest candidate, in ms, by name."""
    medians = [entry["screening"]["p50_ms"] for entry in said["candidates"] if entry["screening"] is not None]
    careful = [entry["careful"]["p95_ms"] for entry in said["candidates"] if entry["careful"] is not None]
    print(f"  {len(medians)} candidates, medians from {min(medians):.3f} to {max(medians):.3f} ms", flush=True)
    return {
        "middle": round(math.sqrt(min(medians) * max(medians)), 3),
        "tight": round(TIGHT * min(careful), 3),
    }


def _verified(folder: Path, repeats: int) -> tuple[float, ...]:
    """Loads what was chosen in a fresh process and returns the ms of each batch."""
    threads = str(_said(folder)["settings"]["threads"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, str(Path(__file__).resolve()), "--time", str(folder), "--repeats", str(repeats)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def _time(folder: Path, repeats: int) -> int:
    """The fresh process: follows latency.json to the letter and prints the ms of each batch."""
    from paddle_tk.environment.start import start_paddle
    from paddle_tk.runtime.base import noise_batch
    from paddle_tk.runtime.load import load_predictor, open_model
    from paddle_tk.runtime.timing import sample_ms

    said = _said(folder)
    own, warmup = said["settings"], said["runner"]["warmup"]
    source = open_model(folder / said["model"])
    if own["affinity"]:
        os.sched_setaffinity(0, own["affinity"])
    if own["engine"].startswith("paddle"):
        start_paddle(own["threads"])
    predictor = load_predictor(source, engine=own["engine"], threads=own["threads"], options=said["options"])
    if len(own["affinity"]) > 1 and "affinity" in said["options"]:
        os.sched_setaffinity(0, {own["affinity"][0]})
    batch = noise_batch(source.artifact, own["batch_size"])
    print(json.dumps(sample_ms(lambda: predictor.predict(batch), repeats=repeats, warmup=warmup)))
    return 0


def _kept(name: str, target: float, folder: Path, given: argparse.Namespace, samples: dict[str, list[float]]) -> float:
    """Verifies what a search has chosen; returns the p95 of the worst process / the limit."""
    import numpy as np

    said = _said(folder)
    rounds = [_verified(folder, given.repeats) for _ in range(given.processes)]
    p95 = [float(np.percentile(found, 95)) for found in rounds]
    samples[f"{name} ms"] = [sample for found in rounds for sample in found]
    samples[f"{name} p95 of each process, ms"] = p95
    accuracy = said["accuracy"]
    print(
        f"{name}: limit {target} ms on p95: {said['chosen']}, {accuracy['metric']} {accuracy['chosen']:.4f} (FP32 "
        f"{accuracy['fp32']:.4f}, n={accuracy['n']}); p95 in {len(p95)} fresh processes of {given.repeats} runs "
        f"{', '.join(f'{value:.2f}' for value in p95)} ms",
        flush=True,
    )
    for row in said["published_targets"]:
        figure = "" if row["figure"] is None else f" ({row['figure']:.4g} {row['unit']})"
        print(f"  {row['target']}: {row['verdict']}{figure}", flush=True)
    return max(p95) / target


def _network(
    name: str, run: Path, work: Path, given: argparse.Namespace, samples: dict[str, list[float]]
) -> list[Claim]:
    # Made once for all searches; the search itself holds its accuracy against the allowed drop.
    made = quantized(run, work / "int8", "quantize.latency_rounds=0")
    int8 = ("--int8-model", str(made.folder))
    if _search(run, work / LAX, LAX, *int8) != 0:
        raise SystemExit(f"{name}: even {LAX} was not kept")
    claims = []
    for kind, target in _targets(_said(work / LAX)).items():
        told = f"{name}, {kind} limit"
        if _search(run, work / kind, f"{target}ms", *int8) != 0:
            claims.append(Claim(f"{told}: something keeps {target} ms", 0.0, "", 1.0, at_most=False))
            continue
        ratio = _kept(told, target, work / kind, given, samples)
        claims.append(Claim(f"{told}: p95 of the worst of {given.processes} processes / limit", ratio, "ratio", 1.0))
    refused = _search(run, work / "refused", IMPOSSIBLE, "--quantization", "fp32") == LIMIT_WAS_BROKEN
    clean = refused and not (work / "refused").exists()
    return [*claims, Claim(f"{name}: {IMPOSSIBLE} is refused, nothing is left", float(clean), "", 1.0, at_most=False)]


def main() -> int:
    """Searches, verifies and compares; or, with ``--time``, is one of the fresh processes."""
    arguments = parser(__doc__ or "", "target_latency")
    for name in SHORT:
        arguments.add_argument(f"--{name}", type=Path, metavar="RUN", help="a finished run (default: a short training)")
    arguments.add_argument("--networks", nargs="+", choices=tuple(SHORT), default=list(SHORT))
    arguments.add_argument(
        "--work", type=Path, default=Path("outputs/benchmarks/target_latency"), help="where files go"
    )
    arguments.add_argument("--processes", type=int, default=3, help="fresh processes that verify (default: 3)")
    arguments.add_argument("--repeats", type=int, default=200, help="timed runs in each of them (default: 200)")
    arguments.add_argument("--time", type=Path, metavar="D", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.time is not None:
        return _time(given.time, given.repeats)
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for name in given.networks:
        work = given.work / name
        claims += _network(name, _run(name, getattr(given, name), work), work, given, samples)
    return finish(claims, samples, given.json, {"unit": "ms per batch of one image", "percentile": 95})


if __name__ == "__main__":
    sys.exit(main())
