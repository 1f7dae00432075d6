"""The report as a person sees it: report.html opened from disk in a real, headless Chromium.

Needs the distribution's ``chromium`` and ``chromedriver``. Without them the tests are skipped, and fail where CI=true.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddle_tk.evidence import Evidence
from paddle_tk.report import write_report
from tests.report.sample import OPTIONS, make_decision, make_evidence

pytestmark = pytest.mark.browser
TEAM = "Vision <script>alert(1)</script> & <b>friends</b>"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--window-size=1280,1000",
)
# Every drawing that is shown: its size, its marks that have a size, and texts that leave it.
DRAWINGS = """
return [...document.querySelectorAll('figure svg')].filter(svg => svg.getClientRects().length).map(svg => {
    const box = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll('.bar, .possible, .mark, .equal, .curve, .bin, .dot, .quantile, .interval')];
    const sized = marks.filter(mark => { const b = mark.getBoundingClientRect(); return b.width + b.height > 0; });
    const out = [...svg.querySelectorAll('text')].filter(text => {
        const b = text.getBoundingClientRect();
        return b.left < box.left - 2 || b.right > box.right + 2 || b.top < box.top - 2 || b.bottom > box.bottom + 2;
    });
    return {
        name: svg.closest('figure').id, width: box.width, height: box.height,
        marks: sized.length, out: out.map(text => text.textContent),
    };
});
"""
# The smallest text on the page, in px on the screen: that of drawings shrinks with them.
SMALLEST_TEXT = """
let least = [1e9, ''];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !parent.getClientRects().length || parent.closest('script')) continue;
    if (parent.tagName === 'title' || parent.tagName === 'desc') continue;
    const scale = parent.ownerSVGElement ? parent.getScreenCTM().a : 1;
    const size = parseFloat(getComputedStyle(parent).fontSize) * scale;
    if (size < least[0]) least = [size, walker.currentNode.data.trim()];
}
return least;
"""
COLOURS = """
const bar = [...document.querySelectorAll('figure svg .bar')].find(b => b.getClientRects().length);
const body = getComputedStyle(document.body);
return [body.backgroundColor, body.color, getComputedStyle(bar).fill];
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        reason = "no chromium with chromedriver on this machine (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    webdriver = pytest.importorskip("selenium.webdriver")
    monkeypatch.setenv("no_proxy", "*")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield browser
    browser.quit()


@pytest.fixture
def evidence() -> Evidence:
    return make_evidence()


@pytest.fixture
def page(evidence: Evidence, tmp_path: Path) -> str:
    folder = tmp_path / "report"
    folder.mkdir()
    decision = make_decision(evidence)
    files = write_report(folder, evidence, decision, language="en", title="ResNet-18 on digits", team=TEAM)
    return files.html.as_uri()


def resize(driver: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(driver: Any, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def requested(driver: Any, page: str) -> list[str]:
    """What the page asked for; Chromium's own first tab asks for its parts too."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one["documentURL"].startswith(page)]


def dialog_is_open(driver: Any) -> bool:
    from selenium.common.exceptions import NoAlertPresentException

    try:
        driver.switch_to.alert.accept()
    except NoAlertPresentException:
        return False
    return True


@pytest.mark.parametrize("width", [1280, 700, 400])
def test_every_figure_is_drawn_when_the_page_is_of_any_width(driver: Any, page: str, width: int) -> None:
    resize(driver, width)
    driver.get(page)
    if path := os.environ.get("PADDLE_TK_SCREENSHOT"):
        driver.save_screenshot(path)

    found = driver.execute_script(DRAWINGS)
    assert [one["name"] for one in found] == [
        "chart-sums", "chart-scores", "chart-ratios", "chart-curve-train-loss", "chart-curve-val-top1",
        "chart-curve-val-top1-by-time", "chart-inference-latency", "chart-onnx-latency", "chart-memory",
        "chart-win-shares",
    ]  # fmt: skip
    for one in found:
        assert one["width"] >= 280, one
        assert one["height"] >= 60, one
        assert one["marks"] >= 2, one
        assert one["out"] == [], one


def test_page_asks_for_nothing_and_logs_no_error_when_it_is_opened(driver: Any, page: str) -> None:
    driver.get(page)
    driver.execute_script("document.getElementById('theme').click()")

    urls = requested(driver, page)
    assert page in urls
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert not dialog_is_open(driver)


def test_page_is_readable_when_it_is_400_px_wide(driver: Any, page: str) -> None:
    resize(driver, 400)
    driver.get(page)

    assert driver.execute_script("return document.documentElement.scrollWidth") <= 400
    assert driver.execute_script("return document.body.scrollWidth") <= 400
    size, text = driver.execute_script(SMALLEST_TEXT)
    assert size >= 12, text


def test_colours_change_when_dark_is_preferred_or_chosen(driver: Any, page: str) -> None:
    prefer(driver, "light")
    driver.get(page)
    light = driver.execute_script(COLOURS)
    prefer(driver, "dark")
    dark = driver.execute_script(COLOURS)
    driver.execute_script("document.getElementById('theme').click()")
    chosen_light = driver.execute_script(COLOURS)
    driver.execute_script("document.getElementById('theme').click()")

    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert chosen_light == light
    assert driver.execute_script(COLOURS) == dark


def test_markup_in_a_team_name_is_text_when_the_page_is_shown(driver: Any, page: str) -> None:
    driver.get(page)

    assert not dialog_is_open(driver)
    assert TEAM in driver.execute_script("return document.querySelector('header').innerText")
    assert driver.execute_script("return document.querySelectorAll('header script, header b').length") == 0


def test_buttons_hand_out_every_raw_sample(driver: Any, page: str, evidence: Evidence, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    driver.get(page)
    for button in ("json", "csv"):
        driver.execute_script(f"document.querySelector('[data-download={button}]').click()")
        awaited(folder / f"samples.{button}")

    samples = {(f.option, f.measurement.name): list(f.measurement.samples) for f in evidence.figures}
    told = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["figures"]
    assert {(f["option"], f["figure"]): f["samples"] for f in told} == samples
    with (folder / "samples.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(r["value"]) for r in rows] == [value for values in samples.values() for value in values]


def awaited(path: Path, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not path.is_file() or list(path.parent.glob("*.crdownload")):
        assert time.monotonic() < deadline, f"{path} was not handed out"
        time.sleep(0.1)


def test_page_is_whole_when_scripts_are_off(driver: Any, page: str) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(page)
    document = driver.execute_cdp_cmd("DOM.getDocument", {})["root"]["nodeId"]

    def count(selector: str) -> int:
        found = driver.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": document, "selector": selector})
        return len(found["nodeIds"])

    assert count("html.js") == 0
    assert count("figure svg") == 20
    assert count("details .samples") == len(make_evidence().figures)


@pytest.mark.parametrize("count", [1, 4])
def test_drawings_hold_their_texts_when_options_are_many_or_one(driver: Any, tmp_path: Path, count: int) -> None:
    found = make_evidence(OPTIONS[:count])
    files = write_report(tmp_path, found, None, language="zh", title="对比")
    driver.get(files.html.as_uri())

    for one in driver.execute_script(DRAWINGS):
        assert one["marks"] >= 1, one
        assert one["out"] == [], one
