from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks._faults import Faults, clean_copy, shared_file
from paddle_tk.commands.dataset import main
from tests.data.checked_sets import sound_folder, sound_yolo
from tests.data.detection_sets import load


def test_validate_says_what_is_wrong_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sound_yolo(tmp_path / "set")
    assert main(["validate", "--from", "yolo", "--root", str(root)]) == 0
    assert "yolo: no fault found (11 images, 11 boxes" in capsys.readouterr().out
    (root / "labels" / "train" / "003.txt").write_text("0 0.5 0.5 0.2 inf\n")
    found, sheet = tmp_path / "found.json", tmp_path / "sheet.png"
    arguments = ["validate", "--from", "yolo", "--root", str(root), "--json", str(found), "--sheet", str(sheet)]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "1 fault(s) found" in out
    assert "box_not_finite" in out
    assert sheet.read_bytes().startswith(b"\x89PNG")
    said = json.loads(found.read_text())
    (row,) = said["findings"]
    assert (row["kind"], row["file"], row["entry"]) == ("box_not_finite", "labels/train/003.txt", "line 1")
    assert row["image"] == "images/train/003.png"
    assert (said["clean"], said["images"], said["counts"]) == (False, 11, {"box_not_finite": 1})


def test_validate_fixes_and_undoes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sound_yolo(tmp_path / "set")
    label = root / "labels" / "train" / "003.txt"
    label.write_text("nonsense\n")
    found = tmp_path / "found.json"
    arguments = ["validate", "--from", "yolo", "--root", str(root)]
    assert main([*arguments, "--fix", "--json", str(found)]) == 0
    assert "1 fault(s) found, none left after --fix" in capsys.readouterr().out
    fix = json.loads(found.read_text())["fix"]
    assert sorted(fix["moved"]) == ["images/train/003.png", "labels/train/003.txt"]
    assert fix["faults_left"] == 0
    assert main(arguments) == 0
    assert main([*arguments, "--undo-fix"]) == 0
    assert label.read_text() == "nonsense\n"
    assert main(arguments) == 1


def test_validate_undoes_what_it_fixed_when_root_is_the_description(tmp_path: Path) -> None:
    root = sound_yolo(tmp_path / "set")
    label = root / "labels" / "train" / "003.txt"
    label.write_text("nonsense\n")
    arguments = ["validate", "--quiet", "--from", "yolo", "--root", str(root / "data.yaml")]
    assert main([*arguments, "--fix"]) == 0
    assert not label.exists()
    assert main([*arguments, "--undo-fix"]) == 0
    assert label.read_text() == "nonsense\n"


def test_validate_exits_1_when_a_fault_cannot_be_put_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sound_folder(tmp_path / "set")
    (root / "train" / "empty").mkdir()
    assert main(["validate", "--from", "image_folder", "--root", str(root), "--fix"]) == 1
    assert "2 fault(s) found, 2 left after --fix" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "nothing"], "unknown dataset 'nothing'"),
        (["--from", "voc", "--root", "/nowhere"], "/nowhere does not exist"),
        (["--from", "voc", "--root", ".", "--sheet", "a.jpg"], "no PNG file by name"),
        (["--from", "voc", "--root", ".", "--fix", "--undo-fix"], "not allowed with"),
        (["--from", "voc", "--root", "/nowhere", "--undo-fix"], "/nowhere does not exist"),
        (["--from", "voc", "--root", "/usr", "--undo-fix"], "holds no quarantine.json"),
    ],
)
def test_validate_refuses_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_validate_finds_every_fault_planted_in_coco128(tmp_path: Path) -> None:
    archive = shared_file("coco128.zip")
    if archive is None:
        pytest.skip("coco128.zip is not there: set PADDLE_TK_TEST_DATA to its folder")
    assert main(["validate", "--quiet", "--data", "coco128", "--root", str(archive)]) == 0
    planted = Faults(clean_copy(archive, tmp_path))
    assert main(["validate", "--quiet", "--from", "yolo", "--root", str(planted.root)]) == 0
    wanted = planted.plant()
    found = tmp_path / "found.json"
    arguments = ["validate", "--quiet", "--from", "yolo", "--root", str(planted.root), "--json", str(found)]
    assert main([*arguments, "--fix"]) == 1  # the gap of ids is left
    said = json.loads(found.read_text())
    assert sorted((row["kind"], Path(row["file"]).name) for row in said["findings"]) == sorted(wanted.values())
    assert len(wanted) >= 15
    assert said["fix"]["faults_left"] == 1


def test_balance_counts_classes_and_recommends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counted, plot = tmp_path / "b.json", tmp_path / "b.svg"
    assert main(["balance", "--data", "digits", "--json", str(counted), "--plot", str(plot)]) == 0
    assert "data.balance=none: the largest class has 1.05 times" in capsys.readouterr().out
    said = json.loads(counted.read_text())
    assert (said["n"], said["recommendation"]["balance"], len(said["per_class"])) == (1294, "none", 10)
    assert plot.read_text().lstrip().startswith("<?xml")
    assert main(["balance", "--data", "digits_detection", "--plot", str(tmp_path / "b.doc")]) == 2
    assert "is no picture by name" in capsys.readouterr().err


def test_mini_writes_a_dataset_and_replaces_only_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = sound_yolo(tmp_path / "set"), tmp_path / "mini"
    arguments = ["mini", "--from", "yolo", "--root", str(root), "--samples", "6", "--val", "0.34", "--output", str(out)]
    assert main(arguments) == 0
    assert "yolo, mini as yolo: train 4, val 2, 2 classes" in capsys.readouterr().out
    assert len(load("yolo", out).splits["val"]) == 2
    assert main([*arguments, "--seed", "1"]) == 0
    assert "(an earlier mini set was replaced)" in capsys.readouterr().out
    (out / "mine.txt").write_text("keep")
    assert main(arguments) == 2
    assert "holds what is no earlier mini set" in capsys.readouterr().err
    assert main([*arguments[:-1], str(root)]) == 2
    assert "is, or holds, the dataset that is read" in capsys.readouterr().err
