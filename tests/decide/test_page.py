"""The page of the decision matrix says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from paddle_tk.config.compare_schema import DecideConfig
from paddle_tk.decide.community import load_community
from paddle_tk.decide.formulas import IN_WORDS, TABLES
from paddle_tk.decide.matrix import CRITERIA

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "decision_matrix.md").read_text(encoding="utf-8")


def test_page_shows_every_figure_with_its_weight_and_rule() -> None:
    shown = re.findall(r"^\| (\w+) \| `(\w+)` \| ([\d.]+) \| (\w+)(?:, needs `(\w+)`)? \|$", PAGE, re.M)
    assert [(c, n, float(w), r, needs) for c, n, w, r, needs in shown] == [
        (criterion, f.name, f.weight, f.rule, f.needs) for criterion, figures in TABLES.items() for f in figures
    ]
    assert set(re.findall(r"^\| (\w+) \| .*$", PAGE, re.M)) >= set(IN_WORDS)


def test_page_shows_the_criteria_with_their_default_weights() -> None:
    shown = {c: float(w) for c, w in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.M)}
    assert shown == DecideConfig().weights
    assert tuple(shown) == CRITERIA


def test_the_pages_community_file_can_be_read(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.S)
    assert block
    path = tmp_path / "mine.yaml"
    path.write_text(block[1], encoding="utf-8")
    assert [f.name for f in load_community(path).figures] == ["github_stars", "days_to_first_answer"]
