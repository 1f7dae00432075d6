from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddle_tk.commands.eval import main
from tests.tiny_run import flip_byte


def _figures(models: Path, name: str, file: Path, *more: str) -> dict[str, object]:
    assert main(["--quiet", "--model", str(models / name), "--json", str(file), *more]) == 0
    return dict(json.loads(file.read_text()))


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_eval_equals_the_trainings_result_when_given_the_run(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = json.loads((models / "run" / "result.json").read_text())["final"]
    found = _figures(models, "run", tmp_path / "new" / "eval.json")
    assert {key: found[key] for key in ("top1", "top5", "n")} == {key: final[key] for key in ("top1", "top5", "n")}
    assert found["loss"] == pytest.approx(final["loss"], rel=1e-6)
    assert (found["split"], found["dataset"], found["device"], found["origin"]) == ("test", "digits", "cpu", "measured")
    assert f"top1 {final['top1']:.4f}" in capsys.readouterr().out


def test_eval_agrees_when_given_the_onnx_export_of_the_run(models: Path, tmp_path: Path) -> None:
    run, onnx = (_figures(models, name, tmp_path / f"{name}.json") for name in ("run", "onnx-dynamic"))
    assert onnx["per_class"] == run["per_class"]
    assert onnx["format"] == "onnx"
    assert onnx["model_sha256"] != run["model_sha256"]


def test_eval_uses_the_trainings_splits_when_another_split_or_batch_is_asked_for(models: Path, tmp_path: Path) -> None:
    found = _figures(models, "run", tmp_path / "val.json", "--split", "val", "--batch-size", "7", "--data", "digits")
    assert (found["split"], found["n"]) == ("val", 144)


def test_eval_prints_a_table_when_not_quiet(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(models / "run" / "model")]) == 0
    said = capsys.readouterr().out
    assert "all, top-1" in said
    assert "images/s on cpu" in said


@pytest.fixture
def ten_digits(tmp_path: Path) -> Path:
    """An image folder with the digits' class names and a few pictures of noise."""
    rng = np.random.default_rng(0)
    for name in "0123456789":
        for i in range(5):
            file = tmp_path / "images" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return tmp_path / "images"


def test_eval_measures_another_dataset_when_its_classes_are_the_models(
    ten_digits: Path, models: Path, tmp_path: Path
) -> None:
    found = _figures(
        models, "run", tmp_path / "f.json", "--data", "image_folder", "-o", f"data.root={ten_digits}",
        "--split", "train", "data.test_fraction=0.4",
    )  # fmt: skip
    assert found["dataset"] == "image_folder"
    assert 10 <= int(str(found["n"])) <= 30


def test_eval_exits_2_and_lists_classes_when_they_differ(
    ten_digits: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ten_digits / "3").rename(ten_digits / "three")
    arguments = ["--model", str(models / "run"), "--data", "image_folder", f"data.root={ten_digits}"]
    assert main(arguments) == 2
    error = _one_error(capsys)
    assert "only in the model: 3; only in the dataset: three" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "cifra10"], "did you mean 'cifar10'"),
        (["--data", "image_folder", "data.root=/nowhere"], "/nowhere"),
        (["data.split_seed=5"], "training images would be tested on"),
        (["seed=5"], "seed=5"),
        (["-o", "data.speed=5"], "data.speed"),
        (["--split", "all"], "--split"),
        (["--batch-size", "0"], "at least 1"),
        (["--device", "gpu:x"], "gpu:x"),
    ],
)
def test_eval_exits_2_when_asked_for_what_cannot_be(
    arguments: list[str], expected: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "eval.json"
    assert main(["--model", str(models / "run"), "--json", str(file), *arguments]) == 2
    assert expected in _one_error(capsys)
    assert not file.exists()


def test_eval_exits_2_when_the_dataset_of_a_lone_model_is_unknown(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    assert main(["--model", str(tmp_path / "model")]) == 2
    assert "--data NAME" in _one_error(capsys)
    assert main(["--model", str(tmp_path / "model"), "--data", "digits"]) == 0
    assert "not known whether" in capsys.readouterr().out


def test_eval_tool_exits_2_with_one_line_when_the_model_is_missing_or_damaged(
    models: Path, tmp_path: Path, tool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    missing = tool("eval", "--model", "nowhere", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("error: no model at nowhere. Fix: ")
    assert missing.stderr.count("\n") == 1

    shutil.copytree(models / "run" / "model", tmp_path / "model")
    flip_byte(tmp_path / "model" / "model.safetensors")
    damaged = tool("eval", "--model", "model", cwd=tmp_path)
    assert (damaged.returncode, damaged.stdout) == (2, "")
    assert "sha256" in damaged.stderr
    assert damaged.stderr.count("\n") == 1
