from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from paddle_tk.commands.predict import main
from paddle_tk.data.bundle import DatasetBundle
from paddle_tk.data.datasets import load_dataset
from paddle_tk.files import sha256_file
from tests.runtime.tiny_onnx import write_detector


@pytest.fixture(scope="module")
def digits() -> DatasetBundle:
    return load_dataset("digits", root=None, val_fraction=0.1, test_fraction=0.2, split_seed=0)


@pytest.fixture
def photos(digits: DatasetBundle, tmp_path: Path) -> Path:
    """a/ and b/ with pictures of the same names, and a file that is none."""
    for folder, first in (("a", 0), ("b/deep", 3)):
        for i in range(3):
            file = tmp_path / "photos" / folder / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), digits.splits["test"].image(first + i))
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    return tmp_path / "photos"


def _report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "predictions.json").read_text()))


def _run(models: Path, output: Path, *arguments: str, model: str = "run") -> int:
    return main(["--quiet", "--model", str(models / model), "--output", str(output), *arguments])


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_predict_keeps_pictures_of_one_name_apart_when_folders_repeat_names(
    photos: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert _run(models, out, str(photos)) == 0
    report = _report(out)
    assert report["n"] == len(report["images"]) == 6
    assert report["model_sha256"] == sha256_file(models / "run" / "model" / "model.safetensors")
    pictures = [entry["picture"] for entry in report["images"]]
    assert sorted(path.name for path in out.iterdir()) == sorted([*pictures, "predictions.json"])
    assert len(set(pictures)) == 6
    for entry in report["images"]:
        scores = [p["score"] for p in entry["predictions"]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1.0001
        assert all(p["class"] == str(p["class_id"]) for p in entry["predictions"])
        picture = cv2.imread(str(out / entry["picture"]))
        assert picture.shape[1] == 256
        assert picture.shape[0] > 256


def test_predict_gives_one_answer_when_batches_and_runtimes_differ(photos: Path, models: Path, tmp_path: Path) -> None:
    found = []
    for name, model, size in (("one", "run", "1"), ("many", "run", "32"), ("onnx", "onnx", "4")):
        assert _run(models, tmp_path / name, str(photos), "--batch-size", size, "--top-k", "10", model=model) == 0
        entries = _report(tmp_path / name)["images"]
        found.append([{p["class"]: p["score"] for p in entry["predictions"]} for entry in entries])
    for other in found[1:]:
        for expected, scores in zip(found[0], other, strict=True):
            assert scores == pytest.approx(expected, abs=1e-4)


def test_predict_takes_files_and_patterns_once_each_when_they_overlap(
    photos: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = [str(photos / "b" / "deep" / "1.png"), str(photos / "**" / "*.png"), str(photos / "a")]
    assert _run(models, out, *given, "--no-pictures", "--top-k", "1") == 0
    report = _report(out)
    assert report["images"][0]["image"] == given[0]
    assert report["n"] == 6
    assert {path.name for path in out.iterdir()} == {"predictions.json"}
    assert all(len(entry["predictions"]) == 1 and entry["picture"] is None for entry in report["images"])


def test_predict_replaces_its_own_output_when_run_again(
    photos: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photos / "labelled"  # inside the input: its pictures are not images to label
    assert _run(models, out, str(photos)) == 0
    assert _run(models, out, str(photos)) == 0
    assert "an earlier prediction was replaced" in capsys.readouterr().out
    assert _report(out)["n"] == 6


@pytest.mark.parametrize("earlier", [False, True])
def test_predict_touches_nothing_when_the_output_holds_files_of_the_user(
    earlier: bool, photos: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if earlier:
        assert _run(models, out, str(photos)) == 0
        capsys.readouterr()
    out.mkdir(exist_ok=True)
    (out / "thesis.doc").write_text("years of work")
    before = sorted(path.name for path in out.iterdir())
    assert _run(models, out, str(photos)) == 2
    assert "thesis.doc" in _one_error(capsys)
    assert sorted(path.name for path in out.iterdir()) == before


def test_predict_names_the_file_and_writes_nothing_when_one_is_unreadable(
    photos: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b" / "broken.png").write_bytes((photos / "a" / "0.png").read_bytes()[:40])
    before = sorted(path.name for path in tmp_path.iterdir())
    assert _run(models, tmp_path / "out", str(photos)) == 2
    error = _one_error(capsys)
    assert "broken.png" in error
    assert "--skip-unreadable" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before

    assert _run(models, tmp_path / "out", str(photos), "--skip-unreadable", "--batch-size", "2") == 0
    assert "broken.png" in capsys.readouterr().err
    report = _report(tmp_path / "out")
    assert report["n"] == 6
    assert [Path(path).name for path in report["skipped"]] == ["broken.png"]


def test_predict_exits_2_when_all_images_are_unreadable(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    assert _run(models, tmp_path / "out", str(tmp_path / "bad.jpg"), "--skip-unreadable") == 2
    assert "none of the 1 images" in _one_error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("empty", "no images in"),
        ("absent.png", "no image or folder at"),
        ("empty/*.png", "no images in"),
        ("empty/../notes.txt", "cannot be decoded"),
    ],
)
def test_predict_exits_2_when_there_is_nothing_to_label(
    images: str, expected: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    assert _run(models, tmp_path / "out", str(tmp_path / images)) == 2
    assert expected in _one_error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--top-k", "0"], ["--batch-size", "x"], ["--device", "tpu"]])
def test_predict_exits_2_when_an_option_makes_no_sense(
    flags: list[str], photos: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(models, tmp_path / "out", str(photos), *flags) == 2
    assert flags[1] in _one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_predict_exits_2_when_the_output_cannot_be_made(
    photos: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in (photos / "notes.txt", photos / "notes.txt" / "out"):
        assert _run(models, output, str(photos)) == 2
        assert "--output" in _one_error(capsys)


def test_predict_exits_2_when_an_image_lies_in_the_output(
    photos: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(models, tmp_path / "out", str(photos)) == 0
    capsys.readouterr()
    assert _run(models, tmp_path / "out", str(tmp_path / "out" / "0.png")) == 2
    assert "lies in the output folder" in _one_error(capsys)
    assert _report(tmp_path / "out")["n"] == 6


def test_predict_tool_labels_relative_paths_and_refuses_truncated_weights(
    photos: Path, models: Path, tmp_path: Path, tool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shutil.copytree(models / "run" / "model", tmp_path / "model")
    good = tool("predict", "--model", "model", "photos/a", "--output", "out", cwd=tmp_path)
    assert good.returncode == 0
    assert "photos/a/0.png: " in good.stdout
    assert "3 image(s) done" in good.stdout
    assert good.stderr == ""

    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    bad = tool("predict", "--model", "model", "photos/a", "--output", "other", cwd=tmp_path)
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "sha256" in bad.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("model", "engine"), [("run", "paddle-inference"), ("onnx", "auto")])
def test_predict_labels_the_same_and_names_the_engine_when_another_computes(
    model: str, engine: str, photos: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(models, tmp_path / "own", str(photos)) == 0
    capsys.readouterr()
    assert _run(models, tmp_path / "other", str(photos), "--engine", engine, model=model) == 0
    own, other = _report(tmp_path / "own"), _report(tmp_path / "other")
    assert own["engine"] == "paddle"
    assert f"on cpu by {other['engine']}" in capsys.readouterr().out
    assert other["engine"] == (engine if engine != "auto" else other["engine_choice"]["name"])
    for ours, theirs in zip(own["images"], other["images"], strict=True):
        assert ours["predictions"][0]["class"] == theirs["predictions"][0]["class"]


def test_predict_draws_boxes_when_a_foreign_detector_is_described(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_detector(tmp_path / "d.onnx", side=32)
    described = ["--task", "detection", "--classes", "cat,dog", "--mean", "0,0,0", "--std", "1,1,1"]
    described += ["--resize", "stretch", "--score-threshold", "0.5", "--nms-iou", "none", "--max-detections", "9"]
    given = ["--quiet", "--model", str(file), str(photos / "a"), "--output", str(tmp_path / "out")]
    assert main([*given, *described]) == 0
    assert capsys.readouterr().err == ""
    report = _report(tmp_path / "out")
    assert (report["task"], report["n"]) == ("detection", 3)
    for entry in report["images"]:
        height, width = cv2.imread(entry["image"]).shape[:2]
        (found,) = entry["predictions"]
        assert (found["class"], found["class_id"]) == ("dog", 1)
        assert found["score"] == pytest.approx(0.9)
        assert found["box"] == pytest.approx([width / 4, height / 4, 3 * width / 4, 3 * height / 4], abs=0.01)


def test_predict_exits_2_and_writes_nothing_when_engine_or_description_is_missing(
    photos: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_detector(tmp_path / "d.onnx")
    given = [str(photos / "a"), "--output", str(tmp_path / "out")]
    for arguments, expected in (
        (["--model", str(file)], "say it: --task classification or detection, --classes"),
        (["--model", str(file), "--task", "detection"], "is described by --task but not by --classes"),
        (["--model", str(models / "onnx"), "--engine", "paddle"], "the engine paddle does not run onnx models"),
    ):
        assert main([*arguments, *given]) == 2
        assert expected in _one_error(capsys)
        assert not (tmp_path / "out").exists()
