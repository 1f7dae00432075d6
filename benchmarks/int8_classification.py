"""INT8 classifiers made from Paddle 3: accuracy, size and latency against FP32 and ONNX Runtime's own static PTQ.

ResNet-18 and MobileNetV2 at 64 px on CIFAR-10, all 10,000 test images; every observer, and QAT beside PTQ. Latency in
ONNX Runtime, one thread, fresh sessions in turn. Files for 224 px are for latency only.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._int8 import (
    Made,
    add_runs,
    calibration_images,
    exported,
    latencies,
    own_static_ptq,
    parity,
    quantized,
    trained_run,
)
from benchmarks._report import Claim, finish, parser

_ALGORITHMS = ("abs_max", "hist", "avg", "kl", "mse", "emd")
_LARGE = (224, 224)
_QAT = ("--method", "qat", "quantize.epochs=1", "trainer.limit_train_batches=60")


@dataclass(frozen=True)
class Bounds:
    """What a network's INT8 form must keep to."""

    drop: float
    agreement: float
    size: float
    latency: float


NETWORKS = {"resnet18": Bounds(0.005, 0.99, 0.255, 0.41), "mobilenet_v2": Bounds(0.007, 0.98, 0.27, 0.62)}


def _row(name: str, made: Made) -> str:
    r = made.report
    return (
        f"  {name:<24} {r['accuracy_fp32']:.4f} {r['accuracy_int8']:.4f} {100 * r['drop']:+6.2f} points, same argmax "
        f"{r['agreement']:.4f}, size {r['size_ratio']:.4f} (n={r['n']})"
    )


def _accuracy(name: str, run: Path, work: Path, algorithms: tuple[str, ...]) -> dict[str, Made]:
    found = {}
    for algorithm in algorithms:
        options = ("--algorithm", algorithm, "quantize.latency_rounds=0")
        found[algorithm] = quantized(run, work / algorithm, *options)
        print(_row(f"PTQ {algorithm}", found[algorithm]), flush=True)
    run_dir = str(work / "qat_run")
    found["qat"] = quantized(run, work / "qat", *_QAT, "--run-dir", run_dir, "quantize.latency_rounds=0")
    print(_row("QAT, 60 updates", found["qat"]), flush=True)
    return found


def _speed(run: Path, work: Path, made: Made, rounds: int, samples: dict[str, list[float]]) -> dict[str, float]:
    """Returns INT8 / FP32 and INT8 / ONNX Runtime's own, at the trained size and at 224 px."""
    ratios = {}
    for size in (None, _LARGE):
        label = "64 px" if size is None else "224 px"
        fp32, int8 = work / "fp32" / "model.onnx", made.file
        if size is not None:
            options = ("--input-size", "224x224", "--allow-unvalidated")
            fp32 = exported(run, work / "fp32-224", *options)
            int8 = quantized(run, work / "int8-224", *options, "--samples", "64", "quantize.latency_rounds=0").file
        images = calibration_images(run, 512 if size is None else 64, size)
        own = own_static_ptq(fp32, work / f"own-{label[:-3]}.onnx", images)
        times = latencies({"fp32": fp32, "int8": int8, "own": own}, run, rounds=rounds, repeats=30, size=size)
        for name, entry in times.items():
            samples[f"{work.name} {label} {name} ms"] = list(entry.per_round_median_ms)
        ratios[f"{label}, INT8 / FP32"] = times["int8"].ratio(times["fp32"])
        ratios[f"{label}, INT8 / ONNX Runtime's own PTQ"] = times["int8"].ratio(times["own"])
        print(
            f"  {label}: " + ", ".join(f"{k} {e.p50_ms:.2f} ms (p95 {e.p95_ms:.2f}, n={e.n})" for k, e in times.items())
        )
    return ratios


def _engine(work: Path, made: Made, rounds: int, samples: dict[str, list[float]]) -> dict[str, float]:
    """Returns, by size, latency of INT8 in the engine that "auto" takes / that of FP32 in ONNX Runtime."""
    from paddle_tk.measure.latency import interleaved
    from paddle_tk.runtime.base import noise_batch
    from paddle_tk.runtime.choose import choose_engine
    from paddle_tk.runtime.load import load_predictor, open_model

    ratios = {}
    for label, folder, parent in (("64 px", made.folder, "fp32"), ("224 px", work / "int8-224", "fp32-224")):
        fp32, int8 = open_model(work / parent), open_model(folder)
        choice = choose_engine(int8.artifact, int8.file, threads=1)
        times = interleaved(
            {
                "fp32": partial(load_predictor, fp32, threads=1, engine="onnxruntime"),
                "int8": partial(load_predictor, int8, threads=1, engine=choice.name),
            },
            noise_batch(int8.artifact, 1),
            rounds=rounds,
        )
        samples[f"{work.name} {label} int8 in {choice.name} ms"] = list(times["int8"].per_round_median_ms)
        ratios[label] = times["int8"].ratio(times["fp32"])
        print(f"  {label}, {choice.line()}: {ratios[label]:.3f} of FP32 in ONNX Runtime", flush=True)
    return ratios


def _network(name: str, run: Path, work: Path, rounds: int, algorithms: tuple[str, ...],
             samples: dict[str, list[float]]) -> list[Claim]:  # fmt: skip
    bounds = NETWORKS[name]
    print(f"{name}:", flush=True)
    exported(run, work / "fp32", "--samples", "2000")
    same = parity(work / "fp32")
    found = _accuracy(name, run, work, algorithms)
    best = found["abs_max"]
    ratios = _speed(run, work, best, rounds, samples)
    report = best.report
    claims = [
        Claim(f"{name}: FP32 ONNX against Paddle, largest difference of a logit", same["max_abs_difference"], "", 1e-4),
        Claim(f"{name}: FP32 ONNX, same top-1, n={same['n']}", same["top1_agreement"], "share", 1.0, False),
        Claim(f"{name}: INT8 drop", 100 * report["drop"], "points", 100 * bounds.drop),
        Claim(f"{name}: INT8 same argmax", report["agreement"], "share", bounds.agreement, False),
        Claim(f"{name}: INT8 size", report["size_ratio"], "of FP32", bounds.size),
    ]
    if name == "resnet18":
        claims.append(Claim(f"{name}: FP32 top-1", report["accuracy_fp32"], "share", 0.65, False))
        # At 64 px the time goes into reading the weights, of which INT8 has a quarter; it is printed, not bounded.
        share = _engine(work, best, rounds, samples)["224 px"]
        told = f"{name}: 224 px, INT8 in the engine of --engine auto / FP32 in ONNX Runtime"
        claims.append(Claim(told, share, "ratio", 0.2))
    for label, ratio in ratios.items():
        claims.append(Claim(f"{name}: {label}", ratio, "ratio", 1.05 if "own" in label else bounds.latency))
    return claims


def main() -> int:
    """Quantizes, measures and compares."""
    arguments = parser(__doc__ or "", "int8_classification")
    add_runs(arguments, tuple(NETWORKS))
    arguments.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    arguments.add_argument("--algorithms", nargs="+", choices=_ALGORITHMS, default=list(_ALGORITHMS))
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    start_paddle(1)
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for name in given.networks:
        run = trained_run(name, given)
        algorithms = tuple(dict.fromkeys(["abs_max", *given.algorithms]))
        claims += _network(name, run, given.work / name, given.rounds, algorithms, samples)
    return finish(claims, samples, given.json, {"threads": 1, "engine": "onnxruntime"})


if __name__ == "__main__":
    sys.exit(main())
