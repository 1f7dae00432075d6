from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from paddle_tk.evidence import Evidence, Figure
from paddle_tk.report import ReportFiles, Section, write_report
from paddle_tk.types import Decision, Measurement, Score
from tests.report.sample import OPTIONS, make_decision, make_evidence, no_decision

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> | `[x](javascript:alert(3))` 团队"
NAN = float("nan")


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, ids, texts of links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str, key: str) -> list[str]:
        return [v for name, attrs in self.elements if name == tag and (v := attrs.get(key)) is not None]

    @property
    def ids(self) -> list[str]:
        return [v for _, attrs in self.elements if (v := attrs.get("id")) is not None]


def told(folder: Path, evidence: Evidence | None, decision: Decision | None, **more: object) -> ReportFiles:
    said = {"language": "en", "title": "ResNet-18 on digits", **more}
    return write_report(folder, evidence, decision, **said)  # type: ignore[arg-type]


@pytest.fixture
def evidence() -> Evidence:
    return make_evidence()


def test_report_writes_its_files_when_all_is_there(tmp_path: Path, evidence: Evidence) -> None:
    files = told(tmp_path, evidence, make_decision(evidence))

    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == {
        "report.html", "report.md", "report.json", *(f"plots/{p.name}" for p in files.plots)
    }  # fmt: skip
    assert len(files.plots) == 10


def test_page_says_the_verdict_first_when_an_option_is_chosen(tmp_path: Path, evidence: Evidence) -> None:
    page = told(tmp_path, evidence, make_decision(evidence)).html.read_text(encoding="utf-8")

    sections = re.findall(r'<section id="([a-z_]+)"', page)
    assert sections == ["verdict", "matrix", "comparisons", "curves", "latency", "memory", "sensitivity", "figures",
                        "not_measured", "parity", "environment", "settings", "raw", "repeat"]  # fmt: skip
    verdict = page.split('<section id="verdict">')[1].split("</section>")[0]
    for part in ("Choose PyTorch 2.13.0", "4.075 of 5", "threshold of 3.5", "3.65", "from 3.0 to 4.417", "78.1 %",
                 "nobody stated it"):  # fmt: skip
        assert part in verdict


def test_markdown_stands_in_the_same_order_as_the_page(tmp_path: Path, evidence: Evidence) -> None:
    files = told(tmp_path, evidence, make_decision(evidence), team="Vision")
    text = files.markdown.read_text(encoding="utf-8")

    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Verdict", "Decision matrix", "Comparisons", "Training curves", "Latency distributions",
                        "Memory", "Sensitivity", "All figures", "Not measured", "Parity", "Environment", "Settings",
                        "Repeat it"]  # fmt: skip
    linked = re.findall(r"!\[[^\]]*\]\((plots/[^)]+)\)", text)
    assert [tmp_path / link for link in linked] == list(files.plots)
    assert "| Weighted sum | 100 % | 3.65 | 4.075 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(re.sub(r"\\\|", "", row).count("|") >= 3 for row in rows)


def test_json_holds_the_decision_and_the_figures_without_samples(tmp_path: Path, evidence: Evidence) -> None:
    decision = make_decision(evidence)
    raw = json.loads(told(tmp_path, evidence, decision).json.read_text(encoding="utf-8"))

    assert raw["verdict"]["choice"] == "torch"
    assert {o["name"]: o["score"] for o in raw["verdict"]["options"]} == {
        "torch": 4.075, "paddle": 3.65, "paddle-int8": None
    }  # fmt: skip
    assert raw["matrix"]["weights"] == dict(decision.weights)
    assert len(raw["comparisons"]) == len(evidence.comparisons)
    assert len(raw["figures"]) > len(evidence.figures)  # what else the scores stand on
    assert all("samples" not in f and {"unit", "n", "origin"} <= set(f) for f in raw["figures"])


def test_page_loads_nothing_from_anywhere(tmp_path: Path, evidence: Evidence) -> None:
    text = told(tmp_path, evidence, make_decision(evidence)).html.read_text(encoding="utf-8")
    page = Page(text)

    assert [s for t in ("img", "script", "iframe", "source", "video") for s in page.all(t, "src")] == []
    assert page.all("link", "href") == ["data:,"]
    assert not re.search(r"@import|url\(", text)
    links = page.all("a", "href")
    assert all(link.startswith(("#", "https://github.com/")) for link in links)
    assert set(page.all("a", "rel")) == {"noopener noreferrer"}


