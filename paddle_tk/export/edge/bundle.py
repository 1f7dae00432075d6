"""Writes a bundle: models, runner, build script, self-test, README and a manifest with the hash of every file."""

from __future__ import annotations

import importlib.resources
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paddle_tk import __version__, processing
from paddle_tk.errors import ArtifactError
from paddle_tk.export.edge.build_script import NAME as BUILD_SCRIPT
from paddle_tk.export.edge.build_script import build_script
from paddle_tk.export.edge.devices import Device
from paddle_tk.export.edge.estimate import Estimate
from paddle_tk.export.edge.findings import Preflight
from paddle_tk.export.edge.model_file import read_model
from paddle_tk.export.edge.plan import Run
from paddle_tk.export.edge.readme import Facts, readme
from paddle_tk.export.edge.selftest import SelfTest
from paddle_tk.export.graph.edit import opset_of
from paddle_tk.files import sha256_file, write_bytes_atomic, write_json
from paddle_tk.manifest import NAME as MANIFEST
from paddle_tk.runtime.load import ModelSource

MADE_BY = f"paddle_tk {__version__} optimize_for_edge"
# The same in runner/runner_bundle.py, which checks them.
KIND, SCHEMA_VERSION = "edge bundle", 1
PREFLIGHT, README, REQUIREMENTS = "preflight.json", "README.md", "requirements.txt"
_TENSORRT_ENGINE = "tensorrt_engine.py"
_EXECUTABLE = 0o755
# From there on the float biases of the x86 INT8 form are fused.
_ONNXRUNTIME_X86 = "onnxruntime>=1.23.2"
# Last onnxruntime with a wheel, per Python: those of the device table.
_ONNXRUNTIME = (
    ('python_version >= "3.11"', "1.32.0"),
    ('python_version == "3.10"', "1.23.2"),
    ('python_version == "3.8" or python_version == "3.9"', "1.19.2"),
    ('python_version == "3.6"', "1.10.0"),
)


def write_bundle(
    folder: Path,
    *,
    device: Device,
    runs: Sequence[Run],
    statements: Sequence[str],
    models: Mapping[str, ModelSource],
    preflights: Sequence[Preflight],
    estimates: Sequence[Estimate | None],
    selftest: SelfTest,
) -> dict[str, Any]:
    """Writes everything but the self-test, which is there already, into an existing folder.

    Args:
        folder: The bundle; it holds the self-test's files.
        device: The target.
        runs: Ways to run the model, the default first.
        statements: What the user must be told.
        models: The model files, by their relative path in the bundle; equal task, inputs and preprocessing.
        preflights: Their checks.
        estimates: One per run, None where nothing is estimated.
        selftest: What was written of it.

    Returns:
        The manifest.
    """
    entries = [_copy_model(folder, name, source) for name, source in models.items()]
    _write_runner(folder, device, runs)
    artifact = next(iter(models.values())).artifact
    facts = Facts(
        device=device, runs=tuple(runs), statements=tuple(statements), models=entries, estimates=estimates,
        preflights=preflights, task=artifact.task.kind, input_shape=_fixed(artifact.inputs[0].shape),
        selftest_origin=selftest.origin,
    )  # fmt: skip
    write_bytes_atomic(folder / README, readme(facts).encode())
    write_json(folder / PREFLIGHT, _preflight_json(device, runs, statements, preflights, estimates))
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "made_by": MADE_BY,
        "device": device.name,
        "device_title": device.title,
        "power_mode": device.recommended_power_mode,
        "task": asdict(artifact.task),
        "input": {"name": artifact.inputs[0].name, "shape": list(facts.input_shape)},
        "outputs": [{"name": spec.name, "shape": list(_fixed(spec.shape))} for spec in artifact.outputs],
        "preprocessing": artifact.preprocessing.to_dict(),
        "postprocessing": dict(artifact.postprocessing),
        "models": entries,
        "runs": [{**asdict(run), "engine_file": run.engine_file} for run in runs],
        "statements": list(statements),
        "selftest": selftest.to_dict(),
        "files": _hashes(folder),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _copy_model(folder: Path, name: str, source: ModelSource) -> dict[str, Any]:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.file, target)
    model, artifact = read_model(target), source.artifact
    return {
        "file": name,
        "precision": artifact.precision,
        "variant": artifact.variant,
        "bytes": target.stat().st_size,
        "opset": opset_of(model),
        "ir_version": int(model.ir_version),
        "parent_sha256": artifact.parent_sha256,
        "made_by": artifact.made_by,
        "metrics": dict(artifact.metrics),
    }


def _write_runner(folder: Path, device: Device, runs: Sequence[Run]) -> None:
    for resource in importlib.resources.files(__package__).joinpath("runner").iterdir():
        if resource.name.endswith(".py"):
            write_bytes_atomic(folder / resource.name, resource.read_bytes())
    shutil.copyfile(str(processing.__file__), folder / "processing.py")
    write_bytes_atomic(folder / REQUIREMENTS, _requirements(device).encode())
    if any(run.engine == "tensorrt" for run in runs):
        engine = importlib.resources.files("paddle_tk.runtime").joinpath(_TENSORRT_ENGINE)
        write_bytes_atomic(folder / _TENSORRT_ENGINE, engine.read_bytes())
        write_bytes_atomic(folder / BUILD_SCRIPT, build_script(device, runs).encode())
        (folder / BUILD_SCRIPT).chmod(_EXECUTABLE)


def _requirements(device: Device) -> str:
    lines = ["# What runner.py needs beside Python."]
    if device.engine == "tensorrt":
        lines += [
            f"# NumPy, OpenCV and TensorRT come with {device.software}; leave the system's versions in place.",
            "# Only --engine onnxruntime, on the CPU, needs more:",
            f"onnxruntime=={device.onnxruntime}",
        ]
    else:
        lines += ["numpy", "opencv-python-headless"]
        x86 = device.int8_variant == "x86"
        lines += (
            [_ONNXRUNTIME_X86] if x86 else [f"onnxruntime=={version} ; {marker}" for marker, version in _ONNXRUNTIME]
        )
    return "\n".join(lines) + "\n"


def _preflight_json(
    device: Device,
    runs: Sequence[Run],
    statements: Sequence[str],
    preflights: Sequence[Preflight],
    estimates: Sequence[Estimate | None],
) -> dict[str, Any]:
    return {
        "device": device.name,
        "passed": all(report.passed for report in preflights),
        "reports": [report.to_dict() for report in preflights],
        "estimates": [
            {**asdict(run), **found.to_dict()} for run, found in zip(runs, estimates, strict=True) if found is not None
        ],
        "cited": [{**asdict(entry), "origin": "cited"} for entry in device.cited],
        "statements": list(statements),
    }


def _fixed(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    fixed = tuple(side for side in shape if side is not None)
    if len(fixed) != len(shape):
        raise ArtifactError(f"a tensor has the free shape {list(shape)}", "export the model with a fixed batch")
    return fixed


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
