"""What the INT8 benchmarks share: trained runs, quantization, ONNX Runtime's own quantizer, latency of files."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from paddle_tk.measure.latency import Latency

ROOT = Path(__file__).resolve().parents[1]
# Accuracy, agreement, size and speed are judged by the benchmarks, with bounds of their own.
OPEN_GATE = ("quantize.min_agreement=0", "quantize.max_drop=1", "quantize.max_size_ratio=10", "--allow-slow")
# What the four networks are trained with; a run of the same settings may be given instead.
TRAININGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "resnet18": ("resnet18.yaml", (
        "data=cifar10", "model.stem=imagenet", "data.image_size=64", "trainer.max_epochs=3",
        "trainer.learning_rate=0.1", "trainer.nesterov=true", "trainer.warmup_epochs=0.3",
    )),
    "mobilenet_v2": ("resnet18.yaml", (
        "model=mobilenet_v2", "data=cifar10", "model.stem=imagenet", "data.image_size=64", "trainer.max_epochs=4",
        "trainer.learning_rate=0.1", "trainer.nesterov=true", "trainer.warmup_epochs=0.3",
        "trainer.weight_decay=0.0001",
    )),
    "picodet": ("picodet.yaml", ()),
    "yolov10n": ("yolov10n.yaml", ()),
    "picodet_relu6": ("picodet.yaml", ("model.activation=relu6",)),
    "yolov10n_relu6": ("yolov10n.yaml", ("model.activation=relu6",)),
}  # fmt: skip


def add_runs(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Adds an option for each network's run, and for the folder where things are kept."""
    for name in names:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=Path, metavar="RUN", help="a finished run (default: train one)"
        )
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/int8"), help="where runs and files go")
    parser.add_argument("--data-root", type=Path, metavar="D", help="CIFAR-10's folder or archive")


def trained_run(name: str, given: argparse.Namespace) -> Path:
    """Returns a finished run: the given one, an earlier one of this benchmark, or one that is trained now."""
    path: Path | None = getattr(given, name)
    if path is not None:
        return path
    config, overrides = TRAININGS[name]
    run = given.work / name / "run"
    if not (run / "result.json").is_file():
        root = [f"data.root={given.data_root}"] if given.data_root is not None and "data=cifar10" in overrides else []
        resume = ["--resume", str(run)] if run.is_dir() else []
        _tool("train", "-c", str(ROOT / "configs" / config), *overrides, *root, "--run-dir", str(run), *resume)
    return Path(run)


def _tool(name: str, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]
    print(f"  {name}: {' '.join(arguments)}", file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True)
class Made:
    """An INT8 model and what is said of it."""

    folder: Path
    report: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """The INT8 ONNX file."""
        return self.folder / "model.int8.onnx"


def quantized(run: Path, folder: Path, *options: str) -> Made:
    """Runs ``tools/quantize.py`` with the gate's limits wide open, so that bad figures are shown too."""
    _tool("quantize", "--model", str(run), "--output", str(folder), *OPEN_GATE, *options)
    return Made(folder, json.loads((folder / "quantization.json").read_text(encoding="utf-8")))


def exported(run: Path, folder: Path, *options: str) -> Path:
    """Runs ``tools/export.py`` and returns the ONNX file."""
    _tool("export", "--model", str(run), "--output", str(folder), *options)
    return folder / "model.onnx"


def parity(folder: Path) -> Mapping[str, Any]:
    """Returns what an export says of its comparison with Paddle."""
    return dict(json.loads((folder / "parity.json").read_text(encoding="utf-8")))


def own_static_ptq(float_file: Path, target: Path, images: Sequence[Any]) -> Path:
    """Quantizes a file with ONNX Runtime's own tool: static, MinMax, U8S8, per channel, QDQ."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quant_pre_process, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {"image": image[None]}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip
    prepared.unlink(missing_ok=True)
    return target


def calibration_images(run: Path, count: int, size: tuple[int, int] | None = None) -> list[Any]:
    """Returns training images of a run's dataset as its network gets them, float32 (3, H, W) each."""
    from dataclasses import replace

    from paddle_tk.data.transforms import EvalTransform
    from paddle_tk.pipelines.model_data import load_model_data
    from paddle_tk.quantize.images import choose_calibration
    from paddle_tk.runtime.load import open_model

    source = open_model(run)
    split = load_model_data(source, None).bundle.splits["train"]
    preprocessing = source.artifact.preprocessing
    transform = EvalTransform(replace(preprocessing, size=size or preprocessing.size))
    return [transform(split.image(int(row))) for row in choose_calibration(split, count)]


def latencies(
    files: Mapping[str, Path], like: Path, *, rounds: int, repeats: int, size: tuple[int, int] | None = None
) -> dict[str, Latency]:
    """Times ONNX files in ONNX Runtime on one thread, fresh sessions in turn.

    Args:
        files: By name.
        like: A model whose task the files have.
        rounds: Fresh sessions of each.
        repeats: Timed runs in each.
        size: (height, width) of the files' input; None: the model's.
    """
    from dataclasses import replace

    from paddle_tk.measure.latency import interleaved
    from paddle_tk.runtime.load import open_model
    from paddle_tk.runtime.onnx_predictor import OnnxPredictor
    from paddle_tk.types import InputSpec

    artifact = open_model(like).artifact
    height, width = size or artifact.preprocessing.size
    artifact = replace(artifact, inputs=(InputSpec("image", (1, 3, height, width)),))
    batch = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
    makers = {name: lambda file=file: OnnxPredictor(artifact, file, threads=1) for name, file in files.items()}
    return interleaved(makers, batch, rounds=rounds, repeats=repeats)
