"""What the INT8 benchmarks share: trained runs, quantization, ONNX Runtime's own quantizer, latency of files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
Array = np.ndarray[Any, Any]


def trained_run(given: Path | None, folder: Path, config: str, overrides: Sequence[str]) -> Path:
    """Returns a finished run: the given one, an earlier one of this benchmark, or one that is trained now."""
    if given is not None:
        return given
    run = folder / "run"
    if not (run / "result.json").is_file():
        command = [sys.executable, str(ROOT / "tools/train.py"), "-c", str(ROOT / "configs" / config), *overrides,
                   "--run-dir", str(run)]  # fmt: skip
        print(f"training: {' '.join(command[1:])}", flush=True)
        subprocess.run([*command, *(["--resume", str(run)] if run.is_dir() else [])], check=True)
    return run


@dataclass(frozen=True)
class Made:
    """An INT8 model and what is said of it."""

    folder: Path
    report: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """The INT8 ONNX file."""
        return self.folder / "model.int8.onnx"


def quantize(run: Path, folder: Path, *options: str) -> Made:
    """Runs ``tools/quantize.py`` with the gate's limits wide open, so that bad figures are shown too."""
    import json

    # Accuracy, agreement, size and speed are judged by the benchmark, with bounds of its own.
    open_gate = ("quantize.min_agreement=0", "quantize.max_drop=1", "quantize.max_size_ratio=10", "--allow-slow")
    command = [sys.executable, str(ROOT / "tools/quantize.py"), "--model", str(run), "--output", str(folder), "--quiet",
               *open_gate, *options]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Made(folder, json.loads((folder / "quantization.json").read_text(encoding="utf-8")))


def export(run: Path, folder: Path, *options: str) -> Path:
    """Runs ``tools/export.py`` and returns the ONNX file."""
    command = [sys.executable, str(ROOT / "tools/export.py"), "--model", str(run), "--output", str(folder), "--quiet"]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return folder / "model.onnx"


def own_static_ptq(float_file: Path, target: Path, images: Sequence[Array]) -> Path:
    """Quantizes a file with ONNX Runtime's own tool: static, MinMax, U8S8, per channel, QDQ."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quant_pre_process, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Array] | None:
            image = next(self._left, None)
            return None if image is None else {"image": image[None]}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip
    with suppress(FileNotFoundError):
        prepared.unlink()
    return target


def latency_samples(
    files: Mapping[str, Path], size: tuple[int, int], *, rounds: int, repeats: int
) -> dict[str, tuple[float, ...]]:
    """Times ONNX files in ONNX Runtime on one thread: fresh sessions in turn; the median of each round, in ms."""
    import onnxruntime

    def session(file: Path) -> Callable[[], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        made = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        batch = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
        name = made.get_inputs()[0].name
        return lambda: made.run(None, {name: batch})

    return timed_rounds({name: lambda file=file: session(file) for name, file in files.items()}, rounds, repeats)  # type: ignore[misc]


def timed_rounds(
    makers: Mapping[str, Callable[[], Callable[[], Any]]], rounds: int, repeats: int, warmup: int = 5
) -> dict[str, tuple[float, ...]]:
    """Makes each job afresh in every round and times it; returns the median of each round, in ms."""
    import time

    found: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, make in makers.items():
            job = make()
            for _ in range(warmup):
                job()
            times = []
            for _ in range(repeats):
                began = time.perf_counter()
                job()
                times.append((time.perf_counter() - began) * 1000)
            found[name].append(float(np.median(times)))
    return {name: tuple(values) for name, values in found.items()}
