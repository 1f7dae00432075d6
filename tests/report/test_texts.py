from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from paddle_tk.report import names
from paddle_tk.report.texts import TEXTS, Texts

PACKAGE = Path(names.__file__).parent
HAN = re.compile(r"[\u4e00-\u9fff]")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", sorted(TEXTS))
def test_sentence_says_the_same_when_told_in_either_language(key: str) -> None:
    english, chinese = TEXTS[key]

    assert english
    assert chinese
    assert fields(english) == fields(chinese)
    assert not HAN.search(english)
    assert HAN.search(chinese) or not re.search("[a-z]{3}", english.replace("{", "}").split("}")[0])


@pytest.mark.parametrize("table", [names.FIGURES, names.CRITERIA, names.CURVES, names.ORIGINS])
def test_every_name_has_a_chinese_one(table: dict[str, tuple[str, ...]]) -> None:
    assert all(HAN.search(told[1]) or told[0] == told[1] or "mAP" in told[1] for told in table.values())


def test_every_sentence_is_used_and_every_used_one_exists() -> None:
    files = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".html") and p.name != "texts.py"]
    code = "\n".join(p.read_text(encoding="utf-8") for p in files)
    asked = set(re.findall(r"""\bt\(\s*["']([a-z_]+)["']""", code))
    built = {f"{stem}_{kind}" for stem in ("flip", "change") for kind in ("weight", "score")}

    assert asked <= set(TEXTS)
    assert built <= set(TEXTS)
    told_by_texts = {"yes", "no"}
    assert {k for k in TEXTS if f'"{k}"' not in code and f"'{k}'" not in code} - built - told_by_texts == set()


def test_value_is_told_with_its_unit_when_the_unit_has_a_name() -> None:
    english, chinese = Texts("en"), Texts("zh")

    assert english.value(412.4, "images/s") == "412 images/s"
    assert chinese.value(412.4, "images/s") == "412 张/s"
    assert english.value(0.9722, "share") == "97.2 %"
    assert (english.value(1.0, "0/1"), chinese.value(0.0, "0/1")) == ("yes", "否")
    assert english.value(1.02, "ratio") == "1.02"
    assert english.value(3.0, "stars") == "3 stars"


def test_names_of_the_users_own_are_spelled_out() -> None:
    assert Texts("zh").criterion("vendor_lock_in") == "Vendor lock in"
    assert Texts("en").figure("tokens_per_joule") == "Tokens per joule"
    assert Texts("zh").figure("team_familiarity") == "团队熟悉度"
    assert Texts("en").curve("val_top1_by_time") == "Validation accuracy (top-1) by time"
