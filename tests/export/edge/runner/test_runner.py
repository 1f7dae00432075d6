from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from paddle_tk.processing import decode_detections, preprocess, softmax
from paddle_tk.runtime.load import load_predictor, open_model
from tests.export.edge.built import copy, run
from tests.tiny_run import flip_byte

# What the bundle's modules may use of onnxruntime: all of it is in 1.10.0, where it was run.
ORT_1_10 = {
    "SessionOptions", "InferenceSession", "__version__", "intra_op_num_threads", "log_severity_level", "io_binding",
    "bind_input", "bind_output", "run_with_iobinding",
}  # fmt: skip


def _picture(path: Path, seed: int = 0, shape: tuple[int, int, int] = (40, 56, 3)) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image


def _json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


def _error(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("name", ["x86", "nano", "batch2", "boxes"])
def test_selftest_passes_when_the_engine_computes_the_same(name: str, bundles: Path, tmp_path: Path) -> None:
    report = _json(run(bundles / name, "--selftest", "--engine", "onnxruntime", block=tmp_path))
    assert (report["passed"], report["picture_difference_levels"], report["same_best"]) == (True, 0, True)
    assert max(report["output_differences"]) <= report["output_difference_allowed"]
    assert report["predictions"]


def test_selftest_fails_when_the_model_computes_something_else(bundles: Path, tmp_path: Path) -> None:
    bundle = copy(bundles / "x86", tmp_path / "b")
    stored = dict(np.load(bundle / "selftest" / "expected.npz"))
    stored["fp32_0"] = stored["fp32_0"] + 0.01 * np.abs(stored["fp32_0"]).max()
    np.savez(bundle / "selftest" / "expected.npz", **stored)
    _rehash(bundle, "selftest/expected.npz")
    done = run(bundle, "--selftest", "--precision", "fp32", block=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["passed"] is False
    assert run(bundle, "--selftest", "--precision", "int8", block=tmp_path).returncode == 0


def _rehash(bundle: Path, name: str) -> None:
    from paddle_tk.files import sha256_file

    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = sha256_file(bundle / name)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_image_gives_the_toolkits_probabilities_when_a_classifier_is_run(bundles: Path, tmp_path: Path) -> None:
    image = _picture(tmp_path / "a.png")
    report = _json(run(bundles / "x86", "--image", str(tmp_path / "a.png"), "--precision", "fp32", block=tmp_path))
    source = open_model(bundles / "x86" / "models" / "model.onnx")
    batch = preprocess(image, source.artifact.preprocessing.to_dict())[None]
    expected = softmax(load_predictor(source).predict(batch)[0])[0]
    found = report["images"][0]["predictions"]
    assert [entry["class_id"] for entry in found] == np.argsort(-expected, kind="stable")[:5].tolist()
    assert [entry["score"] for entry in found] == pytest.approx(sorted(expected, reverse=True)[:5], rel=1e-5)


def test_folder_gives_the_toolkits_boxes_and_pictures_when_a_detector_is_run(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    images = {name: _picture(tmp_path / "in" / name, seed) for seed, name in enumerate(("a.png", "b.jpg", "c.png"))}
    (tmp_path / "in" / "notes.txt").write_text("no image")
    out = tmp_path / "out"
    arguments = ["--folder", str(tmp_path / "in"), "--output", str(out), "--score", "0", "--async", "2"]
    report = _json(run(bundles / "boxes", *arguments, block=tmp_path))
    assert [Path(entry["image"]).name for entry in report["images"]] == list(images)
    assert {path.name for path in out.iterdir()} == {"a.png", "b.jpg", "c.png", "predictions.json"}
    assert json.loads((out / "predictions.json").read_text()) == report
    source = open_model(bundles / "boxes" / "models" / "model.onnx")
    before, after = source.artifact.preprocessing.to_dict(), dict(source.artifact.postprocessing)
    boxes, scores = load_predictor(source).predict(preprocess(images["a.png"], before)[None])
    expected = decode_detections(boxes[0], scores[0], (40, 56), before, {**after, "score_threshold": 0.0})
    found = report["images"][0]["predictions"]
    assert len(found) == len(expected[0]) > 0
    assert [entry["class_id"] for entry in found] == expected[2].tolist()
    assert np.abs(np.array([entry["box"] for entry in found]) - expected[0]).max() <= 0.01
    drawn = cv2.imread(str(out / "a.png"))
    assert drawn is not None
    assert drawn.shape == (40, 56, 3)


def test_folder_fills_a_last_batch_up_when_the_images_make_no_whole_one(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(3):
        _picture(tmp_path / "in" / f"{seed}.png", seed)
    both = [
        _json(run(bundles / name, "--folder", str(tmp_path / "in"), "--precision", "fp32", block=tmp_path))["images"]
        for name in ("batch2", "x86")
    ]
    assert len(both[0]) == 3
    for left, right in zip(*both, strict=True):
        assert [e["class_id"] for e in left["predictions"]] == [e["class_id"] for e in right["predictions"]]
        assert left["predictions"][0]["score"] == pytest.approx(right["predictions"][0]["score"], rel=1e-4)


def test_output_replaces_earlier_results_but_nothing_else(bundles: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _picture(tmp_path / name)
    out = tmp_path / "out"
    for name in ("a.png", "b.png"):
        _json(run(bundles / "x86", "--image", str(tmp_path / name), "--output", str(out), block=tmp_path))
    assert {path.name for path in out.iterdir()} == {"b.png", "predictions.json"}
    (out / "mine.txt").write_text("mine")
    told = _error(run(bundles / "x86", "--image", str(tmp_path / "a.png"), "--output", str(out), block=tmp_path))
    assert "mine.txt" in told
    assert {path.name for path in out.iterdir()} == {"b.png", "predictions.json", "mine.txt"}


def test_benchmark_prints_measured_times_with_their_conditions(bundles: Path, tmp_path: Path) -> None:
    arguments = ["--benchmark", "5", "--warmup", "1", "--threads", "1", "--async", "2", "--json", "f.json"]
    report = _json(run(bundles / "x86", *arguments, block=tmp_path))
    assert (report["precision"], report["threads"], report["in_flight"], report["origin"]) == ("int8", 1, 2, "measured")
    for part in ("network_ms", "end_to_end_ms"):
        times = report[part]
        assert len(times["samples"]) == times["n"] == 5
        assert 0 < times["least"] <= times["p50"] <= times["p95"] <= times["p99"]
    assert report["images_per_second"] > 0
    assert report["peak_memory_mib"] > 10
    assert json.loads((tmp_path / "f.json").read_text()) == report


@pytest.mark.parametrize("name", ["models/model.onnx", "processing.py", "runner_images.py", "selftest/image.png"])
def test_runner_refuses_before_it_runs_when_a_file_was_changed(name: str, bundles: Path, tmp_path: Path) -> None:
    bundle = copy(bundles / "x86", tmp_path / "b")
    flip_byte(bundle / name, -20)
    assert "is damaged or was changed" in _error(run(bundle, "--selftest", block=tmp_path))
    (bundle / name).unlink()
    assert "is missing" in _error(run(bundle, "--verify", block=tmp_path))


def test_runner_refuses_when_the_manifest_is_another_or_names_files_outside(bundles: Path, tmp_path: Path) -> None:
    bundle = copy(bundles / "x86", tmp_path / "b")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "files": {"../x": "0"}}))
    assert "outside the bundle" in _error(run(bundle, "--verify", block=tmp_path))
    for payload in ("{", json.dumps({"kind": "other"}), json.dumps({**manifest, "schema_version": 9})):
        (bundle / "manifest.json").write_text(payload)
        _error(run(bundle, "--verify", block=tmp_path))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "required"),
        (["--image", "none.png"], "no image at none.png"),
        (["--folder", "none"], "no folder at none"),
        (["--folder", "."], "no images in ."),
        (["--image", "text.png"], "cannot be decoded"),
        (["--selftest", "--precision", "fp16"], "nothing for fp16. Fix: use one of: --engine onnxruntime"),
        (["--selftest", "--engine", "openvino"], "OpenVINO is not installed"),
        (["--benchmark", "0"], "must be an integer of at least 1"),
        (["--selftest", "--score", "2"], "must be from 0 to 1"),
    ],
)
def test_runner_says_in_one_line_what_is_wrong(arguments: list[str], told: str, bundles: Path, tmp_path: Path) -> None:
    block = tmp_path / "w"
    block.mkdir()
    if "text.png" in arguments:
        (block / "text.png").write_text("no image")
    assert told in _error(run(bundles / "x86", *arguments, block=block))


