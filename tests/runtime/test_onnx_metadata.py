from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.runtime.load import open_model
from paddle_tk.runtime.onnx_metadata import GivenFacts, describe
from tests.runtime.tiny_onnx import write_classifier, write_detector

CLASSIFIER = GivenFacts(task="classification", classes=("a", "b", "c"), flags="--task, --classes")


@pytest.mark.parametrize("removed", ["classes", "preprocessing", "task"])
def test_describe_names_what_is_missing_and_the_options_when_metadata_is_incomplete(
    removed: str, models: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(models / "onnx" / "model.onnx"))
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != removed]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ArtifactError, match=rf": {removed} missing .*--task .*--classes .*--input-size .*--mean"):
        describe(tmp_path / "foreign.onnx")


def test_foreign_classifier_has_what_the_user_says_and_tells_what_was_assumed(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx")
    found = describe(file, CLASSIFIER)
    artifact = found.artifact
    assert found.foreign
    assert (artifact.task.kind, artifact.task.classes, artifact.task.metric) == (
        "classification", ("a", "b", "c"), "top1",
    )  # fmt: skip
    assert (artifact.preprocessing.size, artifact.preprocessing.resize) == ((8, 8), "stretch")
    assert "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; --resize stretch" in found.notes[0]


def test_foreign_classifier_has_no_notes_when_everything_is_said(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx", height="h", width="w")
    said = GivenFacts(
        task="classification", classes=("a", "b", "c"), input_size=(16, 24), mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0), resize="center_crop",
    )  # fmt: skip
    found = describe(file, said)
    assert found.notes == ()
    preprocessing = found.artifact.preprocessing
    assert (preprocessing.size, preprocessing.mean, preprocessing.resize) == ((16, 24), (0.0, 0.0, 0.0), "center_crop")


def test_foreign_detector_is_suppressed_as_the_user_says(tmp_path: Path) -> None:
    file = write_detector(tmp_path / "d.onnx")
    found = describe(file, GivenFacts(task="detection", classes=("a", "b"), detections={"nms_iou": None}))
    assert found.artifact.postprocessing == {"score_threshold": 0.001, "nms_iou": None, "max_detections": 100}
    assert found.artifact.preprocessing.resize == "letterbox"
    assert found.artifact.task.metric == "map50_95"
    assert "--score-threshold 0.001 --max-detections 100" in found.notes[0]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"task": None}, "not by --task"),
        ({"classes": None}, "not by --classes"),
        ({"classes": ("a", "b")}, "returns 3 classes, --classes names 2"),
        ({"input_size": (16, 8)}, "takes images of 8 px height, --input-size says 16"),
        ({"mean": (0.5, 0.5, 0.5)}, "--mean and --std belong together"),
        ({"detections": {"nms_iou": 0.5}}, "--nms-iou has no meaning for classification"),
        ({"task": "detection"}, r"is not for the detection of images: .*two outputs, boxes \(B, N, 4\)"),
    ],
)
def test_foreign_classifier_is_refused_when_what_is_said_does_not_fit(
    facts: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    file = write_classifier(tmp_path / "m.onnx")
    said = GivenFacts(**{"task": "classification", "classes": ("a", "b", "c"), "flags": "--x", **facts})
    with pytest.raises(BadInput, match=expected):
        describe(file, said)


def test_foreign_file_is_refused_when_its_size_is_free_and_not_said(tmp_path: Path) -> None:
    file = write_classifier(tmp_path / "m.onnx", height="h", width="w")
    with pytest.raises(BadInput, match=r"takes images of any size.*--input-size HxW"):
        describe(file, CLASSIFIER)


def test_open_model_knows_no_training_config_when_a_foreign_file_lies_beside_one(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "onnx", tmp_path / "export")
    write_classifier(tmp_path / "export" / "foreign.onnx")
    source = open_model(tmp_path / "export" / "foreign.onnx", CLASSIFIER)
    assert source.config is None
    assert source.foreign
    assert source.notes


@pytest.mark.parametrize("name", ["run", "onnx", "alone.onnx"])
def test_open_model_refuses_facts_when_the_model_tells_them_itself(name: str, models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "onnx" / "model.onnx", tmp_path / "alone.onnx")
    path = tmp_path / name if name == "alone.onnx" else models / name
    with pytest.raises(BadInput, match=r"says itself what it is\. Fix: leave out --task, --classes"):
        open_model(path, CLASSIFIER)
