from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from paddle_tk.commands.optimize_for_edge import main
from paddle_tk.processing import preprocess, softmax
from paddle_tk.runtime.load import load_predictor, open_model
from tests.export.edge.built import copy, run
from tests.export.qdq.graphs import residual
from tests.tiny_run import flip_byte

# Figures of speed belong into benchmarks; small networks have large Q/DQ nodes.
QUICK = ["--quiet", "--samples", "4"]
INT8 = ["--quantization", "int8", "quantize.samples=32", "quantize.latency_rounds=0", "quantize.max_size_ratio=1"]


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def _manifest(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / "manifest.json").read_text()))


@pytest.fixture(scope="module")
def built(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of bundles made by the command, in INT8: ``x86-cpu`` and ``jetson-nano``; read only."""
    base = tmp_path_factory.mktemp("bundles")
    for device in ("x86-cpu", "jetson-nano"):
        arguments = ["--target-device", device, "--model-path", str(models / "run"), "--output", str(base / device)]
        assert main([*QUICK, *INT8, *arguments]) == 0
    return base


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tool's ONNX file."""
    path = tmp_path_factory.mktemp("foreign") / "other.onnx"
    onnx.save(residual(), str(path))
    return path


def test_bundle_says_plainly_that_int8_does_not_run_when_the_gpu_has_none(built: Path) -> None:
    bundle = built / "jetson-nano"
    manifest, readme = _manifest(bundle), (bundle / "README.md").read_text()
    assert any(said.startswith("INT8 does not run on the GPU of NVIDIA Jetson Nano") for said in manifest["statements"])
    assert "INT8 does not run on the GPU of NVIDIA Jetson Nano" in readme
    first = manifest["runs"][0]
    assert (first["engine"], first["precision"], first["model"]) == ("tensorrt", "fp16", "models/model.onnx")
    assert not [run for run in manifest["runs"] if run["engine"] == "tensorrt" and run["precision"] == "int8"]
    held = onnx.load(str(bundle / "models" / "model.onnx"))
    assert not [node for node in held.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert (held.opset_import[0].version, held.ir_version) == (13, 7)
    assert (bundle / "build_engine.sh").stat().st_mode & 0o111


def test_bundle_gives_the_measured_accuracy_of_an_int8_model_made_for_it(built: Path) -> None:
    entry = next(entry for entry in _manifest(built / "x86-cpu")["models"] if entry["precision"] == "int8")
    assert entry["metrics"]["n"] == 359
    assert f"accuracy {entry['metrics']['accuracy_int8']:.4f}" in (built / "x86-cpu" / "README.md").read_text()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_runner_gives_the_toolkits_output_when_paddle_cannot_be_imported(
    precision: str, built: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    bundle = built / "x86-cpu"
    done = run(bundle, "--image", str(tmp_path / "a.png"), "--precision", precision, block=tmp_path / "b")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["images"][0]["predictions"]

    name = next(entry["file"] for entry in _manifest(bundle)["models"] if entry["precision"] == precision)
    source = open_model(bundle / name)
    expected = softmax(
        load_predictor(source).predict(preprocess(image, source.artifact.preprocessing.to_dict())[None])[0]
    )[0]
    assert [entry["class_id"] for entry in found] == np.argsort(-expected, kind="stable")[:5].tolist()
    assert [entry["score"] for entry in found] == pytest.approx(sorted(expected, reverse=True)[:5], abs=1e-6)


def test_runner_refuses_in_one_line_when_a_file_was_changed(built: Path, tmp_path: Path) -> None:
    bundle = copy(built / "x86-cpu", tmp_path / "bundle")
    flip_byte(bundle / "models" / "model.int8.onnx")
    done = run(bundle, "--selftest", block=tmp_path / "b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "model.int8.onnx is damaged or was changed" in done.stderr


def test_runner_says_nothing_when_its_reader_has_closed(built: Path) -> None:
    command = f"{sys.executable} {built / 'x86-cpu' / 'runner.py'} --selftest | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.parametrize("device", ["x86-cpu", "jetson-nano"])
def test_every_python_file_of_a_bundle_keeps_to_python_3_6(device: str, built: Path) -> None:
    files = sorted(str(path) for path in (built / device).rglob("*.py"))
    assert len(files) >= 6
    vermin = Path(sys.executable).with_name("vermin")
    done = subprocess.run(
        [str(vermin), "-t=3.6-", "--eval-annotations", "--violations", *files],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_auto_leaves_int8_out_and_says_why_when_it_fails_its_gate(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    arguments = ["--target-device", "x86-cpu", "--model-path", str(models / "run"), "--output", str(out)]
    assert (
        main([*QUICK, *arguments, "quantize.samples=32", "quantize.latency_rounds=0", "quantize.max_size_ratio=0.01"])
        == 0
    )
    manifest = _manifest(out)
    assert [entry["precision"] for entry in manifest["models"]] == ["fp32"]
    assert "the INT8 model does not ship" in manifest["statements"][0]


def test_int8_that_was_asked_for_writes_nothing_when_it_fails_its_gate(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    arguments = ["--target-device", "x86-cpu", "--model-path", str(models / "run"), "--output", str(out)]
    assert main([*QUICK, *INT8[:-1], "quantize.max_size_ratio=0.01", *arguments]) == 1
    assert "does not ship" in _one_error(capsys)
    assert not out.exists()


def test_another_input_size_is_told_to_be_unmeasured(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    arguments = ["--target-device", "raspberry-pi-5", "--model-path", str(models / "run"), "--output", str(out)]
    assert main([*QUICK, *INT8, *arguments, "--input-size", "28x32"]) == 0
    manifest = _manifest(out)
    assert manifest["input"]["shape"] == [1, 3, 28, 32]
    assert "Trained at 28x28 px: its accuracy at another size was not measured." in (out / "README.md").read_text()
    entry = next(entry for entry in manifest["models"] if entry["precision"] == "int8")
    assert entry["metrics"]["accuracy_int8"] is None


def test_foreign_file_becomes_a_bundle_when_it_is_described(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    arguments = ["--target-device", "raspberry-pi-5", "--model-path", str(foreign), "--output", str(out)]
    assert main([*QUICK, *arguments, "--task", "classification", "--classes", "a,b,c,d,e"]) == 0
    assert "warning" in capsys.readouterr().err
    manifest = _manifest(out)
    assert manifest["task"]["classes"] == ["a", "b", "c", "d", "e"]
    assert "no images to calibrate" in manifest["statements"][0]
    done = run(out, "--selftest", block=tmp_path / "w")
    assert done.returncode == 0, done.stderr


def _no_onnx(path: Path, _: Path) -> None:
    path.write_text("a page about ONNX, which is no model\n" * 40)


def _truncated(path: Path, exported: Path) -> None:
    payload = (exported / "model.onnx").read_bytes()
    path.write_bytes(payload[: len(payload) // 2])


def _empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("make", [_no_onnx, _truncated, _empty])
@pytest.mark.parametrize("described", [True, False])
def test_file_is_refused_in_one_line_when_it_is_no_model(
    make: Callable[[Path, Path], None], described: bool, models: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file, out = tmp_path / "m.onnx", tmp_path / "b"
    make(file, models / "onnx")
    said = ["--task", "classification", "--classes", "a,b"] if described else []
    assert main([*QUICK, "--target-device", "jetson-nano", "--model-path", str(file), "--output", str(out), *said]) == 2
    assert "m.onnx" in _one_error(capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--target-device", "jetson-nanno"], "did you mean 'jetson-nano'?"),
        ([], "no device was given"),
        (["--target-device", "jetson-nano", "--input-size", "4x4"], "from 8 to 4096"),
        (["--target-device", "jetson-nano", "--input-size", "8x8"], "too small for lenet"),
        (["--target-device", "x86-cpu", "--quantization", "fp16"], "has no FP16 engine"),
        (["--target-device", "x86-cpu", "--batch-size", "0"], "at least 1"),
        (["--target-device", "x86-cpu", "--selftest-image", "none.png"], "none.png"),
        (["--target-device", "x86-cpu", "--quantization", "int8", "--calibration", "none/"], "none"),
        (["--target-device", "x86-cpu", "--quantization", "int8", "--int8-model", "none"], "none"),
        (["--target-device", "x86-cpu", "--quantization", "int8", "--batch-size", "4"], "takes one image a run"),
        (["--target-device", "x86-cpu", "--target-latency", "50ms"], "leave out --target-device, or the limit"),
        (["--target-device", "x86-cpu", "--input-sizes", "64"], "is for the latency mode"),
    ],
)
def test_command_says_in_one_line_what_is_wrong_and_writes_nothing(
    arguments: list[str], told: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    code = main([*QUICK, "--model-path", str(models / "run"), "--output", str(out), *arguments])
    assert code == 2
    assert told in _one_error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_output_folder_is_left_alone_when_it_holds_anything_else(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    arguments = ["--target-device", "raspberry-pi-4", "--model-path", str(models / "run"), "--output", str(out)]
    assert main([*QUICK, *arguments]) == 0
    assert main([*QUICK, *arguments]) == 0
    assert "an earlier bundle was replaced" in capsys.readouterr().out
    (out / "mine.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main([*QUICK, *arguments]) == 2
    assert "mine.txt" in _one_error(capsys)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
