"""The loss curve of a finished run, as a person sees it: VisualDL's page in a real, headless Chromium.

Needs the distribution's ``chromium`` and ``chromedriver``. Without them the tests are skipped, and fail where CI=true.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddle_tk.commands.train import main as train
from paddle_tk.training.callbacks.history import read_history
from paddle_tk.training.loggers import LOGGERS, record_scalars

pytestmark = pytest.mark.browser
MONITOR = Path(__file__).resolve().parents[2] / "tools" / "monitor.py"
TAG = "train/loss"
SERIES_COLOUR = (0x29, 0x32, 0xE1)  # of VisualDL's first run
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--window-size=1400,1000",
)
# Runs before the page's own scripts: no smoothing, and every text the charts draw is noted.
NOTE_TEXTS = """
localStorage.setItem('scalar_smoothing', '0');
window.drawnTexts = [];
performance.setResourceTimingBufferSize(10000);  // the page loads some 250 modules, the default size
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.drawnTexts.push(String(text));
    return fillText.call(this, text, ...rest);
};
"""
# The mean height of the series' colour in each column of each chart: [[column, row], ...] per canvas.
READ_LINES = """
const [red, green, blue] = arguments[0];
return [...document.querySelectorAll('canvas')].map(canvas => {
    const {width, height} = canvas;
    const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
    const line = [];
    for (let x = 0; x < width; x++) {
        let sum = 0, count = 0;
        for (let y = 0; y < height; y++) {
            const i = 4 * (y * width + x);
            const far = Math.abs(pixels[i] - red) + Math.abs(pixels[i + 1] - green) + Math.abs(pixels[i + 2] - blue);
            if (pixels[i + 3] > 128 && far < 60) { sum += y; count++; }
        }
        if (count) line.push([x, sum / count]);
    }
    return line;
});
"""
FETCHED = "return performance.getEntriesByType('resource').map(entry => entry.name)"


@dataclass(frozen=True)
class FinishedRun:
    """A run on disk: the folder that holds it, and the loss by step that its history says."""

    root: Path
    losses: dict[int, float]


@dataclass(frozen=True)
class Page:
    """What the scalar page shows once it has settled."""

    texts: list[str]
    lines: list[np.ndarray]
    fetched: list[str]
    curve: list[list[Any]] | None  # [time, step, value], as the page got it


def history() -> list[dict[str, Any]]:
    """40 steps of a loss that falls and trembles, two epochs."""
    losses = {step: 2.3 * math.exp(-step / 12) + 0.05 * math.sin(step) for step in range(1, 41)}
    records: list[dict[str, Any]] = []
    for step, loss in losses.items():
        records.append(
            {
                "kind": "step",
                "epoch": 1 + (step - 1) // 20,
                "step": step,
                "loss": loss,
                "learning_rate": 0.05,
                "images_per_second": 900.0,
            }
        )
        if step % 20 == 0:
            records.append(
                {
                    "kind": "epoch",
                    "epoch": step // 20,
                    "step": step,
                    "train_loss": loss,
                    "train_top1": 0.9,
                    "val_loss": loss,
                    "val_top1": 0.9,
                }
            )
    return records


def log_run(folder: Path, records: list[dict[str, Any]]) -> None:
    sink = LOGGERS.load("visualdl")(folder / "vdl", name=folder.name, config={}, replay=[])
    for record in records:
        sink.scalars(record_scalars(record), record["step"])
    sink.image("val/confusion_matrix", np.full((40, 40, 3), 200, np.uint8), 40)
    sink.close()


@pytest.fixture
def finished_run(tmp_path: Path) -> FinishedRun:
    """A real training from its command, logged at every update."""
    folder = tmp_path / "runs" / "digits"
    quick = ["model=mobilenet_v3_small", "data.batch_size=8", "trainer.max_epochs=2", "trainer.max_retries=0"]
    quick += ["trainer.limit_train_batches=20", "trainer.limit_val_batches=4", "trainer.log_every_n_steps=1"]
    assert train([*quick, "--run-dir", str(folder), "--quiet"]) == 0
    records = read_history(folder / "history.jsonl")
    return FinishedRun(tmp_path / "runs", {r["step"]: r["loss"] for r in records if r["kind"] == "step"})


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
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTE_TEXTS})
    yield browser
    browser.quit()


@pytest.fixture
def monitor() -> Iterator[Callable[[Path], str]]:
    """Starts ``tools/monitor.py`` and returns the page's address; ends it as Ctrl-C does."""
    started: list[subprocess.Popen[str]] = []

    def start(root: Path) -> str:
        command = [sys.executable, str(MONITOR), "--quiet", "--port", "0", "--runs", str(root)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        return found[0]

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def look(driver: Any, url: str, *, settle: Callable[[Page], bool], seconds: float) -> Page:
    """Opens the scalar page, searches the loss and returns what is shown when it has settled or time is up."""
    driver.get(f"{url}/app/scalar")
    deadline = time.monotonic() + seconds
    before: Page | None = None
    while True:
        search(driver, f"^{TAG}$")  # leaves this one chart, whichever group is open
        page = read_page(driver)
        if (settle(page) and before is not None and same_lines(before, page)) or time.monotonic() > deadline:
            return page
        before = page
        time.sleep(0.5)


def same_lines(one: Page, other: Page) -> bool:
    """Whether nothing moved between two looks: a line is drawn from left to right, slowly on a busy machine."""
    pairs = zip(one.lines, other.lines, strict=False)
    return len(one.lines) == len(other.lines) and all(np.array_equal(a, b) for a, b in pairs)


def search(driver: Any, pattern: str) -> None:
    """Types the pattern into the search box, where it does not stand there yet."""
    from selenium.common.exceptions import InvalidElementStateException, StaleElementReferenceException
    from selenium.webdriver.common.by import By

    # The page draws itself anew when data comes: a box may be gone as soon as it was found. The next look tries again.
    with contextlib.suppress(StaleElementReferenceException, InvalidElementStateException):
        for box in driver.find_elements(By.CSS_SELECTOR, "input[placeholder*='RegExp']"):
            if box.get_attribute("value") != pattern:
                box.clear()
                box.send_keys(pattern)


def read_page(driver: Any) -> Page:
    # The lines first: what they were drawn from has then been fetched.
    lines = [np.array(line, dtype=float) for line in driver.execute_script(READ_LINES, SERIES_COLOUR)]
    texts = driver.execute_script("return window.drawnTexts || []")
    fetched = driver.execute_script(FETCHED)
    asked = [url for url in fetched if "/scalar/list?" in url and url.endswith(f"tag={TAG.replace('/', '%2F')}")]
    curve = None
    if asked:
        fetch = "return fetch(arguments[0]).then(answer => answer.json())"
        curve = driver.execute_script(fetch, asked[-1])["data"]
    return Page(texts, lines, fetched, curve)


def shows_curve(page: Page) -> bool:
    """Whether a chart with the loss' title has a line across most of its width."""
    return TAG in page.texts and len(page.lines) == 1 and len(page.lines[0]) > 200


def likeness(line: np.ndarray, losses: dict[int, float]) -> float:
    """Correlation of a drawn line with the losses; a picture's rows count downwards."""
    steps = np.array(sorted(losses))
    first, last = line[0, 0], line[-1, 0]
    at = steps[0] + (line[:, 0] - first) / (last - first) * (steps[-1] - steps[0])
    return float(np.corrcoef(-line[:, 1], np.interp(at, steps, [losses[s] for s in steps]))[0, 1])


def foreign_hosts(driver: Any) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {url for url in urls if url.startswith(("http:", "https:", "ws")) and "//127.0.0.1:" not in url}


def test_page_shows_the_loss_curve_when_a_run_has_finished(
    finished_run: FinishedRun, driver: Any, monitor: Callable[[Path], str]
) -> None:
    page = look(driver, monitor(finished_run.root), settle=shows_curve, seconds=60)
    if path := os.environ.get("PADDLE_TK_SCREENSHOT"):
        driver.save_screenshot(path)

    assert shows_curve(page), (page.texts, [len(line) for line in page.lines])
    assert page.curve is not None
    assert {step: value for _, step, value in page.curve} == pytest.approx(finished_run.losses, rel=1e-6)
    assert len(page.curve) == len(finished_run.losses)
    assert likeness(page.lines[0], finished_run.losses) > 0.99
    assert not foreign_hosts(driver)


@pytest.mark.parametrize("logged", [(), ("learning_rate",)], ids=["no scalar", "another scalar"])
def test_page_shows_no_loss_curve_when_no_loss_was_logged(
    logged: tuple[str, ...], tmp_path: Path, driver: Any, monitor: Callable[[Path], str]
) -> None:
    kept = ("kind", "epoch", "step", *logged)
    records = [{k: r[k] for k in kept} for r in history() if r["kind"] == "step"]
    log_run(tmp_path / "runs" / "digits", records)

    page = look(driver, monitor(tmp_path / "runs"), settle=shows_curve, seconds=6)

    assert not shows_curve(page)
    assert page.curve is None
    assert any("/scalar/tags" in url for url in page.fetched) or not logged  # the page did ask what there is