def test_policy_allows_this_script_only(tmp_path: Path, evidence: Evidence) -> None:
    text = told(tmp_path, evidence, make_decision(evidence)).html.read_text(encoding="utf-8")

    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r"<[^>]+\son[a-z]+=", text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_anchor_leads_somewhere_and_every_id_is_unique(tmp_path: Path, evidence: Evidence, language: str) -> None:
    files = told(tmp_path, evidence, make_decision(evidence), language=language, extra=[Section("检查 checklist")])
    page = Page(files.html.read_text(encoding="utf-8"))

    assert len(page.ids) == len(set(page.ids))
    anchors = [a[1:] for a in page.all("a", "href") if a.startswith("#")]
    assert set(anchors) <= set(page.ids)
    scores = [i for i in page.ids if i.startswith("score-")]
    assert len(scores) == 12
    assert {a for a in anchors if a.startswith("score-")} == set(scores)


def test_scores_link_to_the_figures_they_stand_on(tmp_path: Path, evidence: Evidence) -> None:
    text = told(tmp_path, evidence, make_decision(evidence)).html.read_text(encoding="utf-8")

    row = text.split('id="score-3-1"')[1].split("</tr>")[0]  # performance of torch
    anchors = re.findall(r'href="#(figure-\d+)">([^<]+)<', row)
    assert [title for _, title in anchors] == ["Training throughput", "Inference latency", "Peak memory, inference"]
    throughput = text.split(f'<tr id="{anchors[0][0]}">')[1].split("</tr>")[0]
    assert "PyTorch 2.13.0" in throughput
    assert "images/s" in throughput
    assert '<span class="badge measured">measured</span>' in throughput


def test_what_was_stated_for_two_options_is_shown_for_both(tmp_path: Path, evidence: Evidence) -> None:
    stated = Measurement("team_familiarity", 3.0, "score", 1, "stated by the user", device="")
    scores = tuple(Score(o.name, "team_familiarity", 3.0, 3.0, 3.0, "3", (stated,)) for o in evidence.options)
    files = told(tmp_path, evidence, make_decision(evidence, scores=scores))

    text = files.html.read_text(encoding="utf-8").split('<section id="figures">')[1].split("Team familiarity")[1]
    found = re.findall(r"<tr id=\"figure-\d+\"><th[^>]*>.*?</svg>([^<]+)</th>", text.split("</tbody>")[0])
    assert found == [o.label for o in evidence.options]


def test_what_a_user_wrote_is_text_when_it_looks_like_markup(tmp_path: Path) -> None:
    options = (replace(OPTIONS[0], label=EVIL), OPTIONS[1])
    evidence = replace(make_evidence(options), settings={EVIL: EVIL}, command=f"run {EVIL}")
    extra = [Section(EVIL, (EVIL,), (EVIL,), ((EVIL,),))]
    decision = no_decision(reason=EVIL)
    files = told(tmp_path, evidence, decision, title=EVIL, team=EVIL, extra=extra)

    page = files.html.read_text(encoding="utf-8")
    tags = {tag for tag, _ in Page(page).elements}
    assert "img" not in tags
    assert len(re.findall("<script", page)) == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    markdown = files.markdown.read_text(encoding="utf-8")
    prose = re.sub(r"(?ms)^(`{3,})sh\n.*?^\1$", "", markdown)
    assert not re.search(r"(?<!\\)<(?!https?://)", prose)
    assert "](javascript" not in prose.replace("\\]", "")
    for path in files.plots:
        assert "<script" not in path.read_text(encoding="utf-8")


def test_links_are_made_of_addresses_only(tmp_path: Path) -> None:
    rows = (("javascript:alert(1)", "javascript:alert(1)"), ("a", 'https://example.org/a?b=<c>"d'))
    page = Page(told(tmp_path, None, None, extra=[Section("S", (), ("k", "v"), rows)]).html.read_text(encoding="utf-8"))

    links = [a for a in page.all("a", "href") if not a.startswith("#")]
    assert links == ['https://example.org/a?b=<c>"d']


