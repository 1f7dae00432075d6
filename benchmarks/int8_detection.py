"""INT8 detectors on the embedded digits: mAP against FP32, and latency at 320 px with and without ReLU6.

PicoDet-S and YOLOv10-N at 128 px, 120 test images. Latency in ONNX Runtime, one thread, fresh sessions in turn, of
files for 320 px that are for latency only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._int8 import ROOT, add_runs, exported, latencies, parity, quantized, trained_run
from benchmarks._report import Claim, finish, parser

NETWORKS = ("picodet", "yolov10n", "picodet_relu6", "yolov10n_relu6")
_SIZE = (320, 320)
_DROP, _LATENCY, _IOU = 0.02, 0.72, 0.99


def _refused(run: Path, work: Path) -> bool:
    """Whether ``tools/quantize.py`` refuses a file that is slower than FP32."""
    command = [sys.executable, str(ROOT / "tools/quantize.py"), "--model", str(run), "--output", str(work / "shipped"),
               "--input-size", "320x320", "--allow-unvalidated", "--samples", "32"]  # fmt: skip
    return subprocess.run(command, check=False, capture_output=True).returncode == 1


def _network(name: str, run: Path, work: Path, rounds: int, samples: dict[str, list[float]]) -> list[Claim]:
    exported(run, work / "fp32", "--samples", "120")
    same = parity(work / "fp32")
    made = quantized(run, work / "int8", "quantize.latency_rounds=0")
    figures = made.report["all_metrics"]
    large = ("--input-size", "320x320", "--allow-unvalidated")
    files = {
        "fp32": exported(run, work / "fp32-320", *large),
        "int8": quantized(run, work / "int8-320", *large, "--samples", "32", "quantize.latency_rounds=0").file,
    }
    times = latencies(files, run, rounds=rounds, repeats=20, size=_SIZE)
    ratio = times["int8"].ratio(times["fp32"])
    for key, entry in times.items():
        samples[f"{name} {key} ms"] = list(entry.per_round_median_ms)
    before, after = figures["fp32"], figures["int8"]
    print(
        f"{name}: mAP50 {before['map50']:.4f} -> {after['map50']:.4f}, mAP50-95 {before['map50_95']:.4f} -> "
        f"{after['map50_95']:.4f}, same detections {figures['agreement']:.4f} of {figures['agreement_n']} "
        f"(n={figures['n']}); size {made.report['size_ratio']:.4f}; 320 px: {times['fp32'].p50_ms:.2f} -> "
        f"{times['int8'].p50_ms:.2f} ms, ratio {ratio:.3f} (n={times['int8'].n})",
        flush=True,
    )
    claims = [
        Claim(f"{name}: FP32 ONNX boxes against Paddle's, least IoU", same["min_iou"], "", _IOU, False),
        Claim(f"{name}: INT8 drop of mAP50", 100 * (before["map50"] - after["map50"]), "points",
              100 * _DROP),
    ]  # fmt: skip
    if name.endswith("relu6"):
        claims.append(Claim(f"{name}: INT8 / FP32 latency, 320 px", ratio, "ratio", _LATENCY))
    elif ratio > 1:
        claims.append(Claim(f"{name}: a slower INT8 file is refused", float(_refused(run, work)), "", 1.0, False))
    return claims


def main() -> int:
    """Quantizes, measures and compares."""
    arguments = parser(__doc__ or "", "int8_detection")
    add_runs(arguments, NETWORKS)
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    start_paddle(1)
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for name in given.networks:
        claims += _network(name, trained_run(name, given), given.work / name, given.rounds, samples)
    return finish(claims, samples, given.json, {"threads": 1, "engine": "onnxruntime"})


if __name__ == "__main__":
    sys.exit(main())
