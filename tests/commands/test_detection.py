"""The commands on detectors: one run of each family, trained, evaluated, exported and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from paddle_tk.commands.eval import main as evaluate
from paddle_tk.commands.predict import main as predict
from paddle_tk.commands.train import main as train
from paddle_tk.manifest import load_manifest
from tests.tiny_detection import COUNTS, NETWORKS, SETTINGS, SIDE, write_coco


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_run_holds_figures_loss_parts_and_a_manifest_that_tells_the_post_processing(name: str, detectors: Path) -> None:
    result = _json(detectors / name / "result.json")
    assert result["task"] == "detection"
    assert result["final"]["n"] == COUNTS["test"]
    assert {"map50_95", "map50", "map75", "loss"} <= result["final"].keys()
    records = [json.loads(line) for line in (detectors / name / "history.jsonl").read_text().splitlines()]
    steps = [r for r in records if r["kind"] == "step"]
    epochs = [r for r in records if r["kind"] == "epoch"]
    memory = {"host_rss_mb", "allocator_mb"}
    assert memory <= set(steps[0])
    parts = set(steps[0]) - {"kind", "epoch", "step", "loss", "learning_rate", "images_per_second"} - memory
    assert len(parts) >= 3
    assert {f"train_{part}" for part in parts} | {f"val_{part}" for part in parts} <= epochs[0].keys()
    artifact = load_manifest(detectors / name / "model")
    assert artifact.task.metric == "map50_95"
    assert artifact.preprocessing.resize == "letterbox"
    assert artifact.postprocessing["nms_iou"] == (None if name.startswith("yolo") else 0.6)
    assert [spec.name for spec in artifact.outputs] == ["boxes", "scores"]


@pytest.mark.parametrize("name", NETWORKS)
def test_eval_repeats_the_trainings_figures_when_the_run_is_evaluated(
    name: str, detectors: Path, tmp_path: Path
) -> None:
    arguments = ["--quiet", "--model", str(detectors / name), "--json", str(tmp_path / "f.json")]
    assert evaluate([*arguments, "--plots", str(tmp_path / "plots")]) == 0
    found, said = _json(tmp_path / "f.json"), _json(detectors / name / "result.json")["final"]
    assert [found[key] for key in ("map50_95", "map50", "map75", "n")] == [
        said[key] for key in ("map50_95", "map50", "map75", "n")
    ]
    assert set(found["per_class"]) == {"dark", "light"}
    for picture in ("precision_recall.png", "confusion_matrix.png"):
        assert cv2.imread(str(tmp_path / "plots" / picture)) is not None


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_detector_gives_the_same_figures_and_has_no_operator_an_old_parser_lacks(
    name: str, detectors: Path, tmp_path: Path
) -> None:
    folder = detectors / f"{name}-onnx"
    parity = _json(folder / "parity.json")
    assert parity["passed"]
    assert parity["n"] == COUNTS["test"]
    assert evaluate(["--quiet", "--model", str(folder / "model.onnx"), "--json", str(tmp_path / "f.json")]) == 0
    found, said = _json(tmp_path / "f.json"), _json(detectors / name / "result.json")["final"]
    assert found["map50_95"] == pytest.approx(said["map50_95"], abs=1e-3)
    graph = onnx.load(str(folder / "model.onnx")).graph
    used = {node.op_type for node in graph.node}
    assert not used & {"NonZero", "Mod", "OneHot", "TopK", "RoiAlign", "NonMaxSuppression", "Loop", "If"}
    assert [value.name for value in graph.output] == ["boxes", "scores"]


@pytest.mark.parametrize("name", NETWORKS)
def test_predict_writes_boxes_inside_the_image_and_a_picture(name: str, detectors: Path, tmp_path: Path) -> None:
    images = str(detectors / "data" / "test")
    out = tmp_path / "out"
    assert predict(["--quiet", "--model", str(detectors / name), images, "--output", str(out), "--score", "0"]) == 0
    report = _json(out / "predictions.json")
    assert report["task"] == "detection"
    assert report["n"] == COUNTS["test"]
    entries = [entry for image in report["images"] for entry in image["predictions"]]
    assert entries
    boxes = np.array([entry["box"] for entry in entries])
    assert (boxes >= 0).all()
    assert (boxes <= [SIDE, 48, SIDE, 48]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for image in report["images"]:
        scores = [entry["score"] for entry in image["predictions"]]
        assert scores == sorted(scores, reverse=True)
        assert cv2.imread(str(out / image["picture"])) is not None


def test_weights_of_another_class_count_start_a_detector(
    detectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path / "data", classes=("a", "b", "c"), counts={"train": 9, "val": 3, "test": 3})
    settings = [*SETTINGS, f"data.root={tmp_path / 'data'}", "trainer.fast_dev_run=true", "trainer.loggers=[]"]
    for name in NETWORKS:
        run = tmp_path / name
        weights = f"model.weights={detectors / name}"
        assert train(["--run-dir", str(run), *settings, f"model={name}", weights]) == 0
        said = capsys.readouterr().out
        assert "tensors set" in said
        assert "another class count" in said


BAD = [
    (["model=yolov10n"], "yolov10n is for detection, dataset digits for classification"),
    (["-c", "picodet.yaml", "data=digits"], "picodet_s is for detection, dataset digits for classification"),
    (["data=digits_detection"], "resnet18 is for classification, dataset digits_detection for detection"),
    (
        ["-c", "yolov10n.yaml", "trainer.label_smoothing=0.1"],
        "trainer.label_smoothing=0.1: without meaning for detection",
    ),
    (["data.mosaic=0.5"], "data.mosaic=0.5: without meaning for classification"),
    (["-c", "picodet.yaml", "data.image_size=100"], "multiples of 32"),
    (["-c", "picodet.yaml", "data.resize=center_crop"], "would cut objects off"),
    (["-c", "picodet.yaml", "task=classification"], "task=classification, but picodet_s is for detection"),
    (["-c", "picodet.yaml", "model.activation=gelu"], "model.activation"),
    (["model=yolov10q"], "unknown model 'yolov10q'. Fix: did you mean 'yolov10"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_settings_of_the_other_task_are_one_clear_line(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = Path(__file__).resolve().parents[2] / "configs"
    given = [str(configs / a) if a.endswith(".yaml") else a for a in arguments]
    if "model=yolov10n" in given and "trainer.label_smoothing=0.1" not in given:
        given.append("trainer=detection")
    assert train([*given, "trainer.max_retries=0", "--run-dir", str(tmp_path / "run")]) == 2
    assert expected in _one_error(capsys)
    assert not (tmp_path / "run").exists()


def test_eval_refuses_a_dataset_of_another_task(detectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--model", str(detectors / NETWORKS[0]), "--data", "digits"]) == 2
    assert "the model is for detection, dataset digits is for classification" in _one_error(capsys)
