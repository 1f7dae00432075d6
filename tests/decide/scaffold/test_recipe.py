import pytest

from paddle_tk.decide.scaffold import recipe_lines
from paddle_tk.decide.scaffold.recipe import code_lines
from paddle_tk.decide.scaffold.write import rendered
from paddle_tk.errors import BadInput
from tests.decide.scaffold.projects import FRAMEWORKS, project

SOURCE = '''"""A docstring
of two lines."""

import os  # counted


def f(
    a,
):
    """Not counted."""
    # not counted
    text = """counted

    counted, with the blank line in it"""

    return text
'''


def test_code_lines_leaves_out_blank_lines_comments_and_docstrings() -> None:
    assert code_lines(SOURCE) == 1 + 3 + 3 + 1


def test_code_lines_counts_texts_that_are_no_docstrings_when_they_stand_alone() -> None:
    assert code_lines('x = 1\n"not a docstring"\n') == 2
    assert code_lines("") == 0
    assert code_lines('class A:\n    """Only a docstring."""\n') == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_recipe_lines_is_the_sum_over_the_files_that_train_and_evaluate(framework: str) -> None:
    found = recipe_lines(framework)
    assert (found.name, found.unit, found.origin) == ("recipe_lines", "lines", "measured")
    files = found.conditions["files"]
    assert {"train.py", "eval.py", "model.py"} < set(files)
    assert not {"data.py", "settings.py", "export.py"} & set(files)
    assert found.value == sum(found.samples) == sum(files.values())
    assert found.n == len(files)
    project_files = rendered(project(framework))
    assert {name: code_lines(project_files[name]) for name in files} == files


def test_recipe_lines_leaves_out_networks_that_are_only_written_out() -> None:
    paddle, torch = recipe_lines("paddle"), recipe_lines("torch")
    assert paddle.conditions["network_definitions"] == 0
    assert torch.conditions["network_definitions"] > 50
    assert "networks.py" not in torch.conditions["files"]


def test_recipe_lines_refuses_another_framework() -> None:
    with pytest.raises(BadInput, match="jax"):
        recipe_lines("jax")
