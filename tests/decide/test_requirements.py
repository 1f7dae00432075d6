from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.decide.needs import Create, Planning
from paddle_tk.decide.requirements import RequirementsError, known_keys, read_requirements
from paddle_tk.decide.templates import template
from paddle_tk.errors import BadInput
from tests.decide.examples import EXAMPLE, PUBLISHED, example, written


def problems(folder: Path, **changes: Any) -> str:
    with pytest.raises(RequirementsError) as raised:
        example(folder, **changes)
    return "\n".join(raised.value.items)


@pytest.mark.parametrize("source", [EXAMPLE, PUBLISHED], ids=lambda p: p.name)
def test_examples_are_complete_when_shipped(source: Path) -> None:
    found = read_requirements(source / "CREATE.md", source / "PLANNING.md")
    assert found.create_file.prose
    assert found.planning_file.prose
    assert len(found.create_file.sha256) == 64


def test_answers_are_typed_when_read(tmp_path: Path) -> None:
    found = example(tmp_path)
    assert found.create.data.size == (16, 16)
    assert found.create.budget.deadline == date(2027, 3, 31)
    assert found.frameworks == ("paddle", "torch")


@pytest.mark.parametrize("text", ["", "---\n---\n", "# Only prose\n"])
def test_every_answer_is_asked_for_by_name_when_files_are_empty(text: str, tmp_path: Path) -> None:
    paths = [tmp_path / "CREATE.md", tmp_path / "PLANNING.md"]
    for path in paths:
        path.write_text(text)
    with pytest.raises(RequirementsError) as raised:
        read_requirements(*paths)
    items = raised.value.items
    for key in ("project.name", "team.familiarity", "data.images", "accuracy.minimum", "latency[0].maximum_ms",
                "devices", "budget.debug_hours", "budget.deadline"):  # fmt: skip
        assert any(item.startswith(f"CREATE.md: {key} is missing: ") and len(item) > 30 for item in items), key
    for key in ("start", "options", "models[0].name", "training.optimizer", "decisions", "risks[0].action"):
        assert any(item.startswith(f"PLANNING.md: {key} is missing: ") for item in items), key
    assert raised.value.exit_code == 2


def test_blank_answers_are_missing_when_template_is_not_filled_in(tmp_path: Path) -> None:
    for name in ("CREATE.md", "PLANNING.md"):
        (tmp_path / name).write_text(template(name))
    with pytest.raises(RequirementsError) as raised:
        read_requirements(tmp_path / "CREATE.md", tmp_path / "PLANNING.md")
    assert all(" is missing: " in item for item in raised.value.items)
    assert "PLANNING.md: resources.gpus[0].name is missing: as its maker calls it" in raised.value.items


def test_templates_name_every_key_and_are_valid_when_filled(tmp_path: Path) -> None:
    for name, schema in (("CREATE.md", Create), ("PLANNING.md", Planning)):
        text = template(name, filled=True)
        (tmp_path / name).write_text(text)
        for key in known_keys(schema):
            assert f"{key.rsplit('.', 1)[-1]}:" in text
    found = read_requirements(tmp_path / "CREATE.md", tmp_path / "PLANNING.md")
    assert found.planning.resources.gpus[0].memory_gb == 24


