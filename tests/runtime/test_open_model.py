from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from paddle_tk.errors import ArtifactError, BadInput
from paddle_tk.files import sha256_file
from paddle_tk.runtime.load import load_predictor, open_model
from tests.tiny_run import flip_byte, rewrite_manifest


def test_open_model_finds_the_same_model_when_given_run_folder_or_file(models: Path) -> None:
    run = models / "run"
    sources = [open_model(path) for path in (run, run / "model", run / "model" / "model.safetensors")]
    assert {source.sha256 for source in sources} == {sha256_file(run / "model" / "model.safetensors")}
    assert {source.config for source in sources} == {run / "config.yaml"}
    assert sources[0].artifact.task.classes == tuple("0123456789")


def test_open_model_finds_the_onnx_file_and_its_config_when_given_the_export(models: Path) -> None:
    for path in (models / "onnx", models / "onnx" / "model.onnx"):
        source = open_model(path)
        assert source.file == models / "onnx" / "model.onnx"
        assert source.artifact.parent_sha256 == open_model(models / "run").sha256
        assert source.config == models / "onnx" / "training_config.yaml"


def test_open_model_reads_metadata_when_an_onnx_file_stands_alone(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "onnx-dynamic" / "model.onnx", tmp_path / "alone.onnx")
    alone, whole = open_model(tmp_path / "alone.onnx"), open_model(models / "onnx-dynamic")
    assert alone.artifact.task == whole.artifact.task
    assert alone.artifact.preprocessing == whole.artifact.preprocessing
    assert alone.artifact.inputs == whole.artifact.inputs
    assert alone.artifact.outputs == whole.artifact.outputs
    assert alone.artifact.parent_sha256 == whole.artifact.parent_sha256
    assert alone.sha256 == whole.sha256
    assert alone.config is None


def test_open_model_reads_metadata_when_the_manifest_beside_names_another_file(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "mixed")
    shutil.copy(models / "onnx" / "model.onnx", tmp_path / "mixed" / "other.onnx")
    assert open_model(tmp_path / "mixed" / "other.onnx").artifact.format == "onnx"


def test_open_model_tells_how_to_resume_when_the_run_is_not_finished(models: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(models / "run", run, ignore=shutil.ignore_patterns("model", "result.json"))
    with pytest.raises(BadInput, match=r"not finished.*--resume .*run"):
        open_model(run)


@pytest.mark.parametrize("name", ["nothing", "empty", "weights.safetensors"])
def test_open_model_refuses_when_no_model_is_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(BadInput, match=name):
        open_model(tmp_path / name)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_open_model_refuses_when_weights_are_damaged(damage: str, models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    if damage == "flip":
        flip_byte(file)
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:5000])
    else:
        file.unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*(sha256|missing)"):
        open_model(tmp_path / "model")


def test_open_model_refuses_when_the_manifest_holds_no_hash_of_the_model(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    rewrite_manifest(tmp_path / "model", sha256={})
    with pytest.raises(ArtifactError, match="no sha256"):
        open_model(tmp_path / "model")


def test_open_model_ignores_a_config_when_its_folder_is_no_run(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    (tmp_path / "config.yaml").write_text("anything: else\n")
    assert open_model(tmp_path / "model").config is None
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(ArtifactError, match="no manifest"):
        open_model(tmp_path)


def test_open_model_refuses_when_the_task_is_another(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    task = json.loads((tmp_path / "model" / "manifest.json").read_text())["task"]
    rewrite_manifest(tmp_path / "model", task={**task, "kind": "segmentation"})
    with pytest.raises(BadInput, match="segmentation"):
        open_model(tmp_path / "model")
    rewrite_manifest(tmp_path / "model", task={**task, "kind": "detection"})
    with pytest.raises(ArtifactError, match="does not describe a network"):
        load_predictor(open_model(tmp_path / "model"))


def test_load_predictor_refuses_when_the_format_is_unknown(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    rewrite_manifest(tmp_path / "model", format="caffe")
    with pytest.raises(ArtifactError, match="caffe"):
        load_predictor(open_model(tmp_path / "model"))
