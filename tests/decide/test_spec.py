from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddle_tk.decide.markdown import md, quote, table
from paddle_tk.decide.project import DatasetSpec, ProjectSpec, front_matter, read_project
from paddle_tk.errors import BadInput
from paddle_tk.evidence import Evidence
from paddle_tk.pipelines.decide_spec import Measured, Weighing, write_decision
from tests.decide.examples import evidence, example

SECTIONS = ("Summary and choice", "Options and scores", "Framework and versions", "Hardware", "Benchmarks", "Risks",
            "Acceptance checklist", "Resources", "Decisions", "In the team's words", "How to repeat it")  # fmt: skip
HOW = Weighing({"team_familiarity": 0.3, "deployment_ease": 0.25, "performance": 0.25, "community": 0.2},
               3.5, {}, None, 200, 0)  # fmt: skip


def initial(folder: Path, found: Evidence | None, **changes: Any) -> str:
    out = folder / "out"
    out.mkdir()
    measured = Measured(found, b"{}") if found is not None else None
    requirements = example(folder, **changes)
    write_decision(out, requirements, measured, HOW, language="en", title="", commands=["python tools/decide.py"])
    return (out / "INITIAL.md").read_text(encoding="utf-8")


def empty_tables(text: str) -> list[str]:
    return re.findall(r"^\|(?: --- \|)+\n(?!\|)", text, re.MULTILINE)


@pytest.mark.parametrize("found", [None, evidence()], ids=["nothing measured", "measured"])
def test_initial_is_complete_when_written_from_the_example(found: Evidence | None, tmp_path: Path) -> None:
    text = initial(tmp_path, found)
    for section in SECTIONS:
        assert f"\n## {section}\n\n" in text
    assert not re.search(r"\bNone\b|\bnan\b", text)
    assert empty_tables(text) == []
    for row in re.findall(r"^\| .*$", text, re.MULTILINE):
        assert row.endswith(" |")
    for wanted in ("pictures of customers do not leave the house", "The Jetson's TensorRT refuses a layer.",
                   "> A technician photographs a meter", "CPU, virtual environment", "GPU, Docker image",
                   "stated by the user", "525.60.13", "12288 MB", "CREATE.md | "):  # fmt: skip
        assert wanted in text, wanted


def test_initial_tells_figures_with_unit_count_and_origin_when_measured(tmp_path: Path) -> None:
    text = initial(tmp_path, evidence())
    assert "| paddle | final\\_accuracy | 0.97 | share | 60 | measured | cpu |" in text
    assert "| paddle | gpu\\_utilisation | no GPU |" in text
    assert "resnet18 on digits" in text
    assert "measurements.json | " in text


def test_project_is_read_back_when_initial_has_a_choice(tmp_path: Path) -> None:
    text = initial(tmp_path, evidence({"torch.final_accuracy": 0.99}), planning__versions={"onnxruntime": "1.23.2"})
    spec = read_project(tmp_path / "out" / "INITIAL.md")
    assert spec.framework in ("paddle", "torch")
    assert (spec.name, spec.model, spec.dataset) == ("digit-reader", "resnet18", DatasetSpec("digits", 10, (16, 16)))
    assert (spec.batch_size, spec.epochs, spec.learning_rate) == (32, 20, 0.001)
    assert spec.versions["venv"]["python"] == "3.11"
    assert spec.versions["venv"]["onnxruntime"] == "1.23.2"
    assert spec.versions["docker"]["cuda"] == "12.6"
    assert re.fullmatch(r"[\d.]+", spec.versions["docker"]["driver"])
    assert len(spec.initial_sha256) == 64
    assert "## Framework and versions" in text


def test_project_is_refused_when_nothing_was_chosen(tmp_path: Path) -> None:
    initial(tmp_path, None)
    with pytest.raises(BadInput, match="chooses no framework"):
        read_project(tmp_path / "out" / "INITIAL.md")


@pytest.mark.parametrize("head", ["", "---\nproject: 3\n---\n", "---\nproject: {name: a b}\n---\n"])
def test_project_is_refused_when_head_is_not_ours(head: str, tmp_path: Path) -> None:
    path = tmp_path / "INITIAL.md"
    path.write_text(head)
    with pytest.raises(BadInput, match="no project to build from"):
        read_project(path)


def test_script_stays_text_when_a_user_writes_one(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | x"
    text = initial(
        tmp_path, None, create__team__name=evil, create__task__goal=evil, planning__decisions=[evil],
        planning__risks=[{"risk": evil, "likelihood": "low", "action": evil}],
    )  # fmt: skip
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt; \\| x") >= 4
    assert yaml.safe_load(text.split("---\n")[1])["project"]["team"] == evil
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_front_matter_holds_any_text_when_read_back() -> None:
    values = {"team": "a <b> & `c` \"d\" 'e': # ---\n第三线", "project": {"x": [1, None, "2.10"]}}
    text = front_matter(values)
    assert yaml.safe_load(text.removeprefix("---\n").removesuffix("---\n")) == values
    assert not set("<>&`") & set(text)


def test_markdown_shows_text_as_written_when_it_looks_like_markup() -> None:
    assert md("a|b *c* [d](e) `f`\n# g") == r"a\|b \*c\* \[d\](e) \`f\` \# g"
    assert quote("# Head\n<b>[x](javascript:y)") == "> # Head\n> &lt;b&gt;\\[x\\](javascript:y)"
    assert table(("a", "b"), [("1|2", 3)]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"


def test_project_spec_gives_json_types_when_asked() -> None:
    spec = ProjectSpec("p", "classification", "torch", "resnet18", DatasetSpec("digits", 10, (16, 16)), 8, 1, 0.1)
    assert spec.to_dict()["dataset"] == {"name": "digits", "num_classes": 10, "image_size": [16, 16]}
