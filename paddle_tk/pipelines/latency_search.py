"""The latency mode: finds the best model inside the given limits on the machine at hand, and keeps it."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paddle_tk.config.load import load_config
from paddle_tk.config.schema import QuantizeConfig
from paddle_tk.console import Output
from paddle_tk.data.bundle import ImageSplit
from paddle_tk.environment.threads import available_cores
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.evaluate.classes import check_classes
from paddle_tk.export.edge.devices import Device, load_device
from paddle_tk.export.onnx import PARITY
from paddle_tk.export.qdq.ranges_file import NAME as CALIBRATION
from paddle_tk.files import write_json
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.manifest import load_manifest, write_manifest
from paddle_tk.pipelines.latency_bench import ALONE, CAREFUL, Bench, MachineBench, Times
from paddle_tk.pipelines.latency_candidates import ONNXRUNTIME, OPENVINO, Candidate, Settings, allowed_cpus
from paddle_tk.pipelines.latency_choice import Choice, Search, unfit
from paddle_tk.pipelines.latency_limits import LatencyLimits
from paddle_tk.pipelines.latency_models import ModelMaker, Models, Recipe
from paddle_tk.pipelines.latency_report import Facts, Finals, lines, losers, report, table
from paddle_tk.pipelines.latency_trial import Trial
from paddle_tk.pipelines.model_data import load_model_data
from paddle_tk.pipelines.quantize_model import REPORT
from paddle_tk.runtime.engines import ENGINES
from paddle_tk.runtime.load import EXPORTED_CONFIG, ModelSource

__all__ = ["LATENCY", "MODEL", "LatencyLimits", "LatencyResult", "search_latency"]

LATENCY, MODEL = "latency.json", "model"
_BESIDE = (PARITY, REPORT, CALIBRATION)  # what was measured of a model when it was made
_UNLABELLED = "no labelled images of the model's classes are known, so what it costs in accuracy cannot be measured"


@dataclass(frozen=True)
class LatencyResult:
    """The best model inside the limits.

    Attributes:
        model: It, in the folder.
        settings: How it is run; its ``options()`` are the predictor's.
        runner: Options that a runner is started with, of JSON types.
        choice: All candidates.
        said: What latency.json holds.
    """

    model: ModelSource
    settings: Settings
    runner: dict[str, Any]
    choice: Choice
    said: dict[str, Any]


def search_latency(
    source: ModelSource,
    folder: Path,
    limits: LatencyLimits,
    *,
    sizes: Sequence[tuple[int, int]] = (),
    engines: Sequence[str] | None = None,
    precisions: Sequence[str] = ("fp32", "int8"),
    device: Device | None = None,
    int8_model: ModelSource | None = None,
    calibration: str | None = None,
    data: str | None = None,
    overrides: Sequence[str] = (),
    quantization: QuantizeConfig | None = None,
    threads: int = 1,
    debug: bool = False,
    output: Output,
) -> LatencyResult:
    """Tries engines, precisions, input sizes, threads, affinity, graph optimisation and batches; keeps the best.

    The most accurate candidate inside all limits is taken; of equally accurate ones the quickest. Every figure is of
    this machine, every time of a fresh process that runs nothing but the model.

    Args:
        source: A Paddle model, or an ONNX file.
        folder: An existing folder; gets ``model/`` and ``latency.json``.
        limits: What the result must keep to.
        sizes: Further input sizes, (height, width) in pixels, of a Paddle model; one counts only where its accuracy on
            the test images is within ``limits.max_drop``.
        engines: Names of engines that may be used; None: all that are installed.
        precisions: Of "fp32" and "int8", what may be used.
        device: Whose operator set, IR version and INT8 form the files get; None: those of a CPU like this machine's.
        int8_model: An INT8 model of the same weights; None: made here.
        calibration: As in tools/quantize.py.
        data: A registered dataset; None: that of the model's own run.
        overrides: "data.KEY=VALUE" items.
        quantization: Settings of an INT8 model made here; None: those of the model's own config.
        threads: CPU threads of exports and accuracy.
        debug: Let the converter write to the terminal.
        output: Shows what is done.

    Raises:
        BadInput: An unknown engine, no engine, or a dataset that does not fit.
        CheckFailed: Nothing keeps all limits; the closest candidate, its figures and what to try are in the message.
    """
    _check_engines(engines)
    split, name = _labelled(source, data, overrides, output)
    recipe = Recipe(
        device=device or load_device(_own_device()), quantization=_settings(source, quantization, limits),
        engines=engines, precisions=precisions, int8_model=int8_model, data=data, overrides=overrides,
        calibration=calibration, batches=limits.min_fps is not None, split=split, split_name=name, threads=threads,
        debug=debug,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="paddle_tk-latency-") as work:
        return _searched(source, folder, limits, recipe, sizes, Path(work), output)


def _check_engines(engines: Sequence[str] | None) -> None:
    unknown = [name for name in engines or () if name not in ENGINES]
    if unknown:
        raise BadInput(f"unknown engine '{unknown[0]}'", f"known: {', '.join(ENGINES)}")


def _settings(source: ModelSource, given: QuantizeConfig | None, limits: LatencyLimits) -> QuantizeConfig:
    own = load_config(source.config).config.quantize if source.config is not None else QuantizeConfig()
    return (given or own).model_copy(update={"max_drop": limits.max_drop})


def _searched(
    source: ModelSource,
    folder: Path,
    limits: LatencyLimits,
    recipe: Recipe,
    sizes: Sequence[tuple[int, int]],
    work: Path,
    output: Output,
) -> LatencyResult:
    maker = ModelMaker(source, work, recipe, output)
    models = maker.base()
    bench = MachineBench(models.reference, recipe.split)
    _add_models(maker, models, bench, limits, sizes, recipe.split)
    search = Search(bench, limits, available_cores(), allowed_cpus(), recipe.quantization.allow_slow, output.say)
    try:
        choice = search.run(models.files, bench.accuracy(models.reference), _hints(models))
    except CheckFailed:
        _tell(search.trials, None, (), output)
        raise
    facts = Facts(
        model=MODEL, metric=source.artifact.task.metric, given_precision=source.artifact.precision,
        test_name=recipe.split_name, warmup=ALONE.warmup, left_out=models.left_out,
    )  # fmt: skip
    said = report(choice, limits, _finals(choice.chosen, models, bench), facts)
    kept = _keep(choice.chosen.candidate.model.source, folder / MODEL)
    said["files"] = sorted(str(file.relative_to(folder)) for file in (folder / MODEL).rglob("*") if file.is_file())
    write_json(folder / LATENCY, said)
    _tell(choice.trials, choice.chosen, lines(said), output)
    return LatencyResult(kept, choice.chosen.candidate.settings, said["runner"], choice, said)


def _tell(trials: Sequence[Trial], chosen: Trial | None, more: Sequence[str], output: Output) -> None:
    output.say(table(trials, chosen))
    for line in (*losers(trials, chosen), *more):
        output.say(line)


def _own_device() -> str:
    return "x86-cpu" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "raspberry-pi-5"


def _labelled(
    source: ModelSource, data: str | None, overrides: Sequence[str], output: Output
) -> tuple[ImageSplit | None, str]:
    """Returns the test images; none, and a warning, where the run's own dataset is not known."""
    if source.config is None and data is None and not overrides:
        output.warn(
            "no accuracy is measured: the dataset the model was trained with is not known; only what computes the same "
            "as the given model is tried (name the dataset with --data)"
        )
        return None, ""
    bundle = load_model_data(source, data, overrides).bundle
    check_classes(source.artifact, bundle)
    return bundle.splits["test"], f"{bundle.name} test images"


