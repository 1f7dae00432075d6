from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddle_tk.commands.doctor import main


def test_doctor_tells_every_finding_when_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "doctor.json"
    code = main(["--json", str(file), "--runs", str(tmp_path / "runs")])
    report = json.loads(file.read_text())
    status = {check["name"]: check["status"] for check in report["checks"]}
    failed = [check for check in report["checks"] if check["status"] == "failed"]
    said = capsys.readouterr().out

    assert (status["paddle"], status["numpy"], status["writing"]) == ("ok", "ok", "ok")
    assert all(check["fix"] for check in failed)
    assert report["passed"] is (not failed)
    assert code == (1 if failed else 0)
    assert all(name in said for name in status)


def test_doctor_says_no_when_a_required_check_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "runs"
    blocked.write_text("a file where the folder should be")
    assert main(["--quiet", "--runs", str(blocked)]) == 1
    assert "writing" in capsys.readouterr().out


def test_doctor_lists_names_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "names.json"
    assert main(["--models", "--datasets", "--json", str(file)]) == 0
    names = json.loads(file.read_text())
    assert {"resnet18", "mobilenet_v2", "efficientnet_b0"} <= set(names["models"])
    assert {"digits", "cifar10", "image_folder"} <= set(names["datasets"])
    assert "resnet18" in capsys.readouterr().out


def test_doctor_exits_2_when_stage_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stage", "moon"]) == 2
    assert "moon" in capsys.readouterr().err