def test_all_mistakes_come_at_once_when_there_are_several(tmp_path: Path) -> None:
    found = problems(
        tmp_path, create__accuracy__minimum=95, create__team__siez=3, create__budget__debug_hours=0,
        create__latency=[{"device": "x86-cpu", "percentile": 95, "maximum_ms": 0}], planning__resources__cuda=12.6,
        create__team__familiarity={"paddle": 7, "torch": 1},
    )  # fmt: skip
    assert "CREATE.md: accuracy.minimum should be less than or equal to 1, got 95" in found
    assert "CREATE.md: unknown key 'team.siez', did you mean 'team.size'?" in found
    assert "CREATE.md: budget.debug_hours should be greater than 0, got 0" in found
    assert "CREATE.md: latency[0].maximum_ms should be greater than 0, got 0" in found
    assert "CREATE.md: team.familiarity must be from 0 to 5 or unknown for paddle" in found
    assert "PLANNING.md: resources.cuda should be a valid string, put it in quotes, got 12.6" in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"create__accuracy__metric": "map50"}, "accuracy.metric map50 does not go with task.kind classification"),
        ({"create__data__classes": 1}, "data.classes is 1, a classification needs at least 2"),
        ({"create__data__images": 8}, "fewer than data.classes, 10"),
        ({"create__devices": ["x86-cpu", "jetson-orin-nano", "raspberry-pi-55"]}, "did you mean 'raspberry-pi-5'?"),
        ({"create__devices": ["x86-cpu"]}, "latency[1].device 'jetson-orin-nano' is not among devices (x86-cpu)"),
        ({"create__budget__deadline": date(2026, 1, 1)}, "budget.deadline 2026-01-01 is not after start"),
        ({"create__team__familiarity": {"torch": 4}}, "team.familiarity.paddle is missing"),
        ({"create__team__familiarity": {"torch": 4, "paddle": 3, "tourch": 1}}, "did you mean 'torch'?"),
        ({"planning__resources__people": 9}, "resources.people is 9, more than team.size in CREATE.md, 4"),
        ({"planning__resources__gpus": []}, "resources.cuda is 12.6, but resources.gpus names no GPU"),
        ({"planning__weights": {"performance": 0.5}}, "weights must be 0 or more and sum to 1, they sum to 0.5"),
        ({"planning__scores": {"torch-int8": {"performance": 4}}}, "scores names 'torch-int8', which is not among"),
        ({"planning__scores": {"torch": {"perfomance": 4}}}, "did you mean 'performance'?"),
        ({"planning__training__batch_size": 5000}, "training.batch_size is 5000, more than data.images"),
        ({"planning__versions": {"torch": "2.6.0", "torchvision": "0.15.0"}}, "torchvision 0.15.0 beside torch 2.6.0"),
        ({"planning__versions": {"paddlepaddle-gpu": "2.6.2"}}, "cuda 12.6 beside paddlepaddle-gpu 2.6.2"),
        ({"planning__versions": {"python": "3.13"}}, "python 3.13 beside paddlepaddle 3.3.1"),
        ({"planning__versions": {"numpy": "2.3.4"}}, "in the GPU image, python 3.10 beside numpy 2.3.4"),
        ({"planning__versions": {"cuda": "11.8"}}, "versions.cuda is 11.8 and resources.cuda is 12.6"),
        ({"planning__resources__cuda": "12.4"}, "published for CUDA 11.8, 12.6, 12.9, 13.0"),
        ({"planning__resources__driver": "470.82"}, "driver 470.82 beside cuda 12.6"),
    ],
)  # fmt: skip
def test_contradiction_is_told_when_answers_cannot_all_hold(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    assert expected in problems(tmp_path, **changes)


def test_unknown_familiarity_is_accepted_when_said(tmp_path: Path) -> None:
    found = example(tmp_path, create__team__familiarity={"paddle": "unknown", "torch": 4})
    assert found.create.team.familiarity == {"paddle": None, "torch": 4.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nteam: [\n---\n", "line 2: the front matter is not valid YAML"),
        ("---\nteam: x\n", "does not close it"),
        ("---\n- a\n---\n", "the front matter holds list"),
    ],
)
def test_front_matter_is_refused_when_it_cannot_be_read(text: str, expected: str, tmp_path: Path) -> None:
    create, planning = written(tmp_path)
    create.write_text(text)
    with pytest.raises(BadInput, match=r"CREATE\.md") as raised:
        read_requirements(create, planning)
    assert expected in str(raised.value)


def test_file_is_asked_for_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--init"):
        read_requirements(tmp_path / "CREATE.md", tmp_path / "PLANNING.md")
