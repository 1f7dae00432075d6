"""FP32, INT8 (x86) and INT8 (TensorRT form) files in OpenVINO and in ONNX Runtime: do they agree, how fast are they?

Each file is computed by both engines on the same labelled images. OpenVINO computes float parts in bf16 where the
processor has the instructions for it, so the bounds are those of the gate: accuracy within a point, the same answer on
95 of 100. Latency: one thread, batch 1, fresh predictors in turn.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._int8 import TRAININGS, add_runs, exported, quantized, trained_run
from benchmarks._report import Claim, finish, parser

_DROP, _AGREEMENT = 0.01, 0.95
_IMAGES = 2000
_VARIANTS = ("fp32", "x86", "tensorrt")


def _files(run: Path, work: Path) -> dict[str, Path]:
    found = {"fp32": exported(run, work / "fp32").parent}
    for target in ("x86", "tensorrt"):
        earlier = [] if target == "x86" else ["--calibration", str(work / "x86")]
        made = quantized(run, work / target, "--target", target, "quantize.latency_rounds=0", *earlier)
        found[target] = made.folder
    return found


def _engine(folder: Path, engine: str) -> Any:
    from paddle_tk.runtime.load import load_predictor, open_model

    return load_predictor(open_model(folder), threads=1, engine=engine)


def _split(run: Path) -> Any:
    import numpy as np

    from paddle_tk.pipelines.model_data import load_model_data
    from paddle_tk.runtime.load import open_model

    split = load_model_data(open_model(run), None).bundle.splits["test"]
    return split.subset(np.unique(np.linspace(0, len(split) - 1, min(_IMAGES, len(split))).round().astype(int)))


def _network(name: str, run: Path, work: Path, rounds: int, samples: dict[str, list[float]]) -> list[Claim]:
    import numpy as np

    from paddle_tk.measure.latency import interleaved
    from paddle_tk.pipelines.int8_figures import compare_on

    split, folders, claims = _split(run), _files(run, work), []
    makers = {
        f"{variant} {engine}": lambda v=variant, e=engine: _engine(folders[v], e)
        for variant in _VARIANTS
        for engine in ("onnxruntime", "openvino")
    }
    size = _engine(folders["fp32"], "onnxruntime").artifact.preprocessing.size
    batch = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    times = interleaved(makers, batch, rounds=rounds, repeats=20)
    samples.update({f"{name} {key} ms": list(entry.per_round_median_ms) for key, entry in times.items()})
    print(f"{name}, {size[0]} px:", flush=True)
    for variant in _VARIANTS:
        ours, theirs = (_engine(folders[variant], engine) for engine in ("onnxruntime", "openvino"))
        pair = compare_on(ours, theirs, split, labelled=True)
        metric = ours.artifact.task.metric
        before, after = (times[f"{variant} {engine}"] for engine in ("onnxruntime", "openvino"))
        print(
            f"  {variant:<9} {metric} {pair.fp32[metric]:.4f} -> {pair.int8[metric]:.4f} (n={pair.n}), same "
            f"{pair.agreement:.4f} of {pair.agreement_n}; {before.p50_ms:.2f} -> {after.p50_ms:.2f} ms "
            f"(n={before.n}; {theirs.arithmetic})",
            flush=True,
        )
        difference = 100 * abs(pair.fp32[metric] - pair.int8[metric])
        claims += [
            Claim(f"{name} {variant}: {metric} in OpenVINO against ONNX Runtime", difference, "points", 100 * _DROP),
            Claim(f"{name} {variant}: same answers in both", pair.agreement, "share", _AGREEMENT, False),
        ]
    return claims


def main() -> int:
    """Makes the files, runs them in both engines and compares."""
    arguments = parser(__doc__ or "", "int8_engines")
    add_runs(arguments, tuple(TRAININGS))
    arguments.add_argument("--networks", nargs="+", choices=tuple(TRAININGS), default=["resnet18", "mobilenet_v2",
                           "picodet_relu6", "yolov10n_relu6"])  # fmt: skip
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    from paddle_tk.environment.start import start_paddle

    start_paddle(1)
    claims: list[Claim] = []
    samples: dict[str, list[float]] = {}
    for name in given.networks:
        claims += _network(name, trained_run(name, given), given.work / name / "engines", given.rounds, samples)
    return finish(claims, samples, given.json, {"threads": 1, "batch": 1})


if __name__ == "__main__":
    sys.exit(main())
