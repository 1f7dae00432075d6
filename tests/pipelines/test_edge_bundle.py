from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from paddle_tk import processing
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.export.edge.devices import load_device
from paddle_tk.export.graph.edit import opset_of
from paddle_tk.files import sha256_file
from paddle_tk.pipelines.edge_bundle import EdgeBundle, build_bundle, export_opset, fit_model
from paddle_tk.runtime.load import ModelSource, open_model
from tests.export.edge.int8 import write_int8


def _build(source: ModelSource, folder: Path, device: str, **settings: object) -> EdgeBundle:
    folder.mkdir()
    return build_bundle(source, folder, device=load_device(device), samples=4, **settings)  # type: ignore[arg-type]


def _with_ir(source: ModelSource, folder: Path, ir_version: int) -> ModelSource:
    model = onnx.load(str(source.file))
    model.ir_version = ir_version
    file = folder / "model.onnx"
    onnx.save(model, str(file))
    return ModelSource(replace(source.artifact, sha256={file.name: sha256_file(file)}), file, None)


@pytest.mark.parametrize(("device", "opset", "ir_version"), [("jetson-nano", 13, 7), ("jetson-orin-nano", 17, 8)])
def test_bundle_exports_what_all_engines_of_the_device_take(
    device: str,
    opset: int,
    ir_version: int,
    models: Path,
    tmp_path: Path,
) -> None:
    bundle = _build(open_model(models / "run"), tmp_path / "b", device, quantization="fp16")
    model = onnx.load(str(tmp_path / "b" / "models" / "model.onnx"))
    assert (opset_of(model), model.ir_version, export_opset(load_device(device))) == (opset, ir_version, opset)
    assert [report.passed for report in bundle.preflights] == [True, True]
    assert bundle.manifest["models"][0]["metrics"]["parity"]["passed"] is True


def test_bundle_lists_every_file_with_its_hash_and_copies_processing_as_it_is(
    models: Path,
    tmp_path: Path,
) -> None:
    _build(open_model(models / "onnx"), tmp_path / "b", "x86-cpu", quantization="fp32")
    folder = tmp_path / "b"
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == found - {"manifest.json"}
    assert all(sha256_file(folder / name) == expected for name, expected in manifest["files"].items())
    assert (folder / "processing.py").read_bytes() == Path(str(processing.__file__)).read_bytes()
    assert json.loads((folder / "preflight.json").read_text())["estimates"][0]["origin"] == "estimated"


def test_bundle_refuses_when_the_device_cannot_take_the_file_that_was_asked_for(
    models: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(CheckFailed, match=r"opset 17, TensorRT 8\.2\.1 takes at most 13") as caught:
        _build(open_model(models / "onnx"), tmp_path / "b", "jetson-nano", quantization="fp16")
    assert "--opset 13" in caught.value.fix


def test_bundle_leaves_out_what_was_not_asked_for_and_says_so_when_the_device_cannot_take_it(
    models: Path,
    tmp_path: Path,
) -> None:
    newer = open_model(write_int8(models / "onnx", tmp_path / "int8", variant="arm"))
    bundle = _build(
        open_model(models / "run"), tmp_path / "b", "jetson-nano", quantization="int8", make_int8=lambda _: newer
    )
    assert bundle.runs[0].told() == "--engine tensorrt --precision fp16"
    assert not any(run.precision == "int8" for run in bundle.runs)
    assert any("Left out: --engine onnxruntime --precision int8" in said for said in bundle.statements)
    assert not (tmp_path / "b" / "models" / "model.int8.onnx").exists()


def test_bundle_refuses_an_int8_model_of_another_form_or_of_another_model(
    models: Path,
    tmp_path: Path,
) -> None:
    arm = open_model(write_int8(models / "onnx", tmp_path / "int8", variant="arm"))
    with pytest.raises(BadInput, match="in the form for 'arm', x86-cpu takes 'x86'"):
        _build(open_model(models / "onnx"), tmp_path / "a", "x86-cpu", quantization="int8", make_int8=lambda _: arm)
    stranger = replace(arm, artifact=replace(arm.artifact, parent_sha256="0" * 64))
    with pytest.raises(BadInput, match="was not made from"):
        _build(open_model(models / "onnx"), tmp_path / "c", "raspberry-pi-5", quantization="int8",
               make_int8=lambda _: stranger)  # fmt: skip
    with pytest.raises(BadInput, match=r"INT8 model for raspberry-pi-5.*--int8-model"):
        _build(open_model(models / "onnx"), tmp_path / "d", "raspberry-pi-5", quantization="int8")


def test_fit_model_fixes_a_free_batch_and_refuses_another_fixed_one(models: Path, tmp_path: Path) -> None:
    device = load_device("x86-cpu")
    fitted = fit_model(open_model(models / "onnx-dynamic"), tmp_path / "w", device, batch_size=3)
    assert fitted.artifact.inputs[0].shape == (3, 3, 28, 28)
    assert fitted.artifact.outputs[0].shape == (3, 10)
    fixed = open_model(models / "onnx")
    assert fit_model(fixed, tmp_path / "v", device) is fixed
    with pytest.raises(BadInput, match="takes batches of 1, 2 was asked for"):
        fit_model(fixed, tmp_path / "u", device, batch_size=2)


def test_fit_model_lowers_an_ir_version_that_only_the_file_format_asks_for(
    models: Path,
    tmp_path: Path,
) -> None:
    source = _with_ir(open_model(models / "onnx"), tmp_path, 10)
    fitted = fit_model(source, tmp_path / "w", load_device("jetson-xavier-nx"))
    assert onnx.load(str(fitted.file)).ir_version == 8
    assert fit_model(source, tmp_path / "v", load_device("raspberry-pi-5")) is source
