from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from paddle_tk.commands.decide import main
from paddle_tk.evidence import write_evidence
from tests.decide.examples import EXAMPLE, PUBLISHED, evidence, written


def run(folder: Path, output: str, *more: str) -> int:
    files = ["--create", str(folder / "CREATE.md"), "--planning", str(folder / "PLANNING.md")]
    return main([*files, "--output", output, *more])


def test_published_example_gives_its_sums_when_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(PUBLISHED, str(out), "--json", str(tmp_path / "told.json")) == 0
    decision = json.loads((out / "decision.json").read_text())
    assert {option["name"]: option["score"] for option in decision["options"]} == {
        "torch": pytest.approx(4.075, abs=1e-12),
        "paddle": pytest.approx(3.65, abs=1e-12),
    }
    assert decision["choice"] == "torch"
    assert all(option["passes"] for option in decision["options"])
    assert {"INITIAL.md", "decision.json", "report.html", "report.md", "report.json"} <= {p.name for p in out.iterdir()}
    assert json.loads((tmp_path / "told.json").read_text())["choice"] == "torch"
    assert "4.075" in (out / "INITIAL.md").read_text(encoding="utf-8")
    assert "4.075" in (out / "report.html").read_text(encoding="utf-8")


def test_weights_of_the_command_line_win_when_planning_has_some(tmp_path: Path) -> None:
    keys = ("team_familiarity=0", "deployment_ease=1", "performance=0", "community=0")
    overrides = [f"decide.weights.{key}" for key in keys]
    assert run(PUBLISHED, str(tmp_path / "out"), *overrides, "decide.threshold=4.1") == 0
    decision = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert (decision["choice"], decision["threshold"]) == ("paddle", 4.1)


def test_example_is_weighed_by_measurements_when_they_are_given(tmp_path: Path) -> None:
    file = tmp_path / "measurements.json"
    write_evidence(file, evidence())
    assert run(EXAMPLE, str(tmp_path / "out"), "--measurements", str(file), "--language", "zh") == 0
    decision = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert decision["choice"] is not None
    assert (tmp_path / "out" / "measurements.json").read_bytes() == file.read_bytes()
    text = (tmp_path / "out" / "INITIAL.md").read_text(encoding="utf-8")
    assert "| accuracy (top1, test images) | &gt;= 0.95 | 0.9700 | pass |" in text
    assert str(tmp_path) not in text
    assert "验收清单" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_measurements_are_refused_when_they_were_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "measurements.json"
    write_evidence(file, evidence())
    file.write_text(file.read_text().replace("0.97", "0.99", 1))
    assert run(EXAMPLE, str(tmp_path / "out"), "--measurements", str(file)) == 2
    assert "was changed after it was measured" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_everything_missing_is_listed_when_create_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path)
    (tmp_path / "CREATE.md").write_text("")
    told = tmp_path / "told.json"
    assert run(tmp_path, str(tmp_path / "out"), "--json", str(told)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "- CREATE.md: accuracy.minimum is missing: least value on the test images, above 0 to 1" in lines
    assert len([line for line in lines if line.startswith("- CREATE.md: ")]) > 15
    assert lines[-1].startswith("error: ")
    assert "--init" in lines[-1]
    assert len(json.loads(told.read_text())["problems"]) == len(lines) - 1
    assert not (tmp_path / "out").exists()


def test_all_contradictions_are_listed_when_answers_cannot_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(
        tmp_path, create__budget__deadline=date(2026, 1, 1), create__data__classes=1,
        planning__versions={"torch": "2.6.0", "torchvision": "0.15.0", "paddlepaddle-gpu": "2.6.2"},
    )  # fmt: skip
    assert run(tmp_path, str(tmp_path / "out")) == 2
    told = capsys.readouterr().err
    for part in ("budget.deadline", "at least 2", "torchvision 0.15.0", "cuda 12.6 beside paddlepaddle-gpu 2.6.2"):
        assert part in told


def test_templates_are_written_once_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--init"]) == 0
    (tmp_path / "CREATE.md").write_text("mine")
    assert main(["--init"]) == 2
    (tmp_path / "PLANNING.md").unlink()
    assert main(["--init"]) == 0
    assert (tmp_path / "CREATE.md").read_text() == "mine"
    assert (tmp_path / "PLANNING.md").read_text().startswith("---\n")


def test_project_is_written_when_a_scaffold_is_asked_for(tmp_path: Path) -> None:
    assert run(PUBLISHED, str(tmp_path / "out"), "--scaffold", str(tmp_path / "one")) == 0
    initial = str(tmp_path / "out" / "INITIAL.md")
    assert main(["--initial", initial, "--scaffold", str(tmp_path / "two"), "--quiet"]) == 0
    names = [sorted(str(p.relative_to(tmp_path / n)) for p in (tmp_path / n).rglob("*")) for n in ("one", "two")]
    assert names[0] == names[1]
    assert "train.py" in names[0]


def test_project_is_refused_when_nothing_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(EXAMPLE, str(tmp_path / "out"), "--scaffold", str(tmp_path / "one")) == 2
    assert "chooses no framework" in capsys.readouterr().err
    assert (tmp_path / "out" / "INITIAL.md").is_file()
    assert not (tmp_path / "one").exists()


def test_output_is_replaced_only_when_it_is_an_earlier_decision(tmp_path: Path) -> None:
    assert run(PUBLISHED, str(tmp_path / "out")) == 0
    assert run(PUBLISHED, str(tmp_path / "out")) == 0
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert run(PUBLISHED, str(tmp_path / "out")) == 2
    assert (tmp_path / "out" / "mine.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--create, --planning, --output is missing"),
        (["--initial", "x"], "--initial is given without --scaffold"),
        (["--initial", "x", "--scaffold", "y", "--output", "z"], "--initial decides nothing, --output"),
        (["--create", "no", "--planning", "no", "--output", "z"], "there is no no"),
    ],
)
def test_arguments_are_refused_when_they_do_not_go_together(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert told in capsys.readouterr().err
