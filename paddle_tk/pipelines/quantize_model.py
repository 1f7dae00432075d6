"""A trained model -> an INT8 ONNX file that was measured against its float parent and passed the gate."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.data.transforms import EvalTransform
from paddle_tk.errors import BadInput
from paddle_tk.export.gate import Figures, GateReport, Limits, judge
from paddle_tk.export.graph import Model
from paddle_tk.export.onnx import OnnxModel
from paddle_tk.export.qdq.choose import Chosen, choose_layers
from paddle_tk.export.qdq.describe import report
from paddle_tk.export.qdq.plan import Target, make_plan
from paddle_tk.export.qdq.ranges_file import Calibration, read_calibration, write_calibration
from paddle_tk.export.qdq.rewrite import forms
from paddle_tk.export.qdq.sensitivity import box_distance, logit_distance
from paddle_tk.export.qdq.view import GraphView
from paddle_tk.export.qdq.write import write_int8
from paddle_tk.measure.latency import Latency, interleaved
from paddle_tk.pipelines.float_graph import FloatGraph
from paddle_tk.pipelines.int8_calibration import CalibrationImages, calibrate
from paddle_tk.pipelines.int8_figures import PairFigures, compare_on
from paddle_tk.quantize.calibrate import LayerInput
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.onnx_predictor import OnnxPredictor
from paddle_tk.types import Preprocessing, QuantizationReport

REPORT = "quantization.json"
_RANKED_IMAGES = 16
_NATIVE = {"x86": ("x86_64", "amd64"), "arm": ("aarch64", "arm64"), "tensorrt": ()}
_DISTANCES = {"classification": logit_distance, "detection": box_distance}
Say = Callable[[str], None]
Progress = Callable[[str, int], Any]


@dataclass(frozen=True)
class Settings:
    """How to quantize.

    Attributes:
        target: Whose form: "x86", "arm" or "tensorrt".
        method: "ptq" or "qat", for the report.
        algorithm: The observer.
        limits: What the result must keep to.
        weight_bits: 8, or 7 for x86 processors without VNNI.
        keep: Names of nodes that stay in float.
        threads: CPU threads of ONNX Runtime, for accuracy; latency is measured with one.
        rounds: Interleaved fresh sessions of the latency measurement; 0: not measured.
        repeats: Timed runs in each of them.
        validated: False: the file is for latency only, and says so.
        accuracy_hint: A known reason for lost accuracy and what helps; told where the gate refuses for accuracy.
    """

    target: Target
    method: str
    algorithm: str
    limits: Limits
    weight_bits: int = 8
    keep: tuple[str, ...] = ()
    threads: int = 1
    rounds: int = 7
    repeats: int = 20
    validated: bool = True
    accuracy_hint: str = ""


@dataclass(frozen=True)
class Images:
    """What the model is calibrated, chosen and judged on; three sets without a common image where there are labels.

    Attributes:
        calibration: Ranges come from these; None: a calibration is at hand.
        choice: Labelled; layers are left in float by these; None: there are none.
        test: The figures of the gate are of these.
        labelled: Whether ``test`` has labels in the model's classes.
        test_name: What ``test`` is called in reports.
    """

    calibration: CalibrationImages | None
    choice: ImageSplit | None
    test: ImageSplit
    labelled: bool
    test_name: str


@dataclass(frozen=True)
class Quantized:
    """An INT8 model that lies in a folder.

    Attributes:
        model: The file and its manifest.
        report: What was quantized.
        pair: Accuracy and agreement.
        gate: Every limit and what was found.
        figures: What the gate judged.
        latency: By "fp32" and "int8"; empty where it was not measured.
        chosen: How layers were chosen.
    """

    model: OnnxModel
    report: QuantizationReport
    pair: PairFigures
    gate: GateReport
    figures: Figures
    latency: Mapping[str, Latency] = field(default_factory=dict)
    chosen: Chosen | None = None


def quantize_model(
    parent: FloatGraph,
    folder: Path,
    images: Images,
    settings: Settings,
    *,
    trained: FloatGraph | None = None,
    learned: list[LayerInput] | None = None,
    ranges_file: Path | None = None,
    say: Say = lambda line: None,
    progress: Progress | None = None,
) -> Quantized:
    """Calibrates, quantizes, measures and, where the gate lets it pass, writes the INT8 model.

    Args:
        parent: The float model that the INT8 model is held against.
        folder: An existing folder; gets model.int8.onnx, manifest.json, quantization.json and calibration.json.
        images: What to calibrate and measure on.
        settings: How.
        trained: The float model after quantization-aware training, which is then what is quantized.
        learned: The input ranges that this training has learned.
        ranges_file: An earlier calibration of the same weights, which then is not done again.
        say: Told what is done.
        progress: (title, steps) -> a context manager that yields ``advance``.

    Raises:
        CheckFailed: The gate refuses it; the figures are in the message and nothing is written.
        BadInput: Neither images to calibrate on nor a calibration.
    """
    source = trained or parent
    graphs = forms(source.model)
    model = graphs[settings.target]
    progress = progress or _no_progress
    calibration = _calibration(source, graphs, images, settings, learned, ranges_file, progress)
    keep = _kept(model, settings.keep)
    chosen = choose_layers(
        model, settings.target, calibration.ranges,
        weight_bits=settings.weight_bits, keep=keep, loss=_loss(parent, source, images, settings),
        max_loss=settings.limits.max_drop, images=_ranking_images(source, images),
        distance=_DISTANCES[source.exported.artifact.task.kind], threads=settings.threads, say=say,
    )  # fmt: skip
    told = report(
        chosen.model, chosen.plan, method=settings.method, algorithm=settings.algorithm,
        calibration=calibration.to_dict(),
    )  # fmt: skip
    written = write_int8(chosen.model, source.exported, folder, variant=settings.target, parent_sha256=source.sha256)
    result = _judge(parent, written, images, settings, told, chosen, progress)
    result.gate.require()
    _write(folder, result, calibration, settings, images)
    return result


def _no_progress(title: str, steps: int) -> Any:
    from contextlib import nullcontext

    return nullcontext(lambda n: None)


def _calibration(
    source: FloatGraph,
    graphs: Mapping[Target, Model],
    images: Images,
    settings: Settings,
    learned: list[LayerInput] | None,
    ranges_file: Path | None,
    progress: Progress,
) -> Calibration:
    preprocessing: Preprocessing = source.exported.artifact.preprocessing
    if ranges_file is not None:
        return read_calibration(ranges_file, model_sha256=source.sha256, size=preprocessing.size)
    if images.calibration is None:
        raise BadInput("there are no images to calibrate on", "give a folder of images with --calibration")
    passes = 2 if source.predictor is not None and learned is None else 1
    with progress("calibrating", passes * len(images.calibration.split)) as advance:
        return calibrate(
            graphs, source.predictor, images.calibration, preprocessing,
            algorithm=settings.algorithm, model_sha256=source.sha256, threads=settings.threads, observed=learned,
            advance=advance,
        )  # fmt: skip


def _kept(model: Model, names: tuple[str, ...]) -> dict[str, str]:
    known = {node.name for node in model.graph.node}
    unknown = [name for name in names if name not in known]
    if unknown:
        weighted = make_plan(GraphView(model), "x86").weighted
        raise BadInput(f"the graph has no node {unknown[0]!r}", f"nodes with weights: {', '.join(weighted)}")
    return dict.fromkeys(names, "asked for")


def _ranking_images(source: FloatGraph, images: Images) -> Array:
    split = images.calibration.split if images.calibration is not None else images.test
    rows = np.unique(np.linspace(0, len(split) - 1, min(_RANKED_IMAGES, len(split))).round().astype(int))
    transform = EvalTransform(source.exported.artifact.preprocessing)
    return np.stack([transform(split.image(int(row))) for row in rows])


def _loss(
    parent: FloatGraph, source: FloatGraph, images: Images, settings: Settings
) -> Callable[[Model], float] | None:
    """Returns what tells how much of the main metric a graph loses on the images for the choice."""
    if images.choice is None:
        return None
    split, metric = images.choice, parent.exported.artifact.task.metric

    def loss(model: Model) -> float:
        with tempfile.TemporaryDirectory(prefix="paddle_tk-int8-") as name:
            trial = write_int8(model, source.exported, Path(name), variant=settings.target, parent_sha256=source.sha256)
            pair = compare_on(
                OnnxPredictor(parent.exported.artifact, parent.exported.file, threads=settings.threads),
                OnnxPredictor(trial.artifact, trial.file, threads=settings.threads), split, labelled=True,
            )  # fmt: skip
        return pair.fp32[metric] - pair.int8[metric]

    return loss


def _judge(
    parent: FloatGraph,
    written: OnnxModel,
    images: Images,
    settings: Settings,
    told: QuantizationReport,
    chosen: Chosen,
    progress: Progress,
) -> Quantized:
    threads = settings.threads
    with progress("measuring accuracy", 2 * len(images.test)) as advance:
        pair = compare_on(
            OnnxPredictor(parent.exported.artifact, parent.exported.file, threads=threads),
            OnnxPredictor(written.artifact, written.file, threads=threads),
            images.test, labelled=images.labelled, advance=advance,
        )  # fmt: skip
    latency = _latency(parent, written, settings)
    metric = parent.exported.artifact.task.metric
    figures = Figures(
        metric=metric,
        accuracy_fp32=pair.fp32.get(metric),
        accuracy_int8=pair.int8.get(metric),
        n=pair.n,
        agreement=pair.agreement,
        agreement_n=pair.agreement_n,
        size_ratio=written.file.stat().st_size / parent.exported.file.stat().st_size,
        latency_ratio=latency["int8"].ratio(latency["fp32"]) if latency else None,
    )
    return Quantized(
        written, told, pair, judge(figures, settings.limits, settings.accuracy_hint), figures, latency, chosen
    )


def _latency(parent: FloatGraph, written: OnnxModel, settings: Settings) -> Mapping[str, Latency]:
    """Times both files where this machine is of the target's kind."""
    if settings.rounds == 0 or platform.machine().lower() not in _NATIVE[settings.target]:
        return {}
    height, width = written.artifact.preprocessing.size
    batch = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
    return interleaved(
        {
            "fp32": lambda: OnnxPredictor(parent.exported.artifact, parent.exported.file, threads=1),
            "int8": lambda: OnnxPredictor(written.artifact, written.file, threads=1),
        },
        batch,
        rounds=settings.rounds,
        repeats=settings.repeats,
    )


