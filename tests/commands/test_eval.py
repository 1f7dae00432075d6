from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
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


@pytest.mark.parametrize(
    ("model", "engine"), [("run", "paddle-inference"), ("onnx-dynamic", "onnxruntime"), ("onnx-dynamic", "openvino")]
)
def test_eval_gives_the_same_accuracy_when_another_engine_computes_it(
    model: str, engine: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    own = _figures(models, "run", tmp_path / "own.json")
    found = _figures(models, model, tmp_path / "other.json", "--engine", engine)
    assert (own["engine"], own["arithmetic"]) == ("paddle", "fp32")
    assert found["engine"] == engine
    assert found["top1"] == pytest.approx(own["top1"], abs=0.01)
    assert f"on cpu by {engine}" in capsys.readouterr().out


def test_eval_says_which_engine_auto_took_and_remembers_it(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    file = tmp_path / "f.json"
    for remembered in (False, True):
        assert main(["--model", str(models / "onnx"), "--engine", "auto", "--json", str(file)]) == 0
        choice = json.loads(file.read_text())["engine_choice"]
        assert choice["remembered"] is remembered
        assert json.loads(file.read_text())["engine"] == choice["name"]
        assert f"engine {choice['name']}, measured {'earlier ' * remembered}on a batch of 1" in capsys.readouterr().out
    assert (tmp_path / "home" / "engines.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--engine", "openvin"], "unknown engine 'openvin'. Fix: did you mean 'openvino'"),
        (["--engine", "onnxruntime"], "the engine onnxruntime does not run paddle-safetensors models"),
        (["--task", "classification", "--classes", "a,b"], "says itself what it is. Fix: leave out --task, --classes"),
        (["--input-size", "32x32"], "says itself what it is. Fix: leave out --input-size"),
        (["--input-size", "32*32"], "must be HxW"),
        (["--mean", "123.7,116.3,103.5"], "divide what is meant for 0..255 by 255"),
        (["--std", "0.5,0,0.5"], "must be above 0 to 1 each"),
        (["--nms-iou", "0"], "must be above 0 and at most 1, or 'none'"),
        (["--classes", "names.txt"], "no file with class names at names.txt"),
        (["--classes", "a,b,a"], "names a twice"),
        (["--classes", "a,,b"], "names an empty class"),
    ],
)
def test_eval_exits_2_when_engine_or_description_makes_no_sense(
    arguments: list[str], expected: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(models / "run"), *arguments]) == 2
    assert expected in _one_error(capsys)


@pytest.fixture
def foreign(models: Path, tmp_path: Path) -> Path:
    """The digits' ONNX file as another tool would write it."""
    model = onnx.load(str(models / "onnx-dynamic" / "model.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    return tmp_path / "foreign.onnx"


def _description(models: Path, classes: str) -> list[str]:
    said = json.loads((models / "run" / "model" / "manifest.json").read_text())["preprocessing"]
    colours = [f"--{key}={','.join(map(str, said[key]))}" for key in ("mean", "std")]
    return ["--task", "classification", "--classes", classes, "--resize", said["resize"], *colours, "--data", "digits"]


def test_eval_equals_the_runs_figures_when_a_foreign_file_is_described(
    foreign: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = _figures(models, "run", tmp_path / "own.json")
    (tmp_path / "names.txt").write_text("\n".join("0123456789") + "\n\n", encoding="utf-8-sig")
    for classes in (",".join("0123456789"), str(tmp_path / "names.txt")):
        file = tmp_path / "f.json"
        arguments = ["--quiet", "--model", str(foreign), "--json", str(file), *_description(models, classes)]
        assert main(arguments) == 0
        assert capsys.readouterr().err == ""
        found = json.loads(file.read_text())
        assert (found["per_class"], found["format"], found["engine"]) == (own["per_class"], "onnx", "onnxruntime")


def test_eval_warns_of_what_it_assumes_when_a_foreign_file_is_described_in_part(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--task", "classification", "--classes", ",".join("0123456789"), "--data", "digits"]
    assert main(["--quiet", "--model", str(foreign), *given]) == 0
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "assumed: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; --resize stretch" in warning


def test_eval_names_the_options_when_a_foreign_file_is_not_described(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(foreign), "--data", "digits"]) == 2
    error = _one_error(capsys)
    for option in ("--task", "--classes", "--input-size", "--mean", "--std", "--resize"):
        assert option in error


@pytest.mark.parametrize("payload", [b"no model at all", b"", None])
def test_eval_tool_exits_2_with_one_line_when_the_file_is_no_onnx_or_cut_off(
    payload: bytes | None, models: Path, tmp_path: Path, tool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    whole = (models / "onnx" / "model.onnx").read_bytes()
    (tmp_path / "bad.onnx").write_bytes(whole[: len(whole) // 3] if payload is None else payload)
    done = tool("eval", "--model", "bad.onnx", "--data", "digits", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.onnx cannot be loaded: it is no ONNX file, or it was cut off or damaged" in done.stderr
    assert done.stderr.count("\n") == 1
