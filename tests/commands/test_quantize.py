from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from paddle_tk.commands.eval import main as evaluate
from paddle_tk.commands.quantize import main
from paddle_tk.manifest import load_manifest
from tests.export.qdq.graphs import WEIGHT_BITS, residual

# Figures of speed belong into benchmarks; small networks have large Q/DQ nodes.
QUICK = [
    *("--quiet", "--samples", "64", "quantize.latency_rounds=0", f"quantize.weight_bits={WEIGHT_BITS}"),
    "quantize.max_size_ratio=1",
]
FILES = {"model.int8.onnx", "manifest.json", "quantization.json", "calibration.json", "training_config.yaml"}


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def int8(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet in INT8 for x86; read only."""
    out = tmp_path_factory.mktemp("int8") / "out"
    assert main([*QUICK, "--model", str(models / "run"), "--output", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another tool's ONNX file, and pictures."""
    folder = tmp_path_factory.mktemp("foreign")
    onnx.save(residual(), str(folder / "other.onnx"))
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        cv2.imwrite(str(folder / "pictures" / f"{number}.png"), rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    return folder


def test_quantize_writes_model_report_and_calibration(int8: Path, models: Path) -> None:
    assert {path.name for path in int8.iterdir()} == FILES
    report, artifact = _json(int8 / "quantization.json"), load_manifest(int8)

    assert (artifact.precision, artifact.variant, artifact.path) == ("int8", "x86", "model.int8.onnx")
    assert artifact.parent_sha256 == load_manifest(models / "run" / "model").sha256["model.safetensors"]
    assert report["n"] == report["agreement_n"] == 359
    assert abs(report["drop"]) <= 0.01
    assert report["agreement"] >= 0.98
    assert report["skipped"] == {}
    assert len(report["quantized"]) >= 5, "two convolutions and three linear layers"
    assert report["calibration"] == {
        "algorithm": "abs_max", "images": 64, "origin": "digits training images", "size": [28, 28],
    }  # fmt: skip
    assert report["latency_ratio"] is None
    assert report["gate"]["passed"] is True


def test_eval_tool_measures_the_accuracy_that_the_report_says(int8: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    assert evaluate(["--quiet", "--model", str(int8), "--json", str(found)]) == 0

    assert _json(found)["top1"] == _json(int8 / "quantization.json")["accuracy_int8"]


def test_second_variant_needs_no_images_when_a_calibration_is_given(int8: Path, models: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(models / "run"), "--target", "tensorrt", "--calibration", str(int8)]
    assert main([*QUICK, *arguments, "--output", str(tmp_path / "trt")]) == 0

    first, second = (_json(folder / "calibration.json") for folder in (int8, tmp_path / "trt"))
    assert first == second
    assert load_manifest(tmp_path / "trt").variant == "tensorrt"
    held = {t.name: t for t in onnx.load(str(tmp_path / "trt" / "model.int8.onnx")).graph.initializer}
    assert onnx.TensorProto.UINT8 not in {t.data_type for t in held.values()}


@pytest.mark.parametrize("network", ["picodet_xs", "yolov10n"])
@pytest.mark.parametrize("target", ["x86", "tensorrt"])
def test_detectors_are_quantized_too(network: str, target: str, detectors: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    loose = ["quantize.max_drop=1", "quantize.min_agreement=0", "--algorithm", "hist"]
    arguments = ["--model", str(detectors / network), "--target", target, "--output", str(out)]
    assert main([*QUICK, *arguments, *loose]) == 0

    report = _json(out / "quantization.json")
    assert report["metric"] == "map50_95"
    assert report["n"] == 8
    assert report["min_cosine"] > 0.9
    assert report["algorithm"] == "hist"


def test_nothing_is_written_when_the_gate_refuses(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(models / "run"), "--output", str(tmp_path / "out"), "quantize.max_size_ratio=0.1"]
    assert main([*QUICK[:-1], *arguments]) == 1

    error = _one_error(capsys)
    assert "size ratio" in error
    assert "(limit 0.1: no)" in error
    assert list(tmp_path.iterdir()) == []


def test_only_lost_accuracy_is_explained_by_weights_of_8_bits_that_overflow(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddle_tk.environment.processor.has_vnni", lambda: False)
    given = [*QUICK, "--model", str(models / "run"), "--output", str(tmp_path / "out")]
    dark = tmp_path / "dark"
    dark.mkdir()
    cv2.imwrite(str(dark / "a.png"), np.ones((28, 28, 3), np.uint8))
    lost = ["--calibration", str(dark), "quantize.min_agreement=1"]
    for arguments, code, hinted in (
        ([*lost, "quantize.weight_bits=8"], 1, True),
        ([*lost, "quantize.weight_bits=7"], 1, False),
        (["quantize.max_size_ratio=0.1", "quantize.weight_bits=8"], 1, False),
        (["quantize.weight_bits=8", "--keep-float", "nobody"], 2, False),
    ):
        assert main([*given, *arguments]) == code
        assert ("no VNNI" in _one_error(capsys)) is hinted, arguments


def test_named_node_stays_in_float(models: Path, int8: Path, tmp_path: Path) -> None:
    name = _json(int8 / "quantization.json")["quantized"][1]
    arguments = ["--model", str(models / "run"), "--output", str(tmp_path / "out"), "--keep-float", name]
    assert main([*QUICK, *arguments]) == 0

    assert _json(tmp_path / "out" / "quantization.json")["skipped"] == {name: "asked for"}


def test_foreign_file_is_quantized_with_a_folder_of_images(foreign: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(foreign / "other.onnx"), "--task", "classification", "--classes", "a,b,c,d,e"]
    calibration = ["--calibration", str(foreign / "pictures"), "--output", str(tmp_path / "out")]
    assert main([*QUICK, *arguments, *calibration]) == 0

    report = _json(tmp_path / "out" / "quantization.json")
    assert report["accuracy_fp32"] is None
    assert report["agreement_n"] == 6
    assert evaluate(["--quiet", "--model", str(tmp_path / "out"), "--data", "digits"]) == 2, "it has other classes"


def test_other_size_is_quantized_for_latency_only(models: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(models / "onnx"), "--output", str(tmp_path / "out"), "--allow-unvalidated"]
    assert main([*QUICK, *arguments]) == 0

    report = _json(tmp_path / "out" / "quantization.json")
    assert report["validated"] is False
    assert report["accuracy_int8"] is None
    assert load_manifest(tmp_path / "out").metrics["validated"] is False


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--calibration", "EMPTY"], "holds no image"),
        (["--calibration", "nowhere"], "no folder nowhere"),
        (["--keep-float", "nobody"], "no node 'nobody'"),
        (["--input-size", "32x32"], "add --allow-unvalidated"),
        (["--opset", "11"], "opset 11"),
        (["--max-drop", "much"], "points from 0 to 100"),
        (["quantize.max_dropp=1"], "did you mean 'quantize.max_drop'"),
        (["trainer.max_epochs=1"], "only for a fine-tuning"),
        (["--method", "qat", "--input-size", "32x32"], "fine-tuned at the size"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    arguments: list[str], named: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    given = [str(tmp_path / "empty") if item == "EMPTY" else item for item in arguments]

    assert main([*QUICK, "--model", str(models / "run"), "--output", str(tmp_path / "out"), *given]) == 2
    assert named in _one_error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder, file: (folder / "x.onnx").write_text("text"), "no ONNX file"),
        (lambda folder, file: (folder / "x.onnx").write_bytes(file.read_bytes()[:2000]), "no ONNX file"),
        (lambda folder, file: shutil.copy(file, folder / "x.onnx"), "does not say what it needs"),
    ],
)
def test_file_that_cannot_be_used_is_one_line(
    make: Any, named: str, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, foreign / "other.onnx")

    assert main([*QUICK, "--model", str(tmp_path / "x.onnx"), "--output", str(tmp_path / "out")]) == 2
    assert named in _one_error(capsys)


def test_int8_model_is_not_quantized_again(int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--model", str(int8), "--output", str(tmp_path / "out")]) == 2

    assert "INT8 already" in _one_error(capsys)
