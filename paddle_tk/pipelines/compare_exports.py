"""From a trained network of either framework to ONNX and INT8: does it work, is it right, how fast is it?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.compare.figures import latency_figure, rounds_measurement
from paddle_tk.compare.parity import largest_difference
from paddle_tk.compare.rounds import Effort
from paddle_tk.config.load import to_yaml
from paddle_tk.config.schema import Config
from paddle_tk.console import Output
from paddle_tk.errors import PaddleTkError
from paddle_tk.evidence import Figure, NotMeasured
from paddle_tk.export.convert import DEFAULT_OPSET
from paddle_tk.files import sha256_file, write_bytes_atomic
from paddle_tk.manifest import write_manifest
from paddle_tk.measure.latency import Latency, interleaved
from paddle_tk.measure.memory import measure_process
from paddle_tk.models.weights import FILE_NAME
from paddle_tk.pipelines.export_model import export_model
from paddle_tk.pipelines.quantize import Request, quantize
from paddle_tk.pipelines.quantize_model import Quantized
from paddle_tk.runtime.base import Array, Predictor
from paddle_tk.runtime.load import EXPORTED_CONFIG, ModelSource, load_predictor, open_model
from paddle_tk.runtime.onnx_metadata import GivenFacts
from paddle_tk.training.build_task import build_artifact, build_network, task_kind
from paddle_tk.types import Measurement

_COMPARED = 64  # images
_ONNX = {"engine": "onnxruntime", "opset": DEFAULT_OPSET}
_INT8_ROUTE = "ONNX, calibrated by PaddleSlim's observers, tools/quantize.py"


@dataclass(frozen=True)
class Trained:
    """A trained network of one framework.

    Attributes:
        framework: "paddle" or "torch".
        weights: Its weights with Paddle's names.
        images: Inputs float32 (N, 3, H, W) that it was run on.
        outputs: What it natively returned for them, in the order of the manifest's outputs.
    """

    framework: str
    weights: Path
    images: Array
    outputs: tuple[Array, ...]


@dataclass(frozen=True)
class Exported:
    """What became of it.

    Attributes:
        onnx: The ONNX file; None where its export failed.
        int8: The INT8 file; None where there is none.
        figures: By name, without the timings.
        missing: By name, why a figure is not there.
    """

    onnx: ModelSource | None
    int8: ModelSource | None
    figures: tuple[Measurement, ...]
    missing: Mapping[str, str]


def paddle_model(config: Config, classes: tuple[str, ...], weights: Path, folder: Path) -> ModelSource:
    """Writes trained weights as a model folder and opens it."""
    folder.mkdir(parents=True)
    kind = task_kind(config)
    network = build_network(config, kind, len(classes), Output(quiet=True))
    write_bytes_atomic(folder / FILE_NAME, weights.read_bytes())
    write_bytes_atomic(folder / EXPORTED_CONFIG, to_yaml(config).encode())
    artifact = build_artifact(config, kind, network, classes)
    write_manifest(folder, replace(artifact, sha256={FILE_NAME: sha256_file(folder / FILE_NAME)}))
    return open_model(folder)


def export_paddle(source: ModelSource, folder: Path, threads: int) -> ModelSource:
    """Exports a Paddle model, batch dimension free.

    Raises:
        CheckFailed: It cannot be converted, or the result computes something else.
    """
    folder.mkdir(parents=True)
    export_model(
        source, folder, split=None, split_name="", count=_COMPARED, dynamic_batch=True, threads=threads
    )  # fmt: skip
    return open_model(folder)


def open_torch_onnx(file: Path, config: Config, classes: tuple[str, ...]) -> ModelSource:
    """Opens the file that torch wrote, which does not say what it is for."""
    data, kind = config.data, task_kind(config)
    facts = GivenFacts(
        task=kind,
        classes=classes,
        input_size=data.size,
        mean=(data.mean[0], data.mean[1], data.mean[2]),
        std=(data.std[0], data.std[1], data.std[2]),
        resize=data.resize,
        flags="the comparison's own facts",
    )
    return open_model(file, facts)


def onnx_figures(source: ModelSource, trained: Trained, threads: int, said: Mapping[str, Any]) -> list[Measurement]:
    """Returns whether the ONNX file computes what the framework computed, on the same images."""
    predictor = load_predictor(source, threads=threads)
    found = predictor.predict(trained.images)
    worst = max(_apart(ours, theirs) for ours, theirs in zip(trained.outputs, found, strict=True))
    conditions = {**_ONNX, **said, "images": len(trained.images)}
    largest = float(np.finfo(np.float32).max)
    return [
        Measurement("onnx_export", 1.0, "0/1", 1, "measured", (1.0,), conditions=conditions),
        Measurement("onnx_parity", min(worst, largest), "largest absolute difference", len(trained.images), "measured",
                    conditions=conditions),
    ]  # fmt: skip


def _apart(ours: Array, theirs: Array) -> float:
    # Boxes are pixels: as a share of the largest coordinate they are comparable with logits and scores.
    side = max(1.0, float(np.abs(ours).max())) if ours.ndim == 3 and ours.shape[-1] == 4 else 1.0
    return largest_difference(ours, theirs) / side


def quantize_onnx(
    source: ModelSource, folder: Path, config: Config, rounds: int, threads: int, output: Output
) -> Quantized:
    """Quantizes an ONNX file for x86, however fast the result is.

    Raises:
        CheckFailed: Accuracy, agreement or size do not keep to the config's limits.
    """
    folder.mkdir(parents=True)
    settings = config.quantize.model_copy(update={"allow_slow": True, "latency_rounds": rounds})
    own = source.config is not None
    data = {} if own else config.data.model_dump(mode="json", exclude={"name"})
    items = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    request = Request(
        settings=settings, target="x86", data=None if own else config.data.name, overrides=items, threads=threads
    )
    return quantize(source, folder, request, output)


def int8_figures(found: Quantized) -> list[Measurement]:
    """Returns what an INT8 model keeps and gains against its FP32 parent."""
    figures = found.figures
    said = {"target": "x86", "route": _INT8_ROUTE, "metric": figures.metric, "agreement": figures.agreement,
            "accuracy_fp32": figures.accuracy_fp32}  # fmt: skip
    rows = [
        Measurement("int8_available", 1.0, "0/1", 1, "measured", (1.0,), conditions=said),
        Measurement("int8_size_ratio", figures.size_ratio, "ratio", 1, "measured", conditions=said),
    ]
    if figures.accuracy_int8 is not None:
        rows.append(Measurement("int8_accuracy", figures.accuracy_int8, "share", figures.n, "measured",
                                conditions={**said, "split": "test"}))  # fmt: skip
    if figures.latency_ratio is not None:
        times = found.latency
        pairs = zip(times["int8"].per_round_median_ms, times["fp32"].per_round_median_ms, strict=True)
        ratios = tuple(a / b for a, b in pairs)
        rows.append(
            Measurement("int8_latency_ratio", figures.latency_ratio, "ratio", len(ratios), "measured", ratios,
                        conditions={**said, "engine": "onnxruntime", "threads": 1, "batch_size": 1})
        )  # fmt: skip
    return rows


def export_trained(
    trained: Trained,
    export: Callable[[], ModelSource],
    folder: Path,
    *,
    config: Config,
    effort: Effort,
    said: Mapping[str, Any],
    output: Output,
) -> Exported:
    """Exports one trained network to ONNX and INT8; a failure is a finding, not an end.

    Args:
        trained: What it computes.
        export: Writes the ONNX file and opens it; that file is then quantized, in the same way for every framework.
        folder: Where INT8 goes.
        config: The comparison's.
        effort: How much is measured.
        said: Conditions of the export, such as the exporter.
        output: Shows progress.
    """
    try:
        onnx = export()
        figures = onnx_figures(onnx, trained, effort.threads, said)
    except PaddleTkError as error:
        failed = Measurement("onnx_export", 0.0, "0/1", 1, "measured", (0.0,), conditions={**_ONNX, "why": str(error)})
        reason = f"the ONNX export failed: {error.problem}"
        missing = dict.fromkeys(("onnx_parity", "onnx_latency", "onnx_throughput", "int8_available"), reason)
        return Exported(None, None, (failed,), missing)
    try:
        found = quantize_onnx(onnx, folder, config, effort.rounds, effort.threads, output)
    except PaddleTkError as error:
        none = Measurement("int8_available", 0.0, "0/1", 1, "measured", (0.0,), conditions={"why": str(error)})
        names = ("int8_latency_ratio", "int8_accuracy", "int8_size_ratio")
        return Exported(onnx, None, (*figures, none), dict.fromkeys(names, f"no INT8 model: {error.problem}"))
    return Exported(onnx, open_model(folder), (*figures, *int8_figures(found)), {})


def time_onnx(files: Mapping[str, ModelSource], images: Array, effort: Effort, said: Mapping[str, Any]) -> list[Figure]:
    """Times ONNX and INT8 files in ONNX Runtime, in rounds of fresh sessions that take turns.

    Args:
        files: By option.
        images: Inputs float32 (N, 3, H, W).
        effort: How much is measured.
        said: Conditions that hold for all.

    Returns:
        "onnx_latency" and "onnx_throughput" of every option.
    """
    makers = {name: _maker(source, effort.threads) for name, source in files.items()}
    turns = effort.turns_taken
    rounds = {"rounds": effort.rounds, "warmup": effort.warmup, "turns": turns}
    single = interleaved(makers, images[:1], repeats=effort.inference_repeats, **rounds)
    sizes = {name: effort.throughput_batch if s.artifact.inputs[0].shape[0] is None else 1 for name, s in files.items()}
    batches = {name: np.resize(images, (size, *images.shape[1:])) for name, size in sizes.items()}
    many = interleaved(makers, batches, repeats=effort.throughput_repeats, **rounds)
    found = []
    for name, source in files.items():
        shared = {**said, **_ONNX, "threads": effort.threads, "precision": source.artifact.precision,
                  "rounds": effort.rounds, "warmup": effort.warmup}  # fmt: skip
        found.append(latency_figure(name, "onnx_latency", _rounds(single[name], effort.rounds), "cpu", shared, turns))
        rates = [[1e3 * sizes[name] / ms for ms in values] for values in _rounds(many[name], effort.rounds)]
        shared = {**shared, "batch_size": sizes[name]}
        found.append(Figure(name, rounds_measurement("onnx_throughput", "images/s", rates, "cpu", shared, turns)))
    return found


def _maker(source: ModelSource, threads: int) -> Callable[[], Predictor]:
    return lambda: load_predictor(source, threads=threads)


def _rounds(latency: Latency, rounds: int) -> Sequence[Sequence[float]]:
    return [list(part) for part in np.array(latency.samples_ms).reshape(rounds, -1)]


def int8_process(option: str, source: ModelSource, effort: Effort) -> list[Figure]:
    """Returns peak memory and cold start of serving an INT8 file, in processes that do nothing else."""
    runs = [
        measure_process(source, threads=effort.threads, repeats=effort.inference_repeats) for _ in range(effort.rounds)
    ]
    said = {"engine": "onnxruntime", "threads": effort.threads, "process": "fresh, whole", "rounds": len(runs)}
    rows = (
        ("peak_memory_inference", "MiB", [[run.peak_mib] for run in runs]),
        ("cold_start", "s", [[run.cold_start_seconds + run.first_inference_ms / 1e3] for run in runs]),
    )
    return [Figure(option, rounds_measurement(name, unit, values, "cpu", said)) for name, unit, values in rows]


def not_measured(option: str, exported: Exported) -> list[NotMeasured]:
    """Returns what an export left open."""
    return [NotMeasured(option, name, why) for name, why in exported.missing.items()]
