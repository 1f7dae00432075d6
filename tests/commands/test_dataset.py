from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from paddle_tk.commands.dataset import main
from tests.data.detection_sets import coco_part, coco_root, counts, load, voc_root, yolo_root


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def test_dataset_convert_writes_a_dataset_and_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_root(tmp_path / "in")
    out, counted = tmp_path / "new" / "voc", tmp_path / "counts.json"
    arguments = ["--from", "coco", "--root", str(tmp_path / "in"), "--to", "voc", "--output", str(out)]
    assert main(["convert", *arguments, "--json", str(counted), "--test-fraction", "0.25"]) == 0
    said = capsys.readouterr()
    assert f"coco as voc: 12 images, 12 boxes, 2 classes -> {out}" in said.out
    assert said.err == ""
    found = json.loads(counted.read_text())
    assert found["splits"] == {
        "train": {"images": 8, "boxes": 8},
        "val": {"images": 1, "boxes": 1},
        "test": {"images": 3, "boxes": 3},
    }
    assert (found["dataset"], found["to"], found["classes"], found["lost"]) == ("coco", "voc", ["cat", "dog"], {})
    assert {name: images for name, (images, _) in counts(load("voc", out)).items()} == {"train": 8, "val": 1, "test": 3}


def test_dataset_convert_replaces_an_earlier_conversion_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for root, source, to in (
        (voc_root(tmp_path / "voc"), "voc", "yolo"),
        (yolo_root(tmp_path / "yolo"), "yolo", "coco"),
    ):
        arguments = ["convert", "--from", source, "--root", str(root), "--to", to, "--output", str(out)]
        assert main(["convert", "--quiet", *arguments[1:]]) == 0
    assert "(an earlier conversion was replaced)" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"annotations", "conversion.json", "test", "train", "val"}
    (out / "mine.txt").write_text("keep me")
    assert main(arguments) == 2
    assert "holds what is no earlier conversion: mine.txt" in _error(capsys)
    assert (out / "mine.txt").read_text() == "keep me"


def test_dataset_convert_never_writes_over_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = yolo_root(tmp_path / "in")
    for output in (root, tmp_path):
        assert main(["convert", "--from", "yolo", "--root", str(root), "--to", "voc", "--output", str(output)]) == 2
        assert "is, or holds, the dataset that is read" in _error(capsys)


def test_dataset_convert_leaves_nothing_when_it_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = coco_part(tmp_path / "in", "train", 12)
    found["annotations"][0]["iscrowd"] = 1
    (tmp_path / "in" / "annotations" / "instances_train.json").write_text(json.dumps(found))
    arguments = ["--from", "coco", "--root", str(tmp_path / "in"), "--to", "yolo", "--output", str(tmp_path / "out")]
    assert main(["convert", *arguments]) == 2
    assert "yolo cannot hold 1 crowd region(s)" in _error(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert main(["convert", *arguments, "--lossy"]) == 0
    assert "warning: 1 crowd region(s) left out: yolo cannot hold them" in capsys.readouterr().err


def test_dataset_convert_warns_of_images_and_labels_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_root(tmp_path / "in")
    (root / "images" / "train" / "bad.png").write_bytes(b"")
    (root / "labels" / "train" / "lost.txt").write_text("")
    arguments = ["--from", "yolo", "--root", str(root), "--to", "voc", "--output", str(tmp_path / "out")]
    assert main(["convert", *arguments]) == 2
    assert "1 image file(s) cannot be decoded" in _error(capsys)
    assert main(["convert", *arguments, "--skip-unreadable"]) == 0
    warned = capsys.readouterr().err
    assert "warning: 1 unreadable image(s) left out: " in warned
    assert "warning: 1 label file(s) without an image were left out" in warned


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "required: action"),
        (["explode"], "invalid choice: 'explode'"),
        (["--quiet", "convert"], "options came before 'convert'"),
        (["convert"], "required: --to, --output"),
        (["convert", "--to", "voc", "--output", "x"], "one of the arguments --data --from is required"),
        (["convert", "--from", "kitti", "--to", "voc", "--output", "x"], "invalid choice: 'kitti'"),
        (["convert", "--from", "coco", "--data", "coco", "--to", "voc", "--output", "x"], "not allowed with argument"),
        (["convert", "--data", "nothing", "--to", "voc", "--output", "x"], "unknown dataset 'nothing'"),
        (["convert", "--data", "digits", "--to", "voc", "--output", "x"], "digits is a classification dataset"),
        (["convert", "--from", "coco", "--root", "gone", "--to", "voc", "--output", "x"], "gone is not a folder"),
        (["convert", "--from", "voc", "--to", "voc", "--output", "x", "--val-fraction", "1"], "must be above 0 and"),
    ],
)
def test_dataset_says_what_is_wrong_in_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert told in _error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_dataset_runs_as_a_tool(tool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    voc_root(tmp_path / "in")
    arguments = ["convert", "--quiet", "--from", "voc", "--root", "in", "--to", "coco", "--output", "out"]
    done = tool("dataset", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "voc as coco: 12 images, 12 boxes, 20 classes -> out\n"
    assert tool("dataset", "convert", "--help", cwd=tmp_path).returncode == 0