def _write(folder: Path, result: Quantized, calibration: Calibration, settings: Settings, images: Images) -> None:
    from paddle_tk.files import write_json
    from paddle_tk.manifest import write_manifest

    write_calibration(folder, calibration)
    said = quantization_json(result, settings, images)
    write_json(folder / REPORT, said)
    metrics = {
        key: said[key] for key in ("accuracy_fp32", "accuracy_int8", "n", "agreement", "size_ratio", "validated")
    }
    write_manifest(folder, replace(result.model.artifact, metrics=metrics))


def quantization_json(result: Quantized, settings: Settings, images: Images) -> dict[str, Any]:
    """Returns what quantization.json holds."""
    figures, chosen = result.figures, result.chosen
    return {
        "target": settings.target,
        "method": settings.method,
        "metric": figures.metric,
        "validated": settings.validated,
        "accuracy_fp32": figures.accuracy_fp32,
        "accuracy_int8": figures.accuracy_int8,
        "drop": figures.drop,
        "n": figures.n,
        "test": images.test_name,
        "agreement": figures.agreement,
        "agreement_n": figures.agreement_n,
        "min_cosine": result.pair.cosine,
        "all_metrics": result.pair.to_dict(),
        "size_ratio": figures.size_ratio,
        "latency_ratio": figures.latency_ratio,
        "latency": {name: entry.to_dict() for name, entry in result.latency.items()},
        "latency_conditions": {"engine": "onnxruntime", "threads": 1, "batch": 1, "machine": platform.machine()},
        "gate": result.gate.to_dict(),
        "weight_bits": settings.weight_bits,
        "sensitivity": [
            {"node": entry.node, "relative_error": entry.error} for entry in (chosen.ranked if chosen else ())
        ],
        "choice": {str(count): loss for count, loss in (chosen.tried if chosen else {}).items()},
        **result.report.to_dict(),
        "origin": "measured",
    }
