"""The pages say what the code does: every config key and default, the same commands in both READMEs, no gaps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from paddle_tk.commands import COMMANDS
from paddle_tk.config.load import all_fields
from paddle_tk.config.schema import Config

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _defaults() -> list[tuple[str, object]]:
    tree = Config().model_dump(mode="json")
    found = []
    for key in all_fields(Config):
        value: object = tree
        for part in key.split("."):
            value = value[part]  # type: ignore[index]
        if key not in tree or not isinstance(value, dict):
            found.append((key, value))
    return found


@pytest.mark.parametrize(("key", "default"), _defaults())
def test_config_page_names_every_key_with_its_default(key: str, default: object) -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    pattern = re.compile(rf"\| `{re.escape(key)}`( \*)? \|")
    row = next((line for line in page.splitlines() if pattern.match(line)), "")
    assert row, f"docs/config.md does not name {key}"
    shown = row.split("|")[2].strip().strip("`")
    try:
        assert json.loads(shown) == default
    except ValueError:
        assert shown == _cell(default)


def test_config_page_names_no_key_that_does_not_exist() -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:model|data|trainer|quantize|compare|decide|report)\.\w+)`(?: \*)? \|", page, re.M)
    aliases = {"trainer.batch_size", "trainer.num_workers"}
    assert set(rows) <= set(all_fields(Config)) | aliases


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page_has_no_unfilled_figure_and_its_pictures_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _commands(path: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_both_readmes_give_the_same_commands() -> None:
    assert _commands(ROOT / "README.md") == _commands(ROOT / "README_zh.md")


def test_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [c for c in COMMANDS if f"tools/{c}.py" not in text]
