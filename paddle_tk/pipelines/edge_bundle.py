"""A trained model -> a folder that is copied onto an edge device and runs there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddle_tk.data.bundle import ImageSplit
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.compare import compare
from paddle_tk.export.convert import DEFAULT_OPSET
from paddle_tk.export.edge.build_script import WORKSPACE_MIB
from paddle_tk.export.edge.bundle import write_bundle
from paddle_tk.export.edge.devices import Device
from paddle_tk.export.edge.estimate import Estimate, estimate, memory_findings
from paddle_tk.export.edge.findings import Preflight, sorted_findings
from paddle_tk.export.edge.model_file import read_model
from paddle_tk.export.edge.plan import FP32_FILE, INT8_FILE, Plan, Quantization, Run, make_plan, without_int8
from paddle_tk.export.edge.preflight import preflight
from paddle_tk.export.edge.selftest import drawn_picture, write_selftest
from paddle_tk.export.graph.edit import opset_of
from paddle_tk.export.graph.shapes import fix_batch
from paddle_tk.export.graph.versions import ir_version_for, stamp
from paddle_tk.files import sha256_file, write_bytes_atomic
from paddle_tk.pipelines.edge_models import Export, fp32_model, int8_model, require_size
from paddle_tk.runtime.base import Array
from paddle_tk.runtime.load import ModelSource, load_predictor
from paddle_tk.types import InputSpec, ModelArtifact

MakeInt8 = Callable[[Path], ModelSource]
_NOISE_SEED = 0
_NOT_GIVEN = "none was given"


@dataclass(frozen=True)
class EdgeBundle:
    """A bundle that lies in a folder.

    Attributes:
        manifest: What its manifest.json says.
        plan: What was asked for, and what the device can run of it.
        runs: Ways to run it, the default first; what the preflight refused is left out.
        preflights: The checks of all files, those left out included.
        estimates: One per run, None where nothing is estimated.
        statements: What the user must be told.
    """

    manifest: Mapping[str, Any]
    plan: Plan
    runs: tuple[Run, ...]
    preflights: tuple[Preflight, ...]
    estimates: tuple[Estimate | None, ...]
    statements: tuple[str, ...]


def build_bundle(
    source: ModelSource,
    folder: Path,
    *,
    device: Device,
    quantization: Quantization = "auto",
    make_int8: MakeInt8 | str = _NOT_GIVEN,
    input_size: tuple[int, int] | None = None,
    batch_size: int = 1,
    split: ImageSplit | None = None,
    split_name: str = "",
    samples: int = 64,
    picture: tuple[Array, str] | None = None,
    threads: int = 1,
    debug: bool = False,
) -> EdgeBundle:
    """Makes the files that a device can run, checks them, and writes the bundle into an existing folder.

    Args:
        source: A Paddle model, an FP32 ONNX file, or an INT8 ONNX file.
        folder: Where to write.
        device: From ``load_device``.
        quantization: "fp32", "fp16", "int8", or "auto": what suits the device; without INT8, which a statement says,
            where it cannot be made or ``make_int8`` says no.
        make_int8: Writes an INT8 model of ``device.int8_variant`` into the folder it is given, in an operator set of at
            most ``export_opset(device)``; or why there is none, where ``source`` is none either.
        input_size: (height, width) in pixels; None: that of the model.
        batch_size: Images per run.
        split: Images to prove an export on; the first is the self-test picture; None: noise, and a drawn picture.
        split_name: What they are called.
        samples: How many images to compare an export on.
        picture: Another self-test picture, uint8 RGB (H, W, 3), and where it comes from.
        threads: CPU threads of ONNX Runtime.
        debug: Let the converter write to the terminal.

    Raises:
        BadInput: The device cannot run what was asked for, or the model cannot take the size or the batch.
        CheckFailed: The preflight refuses the file that was asked for, or an export computes something else.
    """
    require_size(source, input_size)
    how = Export(input_size, batch_size, split, split_name, samples, threads, debug)
    plan = _planned(source, device, quantization, make_int8)
    with tempfile.TemporaryDirectory(prefix="paddle_tk-edge-") as name:
        work = Path(name)
        plan, models = _models(source, work, device, plan, quantization == "auto", make_int8, how)
        fitted = {
            key: fit_model(model, work / f"fitted{place}", device, batch_size=batch_size, threads=threads)
            for place, (key, model) in enumerate(models.items())
        }
        shown = picture or _picture(split, split_name)
        return _write(folder, device, _told_size(plan, source, input_size), fitted, shown, threads)


def _planned(source: ModelSource, device: Device, quantization: Quantization, make_int8: MakeInt8 | str) -> Plan:
    """Decides what the bundle holds before anything is made.

    Raises:
        BadInput: The device cannot run it, or it needs an INT8 model and none can be made.
    """
    is_int8 = source.artifact.precision == "int8"
    plan = make_plan(device, quantization, has_fp32=not is_int8)
    if INT8_FILE not in plan.files or is_int8 or not isinstance(make_int8, str):
        return plan
    if quantization != "auto":
        raise BadInput(
            f"no INT8 model for {device.name}: {make_int8}",
            f"make one with tools/quantize.py --target {device.int8_variant} and give it with --int8-model",
        )
    return without_int8(device, make_int8)


def _told_size(plan: Plan, source: ModelSource, input_size: tuple[int, int] | None) -> Plan:
    trained = source.artifact.preprocessing.size
    if input_size in (None, trained):
        return plan
    return plan.saying(f"Trained at {trained[0]}x{trained[1]} px: its accuracy at another size was not measured.")


def _models(
    source: ModelSource,
    work: Path,
    device: Device,
    plan: Plan,
    auto: bool,
    make_int8: MakeInt8 | str,
    how: Export,
) -> tuple[Plan, dict[str, ModelSource]]:
    """Makes a plan's files; an INT8 model that fails its gate is left out where nobody asked for it.

    Raises:
        CheckFailed: An export computes something else, or the INT8 model that was asked for fails its gate.
    """
    models: dict[str, ModelSource] = {}
    if FP32_FILE in plan.files:
        models[FP32_FILE] = fp32_model(source, work / "fp32", device, how)
    if INT8_FILE in plan.files:
        try:
            is_int8 = source.artifact.precision == "int8"
            made = source if isinstance(make_int8, str) or is_int8 else make_int8(work / "int8")
        except CheckFailed as error:
            if not auto:
                raise
            return without_int8(device, error.problem), models
        models[INT8_FILE] = int8_model(made, source, models.get(FP32_FILE), device)
    return plan, models


def export_opset(device: Device) -> int:
    """Returns the operator set that a model for a device is written in: one that all its engines take."""
    return min(DEFAULT_OPSET, device.opset, device.onnxruntime_opset)


def fit_model(source: ModelSource, work: Path, device: Device, *, batch_size: int = 1, threads: int = 1) -> ModelSource:
    """Fixes a file's batch size and lowers its IR version where a device's engines need it.

    Args:
        source: An ONNX model.
        work: A folder to be made for the changed file.
        device: From ``load_device``.
        batch_size: Images per run.
        threads: CPU threads of ONNX Runtime, for the proof that the changed file computes the same.

    Raises:
        BadInput: The file's batch size is fixed and another one.
        CheckFailed: The changed file computes something else.
    """
    model = read_model(source.file)
    if source.artifact.inputs[0].shape[0] not in (None, batch_size):
        raise BadInput(
            f"{source.file} takes batches of {source.artifact.inputs[0].shape[0]}, {batch_size} was asked for",
            "export it with --dynamic-batch, or give the Paddle model",
        )
    most_ir = min(device.ir_version, device.onnxruntime_ir)
    free = source.artifact.inputs[0].shape[0] is None
    lower = model.ir_version > most_ir and opset_of(model) <= export_opset(device)
    if not free and not lower:
        return source
    changed = fix_batch(model, batch_size) if free else model
    changed = stamp(changed, ir_version_for(opset_of(model))) if lower else changed
    work.mkdir()
    file = work / source.file.name
    write_bytes_atomic(file, changed.SerializeToString(deterministic=True))
    fitted = ModelSource(_fixed_artifact(source.artifact, file, batch_size), file, source.config)
    _require_same(source, fitted, batch_size, threads)
    return fitted


def _fixed_artifact(artifact: ModelArtifact, file: Path, batch: int) -> ModelArtifact:
    def fixed(specs: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
        return tuple(replace(spec, shape=(batch, *spec.shape[1:])) for spec in specs)

    return replace(
        artifact, path=file.name, inputs=fixed(artifact.inputs), outputs=fixed(artifact.outputs),
        sha256={file.name: sha256_file(file)},
    )  # fmt: skip


def _require_same(source: ModelSource, fitted: ModelSource, batch: int, threads: int) -> None:
    rng = np.random.default_rng(_NOISE_SEED)
    images = rng.standard_normal((2 * batch, 3, *source.artifact.preprocessing.size), dtype=np.float32)
    compare(
        load_predictor(source, threads=threads), load_predictor(fitted, threads=threads), images,
        samples=f"noise, seed {_NOISE_SEED}",
    ).require()  # fmt: skip


def _picture(split: ImageSplit | None, name: str) -> tuple[Array, str]:
    if split is None:
        return drawn_picture(), "drawn, no photograph"
    return np.asarray(split.image(0)), f"{name}, number 0"


def _write(
    folder: Path,
    device: Device,
    plan: Plan,
    models: Mapping[str, ModelSource],
    picture: tuple[Array, str],
    threads: int,
) -> EdgeBundle:
    graphs = {key: read_model(model.file) for key, model in models.items()}
    checked = [_examined(run, graphs[run.model], device) for run in plan.runs]
    runs, estimates, statements = _kept(plan, checked)
    kept = {run.model for run in runs}
    predictors = {
        model.artifact.precision: load_predictor(model, threads=threads)
        for key, model in models.items() if key in kept
    }  # fmt: skip
    selftest = write_selftest(folder, predictors, picture[0], origin=picture[1])
    reports = list({(r.file, r.engine): r for r, _ in checked if r is not None}.values())
    manifest = write_bundle(
        folder, device=device, runs=runs, statements=statements,
        models={key: model for key, model in models.items() if key in kept},
        preflights=reports, estimates=estimates, selftest=selftest,
    )  # fmt: skip
    return EdgeBundle(manifest, plan, runs, tuple(reports), estimates, statements)


_Examined = tuple[Preflight | None, Estimate | None]


def _examined(run: Run, graph: Any, device: Device) -> _Examined:
    if run.engine == "openvino":
        return None, None  # no list of what it cannot take, no peak figures
    report = preflight(graph, device, engine=run.engine, file=run.model)
    found = estimate(
        graph, device, engine=run.engine, precision=run.precision,
        workspace_mib=WORKSPACE_MIB if run.engine == "tensorrt" else 0,
    )  # fmt: skip
    return replace(report, findings=sorted_findings([*report.findings, *memory_findings(found, device)])), found


def _kept(plan: Plan, checked: list[_Examined]) -> tuple[tuple[Run, ...], tuple[Estimate | None, ...], tuple[str, ...]]:
    """Leaves out what the device cannot run.

    Raises:
        CheckFailed: The default, which was asked for, is refused.
    """
    kept, statements = [], list(plan.statements)
    for run, (report, found) in zip(plan.runs, checked, strict=True):
        if report is None or report.passed:
            kept.append((run, found))
            continue
        first = report.errors[0]
        if run is plan.runs[0]:
            more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
            raise CheckFailed(f"{run.model} does not run with {run.told()}: {first.problem}{more}", first.fix)
        statements.append(f"Left out: {run.told()}, because {first.problem}.")
    return tuple(run for run, _ in kept), tuple(found for _, found in kept), tuple(statements)