def _add_models(
    maker: ModelMaker,
    models: Models,
    bench: Bench,
    limits: LatencyLimits,
    sizes: Sequence[tuple[int, int]],
    split: ImageSplit | None,
) -> None:
    others = [size for size in dict.fromkeys(sizes) if size != models.reference.model.size]
    if split is None:
        models.left_out.update({f"{height}x{width}": _UNLABELLED for height, width in others})
        models.left_out["int8"] = _UNLABELLED
        return
    reference = bench.accuracy(models.reference)
    maker.add_int8(models, models.float_file)
    for size in others:
        maker.add_size(models, size, lambda candidate: unfit(bench.accuracy(candidate), reference, limits))


def _hints(models: Models) -> tuple[str, ...]:
    """Returns what might bring a candidate inside the limits: what was left out for want of a package."""
    missing = [name for name, why in models.left_out.items() if name == OPENVINO and why.startswith("not installed")]
    int8 = [f"{name} was left out ({why})" for name, why in models.left_out.items() if name.startswith("int8 ")]
    return (*(f"pip install {name}, the quickest engine on x86" for name in missing), *int8)


def _finals(chosen: Trial, models: Models, bench: Bench) -> Finals:
    """Measures throughput with one and with several batches in flight, and FP32 beside the chosen candidate."""
    float_file = models.float_file
    baseline: Times | None = None
    paired: Times | None = None
    if float_file is not None:
        found = bench.times([chosen.candidate, _baseline(models, chosen.candidate.settings.threads)], CAREFUL)
        paired, baseline = (times if isinstance(times, Times) else None for times in found)
    return Finals(
        _rates(bench, chosen.candidate), baseline, paired, chosen.candidate.model.source.file.stat().st_size,
        None if float_file is None else float_file.file.stat().st_size,
    )  # fmt: skip


def _rates(bench: Bench, chosen: Candidate) -> list[tuple[Settings, tuple[float, ...]]]:
    """Returns samples of images/s, one batch after the other and several in flight."""
    cores = available_cores()
    flying = max(2, cores, chosen.settings.in_flight)
    # Buffers that are made once hold one batch; OpenVINO computes as many side by side as it has streams.
    many = chosen.changed(preallocate=False, affinity=(), in_flight=flying)
    if chosen.settings.engine == OPENVINO:
        many = many.changed(streams=cores, threads=cores)
    found = []
    for candidate in (chosen.changed(in_flight=1), many):
        effort = replace(ALONE, least=1, most=1, streams=(candidate.settings.in_flight,))
        (times,) = bench.times([candidate], effort)
        if isinstance(times, Times):
            found.append((candidate.settings, times.rates[candidate.settings.in_flight]))
    return found


def _baseline(models: Models, threads: int) -> Candidate:
    """Returns FP32 as it was before: ONNX Runtime's defaults, one image at a time."""
    reference = models.reference
    level = "all" if reference.settings.engine == ONNXRUNTIME else ""
    return reference.changed(threads=threads, graph_optimization=level)


def _keep(source: ModelSource, folder: Path) -> ModelSource:
    """Copies a model and what was said of it when it was made; ``--model`` takes the folder."""
    folder.mkdir()
    artifact, origin = source.artifact, source.file.parent
    if (origin / MANIFEST).is_file():
        stored = load_manifest(origin)
        artifact = replace(artifact, metrics=stored.metrics) if stored.sha256 == artifact.sha256 else artifact
    for name in (*artifact.sha256, *(name for name in _BESIDE if (origin / name).is_file())):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin / name, target)
    if source.config is not None:
        shutil.copyfile(source.config, folder / EXPORTED_CONFIG)
    write_manifest(folder, artifact)
    return ModelSource(artifact, folder / artifact.path, source.config)