def test_raw_samples_are_all_in_the_page(tmp_path: Path, evidence: Evidence) -> None:
    odd = Figure("paddle", Measurement("odd", 1.0, "</script>", 2, "measured", (1.0, NAN)))
    evidence = replace(evidence, figures=(*evidence.figures, odd))
    text = told(tmp_path, evidence, None).html.read_text(encoding="utf-8")

    data = text.split('<script type="application/json" id="samples">')[1].split("</script>")[0]
    raw = json.loads(data)
    assert not set(data) & set("<>&")
    assert len(raw["figures"]) == len(evidence.figures)
    for wrote, had in zip(raw["figures"][:-1], evidence.figures, strict=False):
        assert (wrote["option"], wrote["figure"], wrote["samples"]) == (
            had.option, had.measurement.name, list(had.measurement.samples)
        )  # fmt: skip
    assert raw["figures"][-1]["samples"] == [1.0, None]
    assert len(raw["curves"]) == len(evidence.curves)


def test_page_gives_no_verdict_when_there_is_no_choice(tmp_path: Path, evidence: Evidence) -> None:
    files = told(tmp_path, evidence, no_decision("Nothing passes."))

    for path in (files.html, files.markdown):
        text = path.read_text(encoding="utf-8")
        assert "No verdict" in text
        assert "Nothing passes." in text
        assert "Choose" not in text
    assert json.loads(files.json.read_text(encoding="utf-8"))["verdict"]["choice"] is None


def test_page_shows_measurements_only_when_nothing_was_decided(tmp_path: Path, evidence: Evidence) -> None:
    text = told(tmp_path, evidence, None).html.read_text(encoding="utf-8")

    assert "Measurements only" in text
    assert "Choose" not in text
    assert 'id="matrix"' not in text


def test_page_shows_the_decision_when_nothing_was_measured(tmp_path: Path) -> None:
    checks = Section("Acceptance checklist", ("Asked for.",), ("Check", "State"), (("p95 < 50 ms", "not measured"),))
    text = told(tmp_path, None, make_decision(), extra=[checks]).html.read_text(encoding="utf-8")

    assert "Choose PyTorch 2.13.0" in text
    assert re.findall(r'<section id="([a-z_0-9-]+)"', text) == [
        "verdict",
        "extra-1",
        "matrix",
        "sensitivity",
        "figures",
    ]
    assert "p95 &lt; 50 ms" in text


@pytest.mark.parametrize("count", [1, 2, 4])
def test_report_is_whole_when_there_are_one_to_four_options(tmp_path: Path, count: int) -> None:
    evidence = make_evidence(OPTIONS[:count])
    text = told(tmp_path, evidence, None).html.read_text(encoding="utf-8")

    for option in evidence.options:
        assert option.label in text
    assert len(re.findall(r'<tr id="figure-\d+">', text)) == len(evidence.figures)


def test_report_is_whole_when_figures_are_missing_or_not_numbers(tmp_path: Path) -> None:
    evidence = make_evidence(OPTIONS[:2])
    no_number = Figure("torch", Measurement("final_accuracy", NAN, "share", 0, "measured"))
    no_ratio = replace(evidence.comparisons[0], ratio=NAN, low=NAN, high=NAN)
    lost = replace(evidence, figures=(no_number,), curves=(), comparisons=(no_ratio,))
    files = told(tmp_path, lost, None)

    assert "NaN" in files.html.read_text(encoding="utf-8")
    assert json.loads(files.json.read_text(encoding="utf-8"))["figures"][0]["value"] is None
    assert files.plots == ()


def test_conditions_that_all_share_are_told_once(tmp_path: Path, evidence: Evidence) -> None:
    text = told(tmp_path, evidence, None).html.read_text(encoding="utf-8")

    assert text.count("threads 2") == len({f.measurement.name for f in evidence.figures})


def test_chinese_report_speaks_chinese_when_asked(tmp_path: Path, evidence: Evidence) -> None:
    files = told(tmp_path, evidence, make_decision(evidence), language="zh", title="", team="视觉组")

    for path in (files.html, files.markdown):
        text = path.read_text(encoding="utf-8")
        for part in (
            "深度学习框架对比报告",
            "推荐 PyTorch 2.13.0",
            "决策矩阵",
            "敏感性分析",
            "训练吞吐",
            "推理时延",
            "实测",
            "视觉组",
        ):
            assert part in text
    html = files.html.read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in html
    assert not re.search(r"<h[123]>[A-Za-z ]+</h[123]>", html)


def test_report_is_the_same_when_written_twice(tmp_path: Path, evidence: Evidence) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (told(tmp_path / n, evidence, make_decision(evidence)) for n in "ab")

    assert one.html.read_bytes() == other.html.read_bytes()
    assert one.markdown.read_bytes() == other.markdown.read_bytes()


def test_section_refuses_rows_that_do_not_fit_its_columns() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Section("S", (), ("a", "b"), (("1",),))