def test_tensorrt_run_asks_for_the_engine_to_be_built_and_refuses_one_of_another_model(
    bundles: Path, tmp_path: Path
) -> None:
    bundle = copy(bundles / "nano", tmp_path / "b")
    assert "./build_engine.sh --precision fp16" in _error(run(bundle, "--selftest", block=tmp_path))
    (bundle / "engines").mkdir()
    (bundle / "engines" / "model.fp16.engine").write_bytes(b"engine")
    (bundle / "engines" / "model.fp16.engine.sha256").write_text("0\n1\n")
    assert "was not built from models/model.onnx" in _error(run(bundle, "--selftest", block=tmp_path))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_gives_the_same_when_it_is_installed(precision: str, bundles: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    chosen = ["--engine", "openvino", "--precision", precision]
    done = subprocess.run(
        [sys.executable, str(bundles / "x86" / "runner.py"), "--selftest", *chosen],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (done.returncode, report["engine"], report["passed"]) == (0, "openvino", True)
    assert max(report["output_differences"]) <= report["output_difference_allowed"] <= 0.1


def _runner_files(bundles: Path) -> list[Path]:
    files = sorted((bundles / "nano").glob("*.py"))
    assert {file.name for file in files} == {
        "processing.py", "runner.py", "runner_bundle.py", "runner_engines.py", "runner_images.py", "runner_measure.py",
        "tensorrt_engine.py",
    }  # fmt: skip
    return files


def test_bundle_keeps_to_python_3_6(bundles: Path) -> None:
    vermin = Path(sys.executable).with_name("vermin")
    done = subprocess.run(
        [str(vermin), "-t=3.6-", "--eval-annotations", "--violations", *map(str, _runner_files(bundles))],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Minimum required versions: 3." in done.stdout


def test_bundle_uses_only_what_onnxruntime_1_10_has(bundles: Path) -> None:
    tree = ast.parse((bundles / "nano" / "runner_engines.py").read_text())
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    used: set[str] = set()
    for name in ("_OnnxRuntime", "_OnnxRuntimeSlot"):
        for node in ast.walk(classes[name]):
            if isinstance(node, ast.Attribute) and _is_onnxruntime(node.value):
                used.add(node.attr)
    assert used == ORT_1_10


def _is_onnxruntime(value: ast.expr) -> bool:
    """Whether an expression is the module, its options, a session or a binding."""
    if isinstance(value, ast.Name):
        return value.id in ("onnxruntime", "options", "session")
    return isinstance(value, ast.Attribute) and value.attr in ("_session", "_binding")
